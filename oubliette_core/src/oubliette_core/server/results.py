"""What the tools give back, made from what the services know."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, Self

from pydantic import Field

from oubliette_core.errors import OublietteError
from oubliette_core.models import ContainerInfo, ExecResult
from oubliette_core.server.background import ExecState
from oubliette_core.server.toolbox import Result
from oubliette_core.services.records import NewToken, Project, ProjectStatus, RefreshResult, SessionState, Token


class ProjectView(Result):
    """A project."""

    id: str
    name: str
    container_type: str
    repository: str = Field(description="URL that the workspace was cloned from; empty where it was not.")
    created_at: datetime
    workspace: str = Field(description="Directory on the server's machine; /workspace in the container.")

    @classmethod
    def of(cls, project: Project) -> Self:
        """Make it of a project."""
        return cls(
            id=project.id,
            name=project.name,
            container_type=project.container_type,
            repository=project.repository,
            created_at=project.created_at,
            workspace=str(project.workspace),
        )

    def text(self) -> str:
        """One line."""
        return f"{self.name} ({self.id}), type {self.container_type}"

    def subject(self) -> str:
        """Its id."""
        return self.id


class ContainerView(Result):
    """A container."""

    id: str
    name: str
    status: str
    image: str
    image_id: str
    exit_code: int | None
    started_at: datetime | None
    ip_address: str
    not_enforced: list[str] = Field(description="Settings that the runtime could not enforce.")

    @classmethod
    def of(cls, container: ContainerInfo) -> Self:
        """Make it of a container."""
        return cls(
            id=container.id,
            name=container.name,
            status=container.status.value,
            image=container.image,
            image_id=container.image_id,
            exit_code=container.exit_code,
            started_at=container.started_at,
            ip_address=container.ip_address,
            not_enforced=list(container.not_enforced),
        )


class StatusView(Result):
    """A project with its container."""

    project: ProjectView
    state: str = Field(description="The container's: running, exited, ...; absent when there is none, or unknown.")
    image: str = Field(description="What the configuration names for the type now; empty when it has the type no more.")
    container: ContainerView | None
    sessions: list[str] = Field(description="Ids of agent sessions and background commands that are at work.")
    problem: str = Field(default="", description="Why the state is unknown.")

    @classmethod
    def of(cls, status: ProjectStatus, problem: OublietteError | None = None) -> Self:
        """Make it of a status, or of what is known of one when the runtime cannot be asked."""
        return cls(
            project=ProjectView.of(status.project),
            state="unknown" if problem else status.state,
            image=status.image,
            container=ContainerView.of(status.container) if status.container else None,
            sessions=list(status.sessions),
            problem=problem.message if problem else "",
        )

    def text(self) -> str:
        """One line, and one more for each thing that is out of the ordinary."""
        image = self.container.image if self.container else self.image
        lines = [f"{self.project.text()}: container {self.state}, image {image or '(type not configured)'}"]
        if self.sessions:
            lines.append(f"at work: {', '.join(self.sessions)}")
        if self.container and self.container.not_enforced:
            lines.append(f"not enforced by this runtime: {', '.join(self.container.not_enforced)}")
        if self.problem:
            lines.append(self.problem)
        return "\n".join(lines)

    def subject(self) -> str:
        """The project's id."""
        return self.project.id


class ProjectListing(Result):
    """Projects."""

    projects: list[ProjectView]

    def text(self) -> str:
        """One line each."""
        return "\n".join(each.text() for each in self.projects) or "No projects. project_create makes one."


class ContainerListing(Result):
    """Projects with their containers."""

    containers: list[StatusView]

    def text(self) -> str:
        """One line each."""
        return "\n".join(each.text() for each in self.containers) or "No containers."


class Deletion(Result):
    """A project that is no more."""

    project: ProjectView
    workspace_kept_at: str | None

    def text(self) -> str:
        """One sentence."""
        kept = f" Its workspace is still at {self.workspace_kept_at}." if self.workspace_kept_at else ""
        return f"Deleted project {self.project.name} ({self.project.id}).{kept}"

    def subject(self) -> str:
        """The project's id."""
        return self.project.id


class TypeOption(Result):
    """A container type."""

    name: str
    image: str
    pull: str
    platform: str | None
    default: bool
    present: bool | None = Field(description="Whether the image is here; null when that could not be told.")


class Limits(Result):
    """What a project may use."""

    memory: int | None = Field(description="Bytes of each container.")
    cpus: float | None
    pids: int | None
    sessions: int = Field(description="Agent sessions at work in one project at a time.")
    exec_time: float = Field(description="Seconds that a command may take which names no timeout.")
    exec_output: int = Field(description="Bytes that are kept of a command's output at most.")


class RuntimeOption(Result):
    """The container runtime."""

    name: str | None
    version: str
    available: bool
    capabilities: list[str]
    not_enforced: list[str] = Field(description="Built-in settings that it cannot enforce.")
    problem: str = ""


class Options(Result):
    """What a new project can choose from, and what holds for it."""

    types: list[TypeOption]
    default_type: str
    agents: list[str]
    models: list[str]
    limits: Limits
    runtime: RuntimeOption

    def text(self) -> str:
        """The types, one line each, and the runtime."""
        lines = [f"Container types (default: {self.default_type}):"]
        for each in self.types:
            here = {True: "present", False: "not pulled yet", None: "presence unknown"}[each.present]
            lines.append(f"- {each.name}: {each.image} ({here}; pull {each.pull})")
        runtime = self.runtime
        state = runtime.problem or f"version {runtime.version}"
        lines.append(f"Runtime: {runtime.name or 'none'} ({state})")
        if runtime.not_enforced:
            lines.append(f"Not enforced by it: {', '.join(runtime.not_enforced)}")
        lines.append(f"Models: {', '.join(self.models) or 'none configured'}; agents: {', '.join(self.agents)}")
        return "\n".join(lines)


class CommandResult(Result):
    """A command: how far it is, or how it ended."""

    project_id: str
    exec_id: str | None = Field(description="For exec_get and exec_cancel; null for a command in the foreground.")
    state: Literal["running", "ended", "failed"] = Field(description="failed: it could not be run.")
    exit_code: int | None = Field(description="Null while it runs, and when it did not end by itself.")
    stdout: str
    stderr: str
    timed_out: bool
    cancelled: bool
    killed: bool = Field(description="After a timeout or cancel: whether nothing of it is left was confirmed.")
    truncated: bool = Field(description="It printed more than output_limit; the rest was dropped.")
    duration: float = Field(description="Seconds.")
    problem: str = Field(default="", description="Why it could not be run, or why its output is not here.")

    @classmethod
    def of(cls, project_id: str, result: ExecResult, *, exec_id: str | None = None) -> Self:
        """Make it of the result of a command that has ended."""
        return cls(
            project_id=project_id,
            exec_id=exec_id,
            state="ended",
            exit_code=result.exit_code,
            stdout=result.stdout.decode(errors="replace"),
            stderr=result.stderr.decode(errors="replace"),
            timed_out=result.timed_out,
            cancelled=result.cancelled,
            killed=result.killed,
            truncated=result.truncated,
            duration=round(result.duration, 3),
        )

    @classmethod
    def of_state(cls, state: ExecState) -> Self:
        """Make it of a command in the background."""
        session = state.session
        if state.result is not None:
            return cls.of(session.project_id, state.result, exec_id=session.id)
        problem = state.error.message if state.error else ""
        if session.over and not problem:
            problem = f"{session.detail or 'it has ended'}; its output is not kept here"
        recorded: Literal["ended", "failed"] = "failed" if session.state is SessionState.FAILED else "ended"
        return cls(
            project_id=session.project_id,
            exec_id=session.id,
            state=recorded if session.over else "running",
            exit_code=None,
            stdout="",
            stderr="",
            timed_out=False,
            cancelled=False,
            killed=False,
            truncated=False,
            duration=round(state.running_for, 3),
            problem=problem,
        )

    def text(self) -> str:
        """How it ended, and what it printed."""
        parts = [self._ending() + (" (output truncated)" if self.truncated else "")]
        if self.stdout:
            parts.append(self.stdout)
        if self.stderr:
            parts.append(f"--- stderr ---\n{self.stderr}")
        return "\n".join(parts)

    def _ending(self) -> str:
        if self.state == "running":
            return f"{self.exec_id} is running for {self.duration:.0f} s"
        if self.problem:
            return f"{self.exec_id}: {self.problem}"
        if self.timed_out or self.cancelled:
            left = "" if self.killed else "; that nothing of it is left could not be confirmed"
            return f"{'killed at its deadline' if self.timed_out else 'cancelled'} after {self.duration:.1f} s{left}"
        return f"exit code {self.exit_code}"

    def subject(self) -> str:
        """The project's id."""
        return self.project_id


class Logs(Result):
    """What a container's main process printed."""

    project_id: str
    output: str
    truncated: bool = Field(description="Only the end of it is here.")

    def text(self) -> str:
        """The output."""
        return self.output or "Nothing was printed."


class RefreshView(Result):
    """What a refresh did to one project."""

    project_id: str
    project_name: str
    refreshed: bool = Field(description="The container was replaced.")
    image_changed: bool | None
    previous_image_id: str
    image_id: str
    error: str = Field(default="", description="Why the container is as it was.")
    sessions: list[str] = Field(default_factory=list, description="What is at work in it and kept it from this.")

    @classmethod
    def of(cls, result: RefreshResult) -> Self:
        """Make it of a result."""
        project = result.status.project
        return cls(
            project_id=project.id,
            project_name=project.name,
            refreshed=not result.skipped,
            image_changed=result.image_changed,
            previous_image_id=result.previous_image_id,
            image_id=result.image_id,
        )

    @classmethod
    def failed(cls, project: Project, error: OublietteError) -> Self:
        """Make it of a failure."""
        return cls(
            project_id=project.id,
            project_name=project.name,
            refreshed=False,
            image_changed=None,
            previous_image_id="",
            image_id="",
            error=error.message,
            sessions=list(getattr(error, "sessions", ())),
        )

    def text(self) -> str:
        """One line."""
        if self.error:
            return f"{self.project_name} ({self.project_id}): not refreshed: {self.error}"
        if not self.refreshed:
            return f"{self.project_name} ({self.project_id}): left alone, its image is the newest"
        what = "a newer image" if self.image_changed else "the same image"
        return f"{self.project_name} ({self.project_id}): new container from {what} ({self.image_id})"


class Refreshes(Result):
    """What a refresh did."""

    projects: list[RefreshView]

    def text(self) -> str:
        """One line a project."""
        return "\n".join(each.text() for each in self.projects) or "No project of this type has a container."


class TokenView(Result):
    """An access token, without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, token: Token) -> Self:
        """Make it of a token."""
        return cls(
            id=token.id,
            name=token.name,
            scopes=list(map(str, token.scopes)),
            created_at=token.created_at,
            expires_at=token.expires_at,
            last_used_at=token.last_used_at,
        )

    def text(self) -> str:
        """One line."""
        expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        ends = "expired" if expired else f"until {self.expires_at:%Y-%m-%d %H:%M} UTC" if self.expires_at else ""
        return f"{self.name} ({self.id}): {', '.join(self.scopes)}{f', {ends}' if ends else ''}"

    def subject(self) -> str:
        """Its id."""
        return self.id


class TokenListing(Result):
    """Access tokens."""

    tokens: list[TokenView]

    def text(self) -> str:
        """One line each."""
        return "\n".join(each.text() for each in self.tokens) or "No tokens."


class TokenMade(Result):
    """A token that was just made."""

    token: TokenView
    secret: str = Field(description="What a client sends as its bearer token. It is shown only now.")

    @classmethod
    def of(cls, made: NewToken) -> Self:
        """Make it of a new token."""
        return cls(token=TokenView.of(made.token), secret=made.secret)

    def text(self) -> str:
        """The token and its secret."""
        return f"Created token {self.token.text()}\n{self.secret}\nIt is not shown again."

    def subject(self) -> str:
        """Its id."""
        return self.token.id


class TokenRevoked(Result):
    """A token that is no more."""

    token: TokenView

    def text(self) -> str:
        """One sentence."""
        return f"Revoked token {self.token.name} ({self.token.id})."

    def subject(self) -> str:
        """Its id."""
        return self.token.id
