"""The values that services return: what Oubliette itself knows, as opposed to what an engine or a registry knows.

All are frozen and keyword-only; times are aware and in UTC.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import attrs

from oubliette_core.errors import OublietteError
from oubliette_core.models import ContainerInfo

__all__ = [
    "Event",
    "EventKind",
    "NewToken",
    "Outcome",
    "Project",
    "ProjectStatus",
    "Question",
    "QuestionOption",
    "RefreshResult",
    "Scope",
    "Session",
    "SessionKind",
    "SessionState",
    "Token",
]

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Outcome(Generic[T]):
    """What became of one of several targets that were worked on together: a value or an error.

    :param target: as the caller named it.
    """

    target: str
    value: T | None = None
    error: OublietteError | None = None


@attrs.frozen(kw_only=True)
class Project:
    """A project: a workspace, a home directory, and at any time at most one container.

    :param id: ``proj_`` and 12 characters of lower-case base32; never used again.
    :param name: unique in its Oubliette home.
    :param container_type: key of ``containers`` in the configuration; the image comes from there when it is used.
    :param repository: URL that the workspace was cloned from; empty where it was not.
    :param generation: number of the current container; 0 before the first.
    :param pending: attempt id of a container swap that has begun and is not known to be finished; empty otherwise.
    :param deleting: its deletion has begun; all that can be done with it is to finish that.
    :param workspace: directory on this machine, ``/workspace`` in the container.
    :param home: directory on this machine, ``HOME`` in the container.
    """

    id: str
    name: str
    container_type: str
    repository: str = ""
    generation: int = 0
    pending: str = ""
    deleting: bool = False
    created_at: datetime
    workspace: Path
    home: Path


@attrs.frozen(kw_only=True)
class ProjectStatus:
    """A project and what is the case with it now.

    :param container: the current one; None when there is none.
    :param image: reference that the configuration names for the project's type; empty when the type is no longer there.
    :param sessions: ids of the agent sessions and background commands that are active.
    """

    project: Project
    container: ContainerInfo | None = None
    image: str = ""
    sessions: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """The container's status, or ``absent``."""
        return self.container.status.value if self.container else "absent"


@attrs.frozen(kw_only=True)
class RefreshResult:
    """What a refresh did.

    :param skipped: True if ``if_changed`` was given and the image had not changed: the container was not touched.
    :param image_changed: the new container's image is another than the old one's.
    :param previous_image_id: of the container that was replaced. :param image_id: of the one that is there now.
    :param was_running: the replaced container was running.
    """

    status: ProjectStatus
    skipped: bool = False
    image_changed: bool
    previous_image_id: str
    image_id: str
    was_running: bool


class SessionKind(enum.StrEnum):
    """What is at work in a project's container on behalf of a server."""

    AGENT = "agent"
    EXEC = "exec"
    """A background command."""


class SessionState(enum.StrEnum):
    """How far a session is. All but `ENDED` and `FAILED` are active for as long as the owner lives."""

    STARTING = "starting"
    RUNNING = "running"
    IDLE = "idle"
    WAITING = "waiting"
    """For an answer to a permission request."""
    ENDED = "ended"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class QuestionOption:
    """One of the answers that an agent offers.

    :param kind: ``allow_once``, ``allow_always``, ``reject_once`` or ``reject_always``.
    """

    id: str
    name: str
    kind: str


@attrs.frozen(kw_only=True)
class Question:
    """What an agent asks before it goes on.

    :param id: unique in its session. :param tool: kind of what it wants to do: ``execute``, ``edit``, ...
    :param detail: more of it, such as the command; empty where the agent says no more.
    """

    id: str
    title: str
    tool: str
    detail: str = ""
    options: tuple[QuestionOption, ...] = ()


@attrs.frozen(kw_only=True)
class Session:
    """An agent session or a background command.

    :param id: ``ses_`` or ``exec_``, and 12 characters of lower-case base32.
    :param owner: id of the process that drives it: see `oubliette_core.services.owners`.
    :param title: one line for people: the agent's name, or the command.
    :param detail: one line: why it ended, where there is something to say.
    :param agent: name of the agent; like all that follows, empty for a command.
    :param model: the one that was asked for; empty for the agent's own choice.
    :param agent_session: what the agent calls the session.
    :param resumable: the agent can go on with it although its process has ended.
    :param questions: what the agent waits for an answer to.
    :param process: what its processes in the container are known by: see `oubliette_core.services.reaping`.
    """

    id: str
    project_id: str
    kind: SessionKind
    state: SessionState
    owner: str
    title: str = ""
    detail: str = ""
    agent: str = ""
    model: str = ""
    autonomy: str = ""
    agent_session: str = ""
    resumable: bool = False
    questions: tuple[Question, ...] = ()
    process: str = attrs.field(default="", repr=False)
    created_at: datetime
    updated_at: datetime

    @property
    def over(self) -> bool:
        """Whether it ended, well or not."""
        return self.state in {SessionState.ENDED, SessionState.FAILED}


class EventKind(enum.StrEnum):
    """What can happen in an agent session."""

    PROMPT = "prompt"
    """What the agent was told."""
    MESSAGE = "message"
    THOUGHT = "thought"
    TOOL_CALL = "tool_call"
    TOOL_CALL_UPDATE = "tool_call_update"
    PLAN = "plan"
    PERMISSION = "permission"
    """A question was asked, or (with ``answer``) answered."""
    USAGE = "usage"
    COMPLETION = "completion"
    """The end of the work on one message."""
    ERROR = "error"


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened in an agent session.

    :param number: counts from 1 in each session. :param data: what a JSON object can hold; depends on the kind.
    """

    session_id: str
    number: int
    kind: EventKind
    created_at: datetime
    data: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Scope:
    """What a token allows.

    :param project_id: of the only project it reaches; empty for all, and for what is above projects.
    :param read_only: nothing may be changed and no command run.
    """

    kind: Literal["admin", "project"]
    project_id: str = ""
    read_only: bool = False

    def __str__(self) -> str:
        subject = f"project:{self.project_id}" if self.kind == "project" else "admin"
        return f"{subject}:ro" if self.read_only else subject


@attrs.frozen(kw_only=True)
class Token:
    """An access token, as it is kept: without its secret.

    :param id: ``tok_`` and 12 characters of lower-case base32.
    :param expires_at: None for never. :param last_used_at: to the minute; None for never.
    """

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None

    def allows(self, project_id: str | None, *, write: bool) -> bool:
        """Tell whether something may be done to a project, or (None) to what is above projects."""
        return any(
            (scope.kind == "admin" or (project_id is not None and scope.project_id == project_id))
            and not (write and scope.read_only)
            for scope in self.scopes
        )


@attrs.frozen(kw_only=True)
class NewToken:
    """A token that was just made.

    :param secret: what a client sends; shown once and kept nowhere.
    """

    token: Token
    secret: str = attrs.field(repr=False)
