"""The record of one session, as it is made by the process that drives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oubliette_core.agents.stream import TextStream
from oubliette_core.services.ids import now
from oubliette_core.services.records import Event, EventKind
from oubliette_core.services.sessions import StateChange

if TYPE_CHECKING:
    import asyncio

    from oubliette_core.agents.recorder import Recorder
    from oubliette_core.config.redaction import Redactor
    from oubliette_core.services.records import Question, SessionState

__all__ = ["Journal"]


class Journal:
    """Numbers what happens in a session and has it written down, without secrets. To be used in one event loop.

    :param first: number of the next event.
    """

    def __init__(
        self,
        session_id: str,
        recorder: Recorder,
        redact: Redactor,
        loop: asyncio.AbstractEventLoop,
        *,
        first: int,
    ) -> None:
        self.redact = redact
        self.next = first
        self._session_id = session_id
        self._recorder = recorder
        self._stream = TextStream(loop, redact, self._add_text)

    def text(self, kind: EventKind, part: str) -> None:
        """Record a part of a text, which is gathered with others for a moment."""
        self._stream.add(kind, part)

    def event(self, kind: EventKind, data: dict[str, Any]) -> int:
        """Record an event; returns its number."""
        self._stream.end()
        return self._add(kind, data)

    def state(
        self,
        state: SessionState,
        detail: str = "",
        questions: tuple[Question, ...] = (),
        *,
        over_for_good: bool = False,
    ) -> None:
        """Record how far the session is."""
        self._stream.end()
        change = StateChange(
            session_id=self._session_id,
            state=state,
            detail=self.redact(detail),
            questions=questions,
            over_for_good=over_for_good,
        )
        self._recorder.add(change)

    def _add_text(self, kind: EventKind, text: str) -> None:
        self._add(kind, {"text": text})

    def _add(self, kind: EventKind, data: dict[str, Any]) -> int:
        number = self.next
        self.next += 1
        data = self.redact.within(data)
        self._recorder.add(Event(session_id=self._session_id, number=number, kind=kind, created_at=now(), data=data))
        return number
