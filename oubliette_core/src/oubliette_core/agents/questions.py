"""What an agent asks before it goes on, until somebody has answered."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import acp
import attrs

from oubliette_core.agents.autonomy import answer_for
from oubliette_core.agents.updates import question_of
from oubliette_core.errors import ConflictError, InvalidValueError
from oubliette_core.services.records import EventKind, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.agents.journal import Journal

__all__ = ["Questions"]

_MOST = 16


@attrs.define(kw_only=True, eq=False)
class _Asked:
    question: Question
    answer: asyncio.Future[str | None]
    settled: asyncio.Event = attrs.field(factory=asyncio.Event)


class Questions:
    """The questions of one session that wait for an answer. To be used in one event loop.

    :param autonomy: what is answered by itself. :param on_change: called when one is asked or answered.
    """

    def __init__(self, session_id: str, autonomy: str, journal: Journal, on_change: Callable[[], None]) -> None:
        self._session_id = session_id
        self._autonomy = autonomy
        self._journal = journal
        self._on_change = on_change
        self._asked: dict[str, _Asked] = {}

    @property
    def open(self) -> tuple[Question, ...]:
        """Those that wait."""
        return tuple(asked.question for asked in self._asked.values())

    async def ask(self, turn: int, tool_call: Any, options: list[Any]) -> str | None:
        """Return the id of the option that somebody chose, or None when the question was dropped.

        What the user's choice of autonomy answers is only written down.
        """
        if len(self._asked) >= _MOST:
            raise acp.RequestError.internal_error({"details": "too many questions at once"})
        redact = self._journal.redact
        question = question_of(self._journal.next, tool_call, options)
        question = attrs.evolve(question, title=redact(question.title), detail=redact(question.detail))
        data = {"turn": turn, "question": attrs.asdict(question)}
        automatic = answer_for(self._autonomy, question)
        if automatic is not None:
            self._journal.event(EventKind.PERMISSION, {**data, "answer": automatic, "by": "autonomy"})
            return automatic
        asked = self._asked[question.id] = _Asked(question=question, answer=asyncio.get_running_loop().create_future())
        self._journal.event(EventKind.PERMISSION, data)
        self._on_change()
        try:
            answer = await asked.answer
        except asyncio.CancelledError:  # the connection was closed
            del self._asked[question.id]
            asked.settled.set()
            raise
        del self._asked[question.id]
        by = "cancel" if answer is None else "user"
        self._journal.event(EventKind.PERMISSION, {**data, "answer": answer, "by": by})
        self._on_change()
        asked.settled.set()
        return answer

    async def answer(self, question_id: str, option: str) -> None:
        """Answer one; what follows from it is recorded when this returns.

        :raises ConflictError: it is not asked, or not any more. :raises InvalidValueError: it has no such answer.
        """
        asked = self._asked.get(question_id)
        if asked is None or asked.answer.done():
            raise ConflictError(
                f"session {self._session_id} does not ask {question_id!r:.60} (any more)",
                subject=self._session_id,
                hint="Look at what it asks now.",
            )
        options = [each.id for each in asked.question.options]
        if option not in options:
            raise InvalidValueError(
                f"{option!r:.80} is no answer to {question_id}; there are: {', '.join(options)}",
                value=f"{option!r:.80}",
            )
        asked.answer.set_result(option)
        await asked.settled.wait()

    async def drop(self) -> None:
        """Let all that wait go unanswered: what they are about is given up. It is recorded when this returns."""
        dropped = list(self._asked.values())
        for asked in dropped:
            if not asked.answer.done():
                asked.answer.set_result(None)
        for asked in dropped:
            await asked.settled.wait()
