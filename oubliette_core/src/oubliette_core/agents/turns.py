"""Following the work on a message, whichever process drives the session: what happened stands in the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.services.records import EventKind, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oubliette_core.models import Cancel
    from oubliette_core.services.events import EventLog
    from oubliette_core.services.records import Event, Session
    from oubliette_core.services.sessions import Sessions

__all__ = ["Follower", "Turn"]

_POLL = 0.1
_LONGEST_TEXT = 256 * 1024


@attrs.frozen(kw_only=True)
class Turn:
    """How far an agent is with a message.

    :param number: of the event that began it. :param last: number of the last event that was seen.
    :param stop_reason: ``end_turn``, ``cancelled``, ``max_tokens``, ``max_turn_requests``, ``refusal``; ``failed`` when
        it ended by an error; empty while it goes on.
    :param text: what the agent said; of a very long one, the end. :param usage: tokens, where the agent says.
    :param detail: why it ended, where there is something to say.
    """

    session: Session
    number: int
    last: int
    stop_reason: str = ""
    text: str = ""
    usage: dict[str, int] = attrs.field(factory=dict)
    detail: str = ""

    @property
    def over(self) -> bool:
        """Whether the agent is done with the message."""
        return bool(self.stop_reason)


class Follower:
    """Reads events as they come.

    :param wait: waits until something may be new or so many seconds have passed; ends early when cancelled.
    """

    def __init__(
        self,
        sessions: Sessions,
        events: EventLog,
        wait: Callable[[str, Callable[[], bool], float, Cancel | None], bool],
    ) -> None:
        self._sessions = sessions
        self._events = events
        self._wait = wait

    def events(
        self, session_id: str, after: int, *, wait: float = 0.0, limit: int = 1000, cancel: Cancel | None = None
    ) -> tuple[Event, ...]:
        """Return the events after a number.

        :param wait: seconds to wait for the first of them; not when the session is over.
        """
        return self._next(session_id, after, (), wait=wait, limit=limit, cancel=cancel)

    def _next(
        self,
        session_id: str,
        after: int,
        states: tuple[SessionState, ...],
        *,
        wait: float,
        limit: int = 1000,
        cancel: Cancel | None,
    ) -> tuple[Event, ...]:
        """Return the next events; none once the session is over or in one of these states, or time has run out."""
        found: tuple[Event, ...] = ()

        def ready() -> bool:
            nonlocal found
            session = self._sessions.get(session_id)
            found = self._events.read(session_id, after, limit=limit)
            return bool(found) or session.over or session.state in states

        if not ready() and wait > 0:
            self._wait(session_id, ready, wait, cancel)
        return found

    def turn(
        self,
        session_id: str,
        number: int,
        *,
        after: int,
        wait: float,
        watch: Callable[[Event], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Turn:
        """Follow a turn until it is over, the agent waits for an answer, or ``wait`` seconds have passed.

        :param after: events up to this number were seen before. :param watch: called with each that is new.
        """
        deadline = time.monotonic() + wait
        turn = Turn(session=self._sessions.get(session_id), number=number, last=after)
        while True:
            left = max(0.0, deadline - time.monotonic())
            found = self._next(session_id, turn.last, (SessionState.WAITING,), wait=left, cancel=cancel)
            session = self._sessions.get(session_id)
            # What happened before the state that was seen just now.
            found = found or self._events.read(session_id, turn.last)
            turn = attrs.evolve(_advanced(turn, found, watch), session=session)
            if turn.over or (cancel is not None and cancel.cancelled):
                return turn
            if found:
                continue
            if session.over:
                return attrs.evolve(turn, stop_reason="failed", detail=session.detail)
            if session.state is SessionState.WAITING or time.monotonic() >= deadline:
                return turn


def _advanced(turn: Turn, events: Iterable[Event], watch: Callable[[Event], None] | None) -> Turn:
    for event in events:
        if watch is not None:
            watch(event)
        turn = attrs.evolve(turn, last=event.number, **_news(turn, event))
        if turn.over:
            break
    return turn


def _news(turn: Turn, event: Event) -> dict[str, Any]:
    data = event.data
    if event.kind is EventKind.MESSAGE:
        return {"text": (turn.text + data["text"])[-_LONGEST_TEXT:]}
    if data.get("turn") != turn.number:
        return {}
    if event.kind is EventKind.COMPLETION:
        usage = dict(data.get("usage", {}))
        return {"stop_reason": data["stop_reason"], "usage": usage, "detail": data.get("detail", "")}
    if event.kind is EventKind.ERROR:
        return {"stop_reason": "failed", "detail": data["message"]}
    return {}
