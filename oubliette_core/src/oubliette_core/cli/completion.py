"""Parameters whose values the shell completes."""

from __future__ import annotations

from typing import Annotated

import attrs
import typer

from oubliette_core.cli.invocation import Invocation
from oubliette_core.errors import OublietteError


def _invocation(context: typer.Context) -> Invocation:
    """Return the invocation as it would be: while the shell completes, no callback has taken the global options."""
    root = context.find_root()
    invocation: Invocation = root.obj
    return attrs.evolve(invocation, directory=root.params.get("directory"))


def _projects(context: typer.Context) -> list[tuple[str, str]]:
    try:
        with _invocation(context).app() as app:
            return [(project.name, project.id) for project in app.projects.list()]
    except OublietteError:
        return []  # nobody reads an error here


def _types(context: typer.Context) -> list[tuple[str, str]]:
    try:
        invocation = _invocation(context)
        types = invocation.load(invocation.home()).config.container_types
        return [(one.name, one.image) for one in types.values()]
    except OublietteError:
        return []


def _sessions(context: typer.Context) -> list[tuple[str, str]]:
    try:
        with _invocation(context).app() as app:
            return [(session.id, session.title) for session in app.sessions.list()]
    except OublietteError:
        return []


def _levels() -> list[str]:
    return ["off", "low", "medium", "high"]


ProjectArgument = Annotated[
    str, typer.Argument(metavar="P", help="A project's id, a prefix of it, or its name.", autocompletion=_projects)
]
ProjectsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="P...", help="Projects, as above.", autocompletion=_projects)
]
TypesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="TYPE...", help="Container types; all when none is named.", autocompletion=_types),
]
TypeOption = Annotated[
    str | None,
    typer.Option("--type", metavar="T", help="Container type; see: oubliette project options", autocompletion=_types),
]
SessionArgument = Annotated[
    str,
    typer.Argument(metavar="S", help="A session's id, or a project for its latest one.", autocompletion=_sessions),
]
AutonomyOption = Annotated[
    str | None,
    typer.Option(
        "--autonomy",
        metavar="LEVEL",
        help="What it may do without asking: off (nothing), low (look), medium (change files) or high (everything).",
        autocompletion=_levels,
    ),
]
