"""``oubliette container``: run and use the containers of projects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette_core.cli.apps import EndSessionsOption, JsonOption, PassThroughCommand, new_group
from oubliette_core.cli.boundary import passing_through
from oubliette_core.cli.completion import ProjectArgument, ProjectsArgument
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.cli.targets import end_first, named, report_each
from oubliette_core.cli.views import refresh_object, status_object
from oubliette_core.models import ContainerStatus, LogSpec, ProgressCallback
from oubliette_core.services.records import Outcome, ProjectStatus, RefreshResult
from oubliette_core.services.together import for_each

if TYPE_CHECKING:
    from oubliette_core.app import App
    from oubliette_core.services.containers import Containers

app = new_group()

AllOption = Annotated[bool, typer.Option("--all", help="All projects of this home.")]
EnvOption = Annotated[
    list[str] | None, typer.Option("--env", "-e", metavar="K=V", help="A variable for it. Can be repeated.")
]
UserOption = Annotated[
    str | None, typer.Option("--user", "-u", metavar="U", help="Run it as this user: a name or uid[:gid].")
]
WorkdirOption = Annotated[str | None, typer.Option("--workdir", "-w", metavar="D", help="Run it in this directory.")]


@app.command("list")
def list_containers(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that do not run, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the running containers and their projects."""
    invocation = current(context)
    with invocation.app() as opened:
        found = opened.containers.list()
    shown = [one for one in found if everything or (one.container is not None and one.container.running)]
    if as_json:
        invocation.output.json([status_object(one) for one in shown])
    elif shown:
        invocation.output.table(("PROJECT", "ID", "TYPE", "STATE", "CREATED", "IMAGE"), list(map(_row, shown)))
    else:
        others = f" ({len(found)} not running: --all shows them)" if found else ""
        invocation.output.note(f"No containers are running{others}.")


def _row(status: ProjectStatus) -> tuple[object, ...]:
    project, container = status.project, status.container
    # What it was made from; the configuration may name another image by now.
    image = container.image if container else status.image
    created = container.created_at if container else None
    return project.name, project.id, project.container_type, status.state, created, image


@app.command()
def start(context: typer.Context, projects: ProjectsArgument = None, as_json: JsonOption = False) -> None:
    """Start containers, making those that do not exist yet.

    A missing image is pulled first.
    """
    invocation = current(context)
    targets = named(projects)
    with (
        invocation.app() as opened,
        invocation.interrupts.cancellable() as cancel,
        _showing_pulls(invocation, opened) as progress,
    ):
        containers = opened.containers
        outcomes = for_each(targets, lambda target: containers.start(target, progress=progress, cancel=cancel))
    _report_states(invocation, outcomes, as_json=as_json)


@contextmanager
def _showing_pulls(invocation: Invocation, opened: App) -> Iterator[ProgressCallback]:
    from oubliette_core.cli.image import image_names  # noqa: PLC0415 - not for what only looks
    from oubliette_core.cli.progress import pull_display  # noqa: PLC0415

    with pull_display(invocation.output, invocation.interrupts, image_names(opened.images)) as progress:
        yield progress


@app.command()
def stop(
    context: typer.Context,
    *,
    projects: ProjectsArgument = None,
    everything: AllOption = False,
    grace: Annotated[
        float, typer.Option("--grace", metavar="S", min=0, help="Seconds until what has not stopped is killed.")
    ] = 10.0,
    end_sessions: EndSessionsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Stop containers. Their files stay."""
    invocation = current(context)
    targets = named(projects, all_of_them=everything)
    with invocation.app() as opened:
        containers = opened.containers
        if end_sessions:
            end_first(opened, _with_container(containers) if everything else targets)
        if everything:
            outcomes = containers.stop_all(grace=grace)
        else:
            outcomes = for_each(targets, lambda target: containers.stop(target, grace=grace))
    if everything and not outcomes and not as_json:
        invocation.output.note("No containers are running.")
    _report_states(invocation, outcomes, as_json=as_json)


def _report_states(invocation: Invocation, outcomes: tuple[Outcome[ProjectStatus], ...], *, as_json: bool) -> None:
    report_each(
        outcomes,
        invocation.output,
        as_json=as_json,
        describe=status_object,
        tell=lambda status: f"{status.project.name}: {_state(status)}",
    )


def _state(status: ProjectStatus) -> str:
    if status.container is None:
        return "has no container"
    if status.container.status is ContainerStatus.RUNNING:
        left_out = ", ".join(status.container.not_enforced)
        return f"running ({status.container.name})" + (f"; not enforced here: {left_out}" if left_out else "")
    return "stopped" if status.container.status is ContainerStatus.EXITED else status.state


@app.command()
def refresh(
    context: typer.Context,
    *,
    projects: ProjectsArgument = None,
    everything: AllOption = False,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Leave those alone whose image is the newest.")
    ] = False,
    end_sessions: EndSessionsOption = False,
    as_json: JsonOption = False,
) -> None:
    """Replace containers by new ones, of the newest image.

    Workspace and home stay. Whatever else was changed in a container is lost.
    """
    invocation = current(context)
    targets = named(projects, all_of_them=everything)
    with invocation.app() as opened, invocation.interrupts.cancellable() as cancel:
        containers = opened.containers
        if everything:
            targets = _with_container(containers)
        if end_sessions:
            end_first(opened, targets)
        with _showing_pulls(invocation, opened) as progress:
            outcomes = for_each(
                targets,
                lambda target: containers.refresh(target, if_changed=if_changed, progress=progress, cancel=cancel),
            )
    if not targets and not as_json:
        invocation.output.note("No project has a container.")
    report_each(outcomes, invocation.output, as_json=as_json, describe=refresh_object, tell=_refreshed)


def _with_container(containers: Containers) -> tuple[str, ...]:
    """Return the names of the projects that have a container."""
    return tuple(one.project.name for one in containers.list() if one.container is not None)


def _refreshed(result: RefreshResult) -> str:
    name = result.status.project.name
    if result.skipped:
        return f"{name}: left alone, its image is the newest"
    if not result.image_changed:
        return f"{name}: new container, of the same image; what was outside workspace and home is gone"
    return (
        f"{name}: new container, of image {_short(result.image_id)} (was {_short(result.previous_image_id)});"
        " what was outside workspace and home is gone"
    )


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]


@app.command("exec", cls=PassThroughCommand)
def exec_command(
    context: typer.Context,
    *,
    project: ProjectArgument,
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="S", min=0.001, help="Kill it after so many seconds: code 124.")
    ] = None,
    env: EnvOption = None,
    workdir: WorkdirOption = None,
    user: UserOption = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Pass input even if it is a terminal.")
    ] = False,
    tty: Annotated[bool, typer.Option("--tty", "-t", help="Give it a terminal.")] = False,
) -> int:
    """Run a command in a project's running container.

    Standard input (unless it is a terminal: see -i), output and error are passed through as they are. The exit code
    is the command's own; 124: the deadline came first, 125: it could not be run, 126: it is not executable, 127: there
    is no such command.
    """
    from oubliette_core.cli.run import command_spec, run_command  # noqa: PLC0415 - terminals, for this and shell alone

    invocation = current(context)
    with passing_through():
        spec = command_spec(invocation, command, env=env or (), workdir=workdir, user=user, tty=tty)
        with invocation.app() as opened:
            return run_command(invocation, opened, project, spec, timeout=timeout, keyboard=interactive or tty)


@app.command(cls=PassThroughCommand)
def shell(
    context: typer.Context,
    project: ProjectArgument,
    env: EnvOption = None,
    workdir: WorkdirOption = None,
    user: UserOption = None,
) -> int:
    """Open a shell in a project's running container.

    It is bash where there is one, otherwise sh. The exit code is the shell's own, or 125: it could not be opened.
    """
    from oubliette_core.cli.run import run_shell  # noqa: PLC0415

    invocation = current(context)
    with passing_through(), invocation.app() as opened:
        return run_shell(invocation, opened, project, env=env or (), workdir=workdir, user=user)


@app.command()
def logs(
    context: typer.Context,
    project: ProjectArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the container ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")] = None,
) -> None:
    """Print what the container's main process printed."""
    invocation = current(context)
    with invocation.app() as opened:
        for chunk in opened.containers.logs(project, LogSpec(tail=tail, follow=follow)):
            invocation.output.raw(chunk)
