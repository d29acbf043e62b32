"""What the tools for agent sessions give back."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import Field

from oubliette_core.agents.turns import Turn
from oubliette_core.agents.words import question_in_words, usage_in_words, words_of
from oubliette_core.server.toolbox import Result
from oubliette_core.services.records import Event, Question, Session


class OptionView(Result):
    """An answer that an agent offers."""

    id: str
    name: str
    kind: str = Field(description="allow_once, allow_always, reject_once or reject_always.")


class QuestionView(Result):
    """What an agent asks before it goes on."""

    id: str
    title: str
    tool: str = Field(description="Kind of what it wants to do: read, edit, execute, ...")
    detail: str
    options: list[OptionView]

    @classmethod
    def of(cls, question: Question) -> Self:
        """Make it of a question."""
        return cls(
            id=question.id,
            title=question.title,
            tool=question.tool,
            detail=question.detail,
            options=[OptionView(id=each.id, name=each.name, kind=each.kind) for each in question.options],
        )


class SessionView(Result):
    """An agent session."""

    id: str
    project_id: str
    state: Literal["starting", "running", "idle", "waiting", "ended", "failed"] = Field(
        description="waiting: for an answer to one of questions (session_permission)."
    )
    agent: str
    model: str = Field(description="Empty for the agent's own choice.")
    autonomy: str
    detail: str = Field(description="Why it is over.")
    resumable: bool = Field(description="It is over, and the next message can go on with it.")
    questions: list[QuestionView]
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, session: Session) -> Self:
        """Make it of a session."""
        return cls(
            id=session.id,
            project_id=session.project_id,
            state=session.state.value,
            agent=session.agent,
            model=session.model,
            autonomy=session.autonomy,
            detail=session.detail,
            resumable=session.over and session.resumable,
            questions=[QuestionView.of(each) for each in session.questions],
            created_at=session.created_at,
            updated_at=session.updated_at,
        )

    def text(self) -> str:
        """One line, and what it asks."""
        model = f" with {self.model}" if self.model else ""
        detail = f": {self.detail}" if self.detail else ""
        line = f"{self.id}: {self.agent}{model}, autonomy {self.autonomy}, {self.state}{detail}"
        return "\n".join([line, *(f"{each.id}: {each.tool}: {each.title}" for each in self.questions)])

    def subject(self) -> str:
        """Its id."""
        return self.id


class SessionList(Result):
    """Agent sessions."""

    sessions: list[SessionView]

    def text(self) -> str:
        """One line each."""
        return "\n".join(each.text() for each in self.sessions) or "No sessions. session_message begins one."


class EventView(Result):
    """Something that happened in a session."""

    number: int
    kind: str
    time: datetime
    data: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """Make it of an event."""
        return cls(number=event.number, kind=event.kind.value, time=event.created_at, data=dict(event.data))


class EventList(Result):
    """What happened in a session."""

    session: SessionView
    events: list[EventView]
    next: int = Field(description="Give this as after to go on.")
    first_kept: int = Field(description="Number of the oldest event that is kept: older ones were dropped.")
    words: str = Field(description="The same, as people read it.", exclude=True)

    @classmethod
    def of(cls, session: Session, events: tuple[Event, ...], after: int, first: int) -> Self:
        """Make it of events."""
        return cls(
            session=SessionView.of(session),
            events=[EventView.of(each) for each in events],
            next=events[-1].number if events else after,
            first_kept=first,
            words="\n".join(filter(None, map(words_of, events))),
        )

    def text(self) -> str:
        """What happened, then how the session is."""
        return f"{self.words}\n\n{self.session.text()}; next: {self.next}".strip()


class TurnResult(Result):
    """How far an agent is with a message."""

    session: SessionView
    turn: int = Field(description="Number of the event that began it.")
    over: bool = Field(description="The agent is done with the message.")
    stop_reason: str = Field(
        description="end_turn, cancelled, max_tokens, max_turn_requests, refusal or failed; empty while it goes on."
    )
    message: str = Field(description="What the agent said so far.")
    usage: dict[str, int] = Field(description="Tokens, where the agent tells.")
    detail: str
    next: int = Field(description="For session_events: after.")
    asked: str = Field(default="", exclude=True)

    @classmethod
    def of(cls, turn: Turn) -> Self:
        """Make it of a turn."""
        return cls(
            session=SessionView.of(turn.session),
            turn=turn.number,
            over=turn.over,
            stop_reason=turn.stop_reason,
            message=turn.text,
            usage=turn.usage,
            detail=turn.detail,
            next=turn.last,
            asked="\n".join(f"{each.id}: {question_in_words(each)}" for each in turn.session.questions),
        )

    def text(self) -> str:
        """What the agent said, and what comes next."""
        parts = [self.message] if self.message else []
        if self.over:
            detail = f": {self.detail}" if self.detail else ""
            parts.append(f"({self.session.id}: {self.stop_reason}{detail}{usage_in_words(self.usage, before='; ')})")
        elif self.asked:
            parts.append(f"{self.session.id} asks before it goes on (answer with session_permission):\n{self.asked}")
        else:
            parts.append(f"{self.session.id} is at work; follow it with session_events, after {self.next}")
        return "\n\n".join(parts)

    def subject(self) -> str:
        """The session's id."""
        return self.session.id


class CancelResult(Result):
    """What became of a cancel."""

    session: SessionView
    was_at_work: bool

    def text(self) -> str:
        """One line."""
        return f"{self.session.id} was told to stop" if self.was_at_work else f"{self.session.id} was not at work"

    def subject(self) -> str:
        """The session's id."""
        return self.session.id
