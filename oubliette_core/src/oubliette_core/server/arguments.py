"""The arguments of the tools. What stands here is what clients see as JSON schemas."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from oubliette_core.server.toolbox import Arguments

ProjectReference = Annotated[
    str,
    Field(description="The project: its id, a unique beginning of the id, or its name.", min_length=1, max_length=64),
]
TypeName = Annotated[
    str, Field(description="A container type: project_options lists them.", min_length=1, max_length=64)
]
ExecId = Annotated[
    str, Field(description="The id that container_exec gave.", pattern=r"^exec_[a-z2-7]{12}$", max_length=17)
]
_LONGEST_WORD = 128 * 1024
_DAY = 86400.0


class NoArguments(Arguments):
    """None."""


class OfProject(Arguments):
    """A project."""

    project_id: ProjectReference


class ProjectCreation(Arguments):
    """A project to be made."""

    name: str = Field(
        description="What to call it: letters, digits, dots, dashes and underscores; unique.",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$",
    )
    container_type: TypeName | None = Field(None, description="Its container type; left out, the default one.")
    repository: str | None = Field(
        None, description="Git repository (https or ssh URL) to clone into the workspace.", max_length=2000
    )
    git_init: bool = Field(False, description="Make the workspace a new, empty git repository.")
    start: bool = Field(True, description="Start its container at once, pulling the image if it is missing.")

    def audited(self) -> dict[str, Any]:
        """Not the repository's URL, which may be malformed and a secret."""
        return {"name": self.name, "container_type": self.container_type, "clone": self.repository is not None}


class ProjectDeletion(OfProject):
    """A project to be deleted."""

    keep_workspace: bool = Field(False, description="Leave the files of the workspace where they are.")

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"keep_workspace": self.keep_workspace}


class ContainerStop(OfProject):
    """A container to be stopped."""

    grace: float = Field(10.0, description="Seconds until what has not stopped is killed.", ge=0, le=300)


class ContainerList(Arguments):
    """Which containers to list."""

    running_only: bool = Field(False, description="Leave out projects whose container does not run.")


class ContainerExec(OfProject):
    """A command to be run."""

    command: list[Annotated[str, Field(max_length=_LONGEST_WORD)]] = Field(
        description='The program and its arguments, each a word of its own; for a shell: ["sh", "-c", "..."].',
        min_length=1,
        max_length=4096,
    )
    workdir: str | None = Field(
        None, description="Absolute path to run it in; left out, /workspace.", pattern=r"^/", max_length=4095
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables for it, besides the container's.", max_length=1000
    )
    user: str | None = Field(None, description="Run it as this user: a name or uid[:gid].", max_length=64)
    stdin: str = Field("", description="Text for its standard input.", max_length=3 * 2**20)
    timeout: float | None = Field(
        None, description="Seconds after which it is killed with all it started; left out, the server's limit.",
        gt=0, le=_DAY,
    )  # fmt: skip
    output_limit: int = Field(
        64 * 1024, description="Bytes kept of stdout and of stderr each; the rest is dropped.", ge=0, le=2**30
    )
    background: bool = Field(
        False, description="Return at once, with an exec_id for exec_get and exec_cancel; it goes on by itself."
    )

    def audited(self) -> dict[str, Any]:
        """The program alone: arguments, variables and input may hold secrets."""
        return {"program": self.command[0][:80], "words": len(self.command), "background": self.background}


class ExecReference(Arguments):
    """A command in the background."""

    exec_id: ExecId

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"exec_id": self.exec_id}


class ContainerLogs(OfProject):
    """Which part of a container's output."""

    tail: int = Field(200, description="How many of the last lines.", ge=1, le=100_000)
    since: str | None = Field(
        None,
        description="Nothing older than this: a time in ISO 8601 with its offset, such as 2026-01-31T12:00:00Z. Not "
        "every runtime can do this.",
        max_length=40,
    )


class ContainerRefresh(Arguments):
    """Which containers to refresh: those of one project, or of all projects of one type."""

    project_id: ProjectReference | None = Field(None, description="The project. Give this or container_type.")
    container_type: TypeName | None = Field(
        None, description="All projects of this container type. Give this or project_id."
    )
    if_changed: bool = Field(False, description="Leave containers alone whose image is the newest.")

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"container_type": self.container_type, "if_changed": self.if_changed}


class TokenCreation(Arguments):
    """A token to be made."""

    name: str = Field(description="What it is for; unique.", min_length=1, max_length=64)
    scopes: list[Annotated[str, Field(max_length=100)]] = Field(
        description="What it allows: admin, admin:ro, project:PROJECT or project:PROJECT:ro each.",
        min_length=1,
        max_length=100,
    )
    expires_in_days: float | None = Field(None, description="Left out, it does not expire.", gt=0, le=36500)

    def audited(self) -> dict[str, Any]:
        """All."""
        return {"name": self.name, "scopes": self.scopes, "expires_in_days": self.expires_in_days}


class TokenReference(Arguments):
    """A token to be revoked."""

    token: str = Field(description="Its id or name (never its secret).", min_length=1, max_length=64)

    def audited(self) -> dict[str, Any]:
        """Not what was given, which might be a secret by mistake: the outcome names the token."""
        return {}
