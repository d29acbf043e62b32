"""The arguments of the tools for agent sessions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from oubliette_core.server.arguments import OfProject, ProjectReference
from oubliette_core.server.toolbox import Arguments

SessionId = Annotated[str, Field(description="The session's id.", pattern=r"^ses_[a-z2-7]{12}$", max_length=16)]
Wait = Annotated[float, Field(ge=0, le=3600)]
_LONGEST_MESSAGE = 2**20
_NAME = 200


class SessionChoice(OfProject):
    """A project's session, and what it is to be if a new one begins."""

    agent: str | None = Field(
        None,
        description="Which agent (project_options lists them); left out, the default. With another than that of the "
        "session at work, a new session begins; so it is for model and autonomy.",
        max_length=63,
    )
    model: str | None = Field(
        None, description="Which model: one of project_options, or provider/model.", max_length=_NAME
    )
    autonomy: Literal["off", "low", "medium", "high"] | None = Field(
        None,
        description="What it may do without asking: off: nothing, low: look, medium: change files, high: everything.",
    )
    new_session: bool = Field(False, description="Begin a new session even if one is at work.")

    def audited(self) -> dict[str, Any]:
        """All but the text."""
        return {"agent": self.agent, "model": self.model, "autonomy": self.autonomy, "new_session": self.new_session}


class SessionMessage(SessionChoice):
    """A message to an agent."""

    text: str = Field(description="What the agent is to do.", min_length=1, max_length=_LONGEST_MESSAGE)
    session_id: SessionId | None = Field(
        None, description="Which session; left out, the one at work, or a new one if there is none."
    )
    wait: Wait = Field(
        50.0,
        description="Seconds to wait for the end of its work. It goes on afterwards: session_events follows it.",
    )


class SessionReference(Arguments):
    """A session."""

    session_id: SessionId

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"session_id": self.session_id}


class SessionListing(Arguments):
    """Which sessions to list."""

    project_id: ProjectReference | None = Field(None, description="Those of this project alone.")
    active_only: bool = Field(False, description="Leave out those that are over.")
    limit: int = Field(50, description="How many of the newest.", ge=1, le=1000)


class SessionEvents(SessionReference):
    """Which events to read."""

    after: int = Field(0, description="Number of the last event that was seen; 0 for all.", ge=0, le=2**53)
    wait: Wait = Field(0.0, description="Seconds to wait for new ones if there are none.")
    limit: int = Field(200, description="How many at most.", ge=1, le=1000)


class SessionPermission(SessionReference):
    """An answer to what an agent asks."""

    question_id: str = Field(description="Which question: session_get and session_message show it.", max_length=32)
    option_id: str = Field(description="Which of its answers.", min_length=1, max_length=1100)
    wait: Wait = Field(50.0, description="Seconds to wait for the end of the agent's work, as in session_message.")

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"session_id": self.session_id, "question_id": self.question_id, "option_id": self.option_id[:80]}
