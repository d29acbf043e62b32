"""Tools for the containers of projects, and for the commands in them."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError, OublietteError
from oubliette_core.models import ExecSpec, LogSpec
from oubliette_core.server.arguments import (
    ContainerExec,
    ContainerList,
    ContainerLogs,
    ContainerRefresh,
    ContainerStop,
    ExecReference,
    OfProject,
)
from oubliette_core.server.results import (
    CommandResult,
    ContainerListing,
    Logs,
    Refreshes,
    RefreshView,
    StatusView,
)
from oubliette_core.server.toolbox import Access, Call, Effect, tool
from oubliette_core.services.container_types import find_type
from oubliette_core.services.together import for_each

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOG_BYTES = 256 * 1024


@tool(
    title="Start a container",
    access=Access.PROJECT,
    effect=Effect.CHANGES,
    long=True,
    idempotent=True,
    open_world=True,
)
def container_start(call: Call, arguments: OfProject) -> StatusView:  # noqa: ARG001 - the access check found it
    """Have the project's container running: make it where there is none, pulling its image if that is missing."""
    return StatusView.of(call.app.containers.start(call.project_id, progress=call.progress, cancel=call.cancel))


@tool(title="Stop a container", access=Access.PROJECT, effect=Effect.CHANGES, long=True, idempotent=True)
def container_stop(call: Call, arguments: ContainerStop) -> StatusView:
    """Stop the project's container; its files stay. Refused while something is at work in it."""
    return StatusView.of(call.app.containers.stop(call.project_id, grace=arguments.grace))


@tool(title="List containers", access=Access.ANYONE)
def container_list(call: Call, arguments: ContainerList) -> ContainerListing:
    """List the projects with the state of their containers."""
    listed = [
        status
        for status in call.app.containers.list()
        if call.caller.sees(status.project.id)
        and (not arguments.running_only or (status.container is not None and status.container.running))
    ]
    return ContainerListing(containers=[StatusView.of(status) for status in listed])


@tool(title="Read a container's output", access=Access.PROJECT, long=True)
def container_logs(call: Call, arguments: ContainerLogs) -> Logs:
    """Return the last that the container's main process printed. What commands print is in their own results."""
    spec = LogSpec(tail=arguments.tail, since=_time(arguments.since))
    output, truncated = _end_of(call.app.containers.logs(call.project_id, spec))
    return Logs(project_id=call.project_id, output=output.decode(errors="replace"), truncated=truncated)


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise InvalidSpecError(f"{text!r} is not a time in ISO 8601", value=text) from None


def _end_of(chunks: Iterable[bytes]) -> tuple[bytes, bool]:
    """Return the last bytes of what may be much more, and whether something is missing."""
    kept: deque[bytes] = deque()
    size, truncated = 0, False
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        while size - len(kept[0]) >= _LOG_BYTES:
            size -= len(kept.popleft())
            truncated = True
    joined = b"".join(kept)
    return joined[-_LOG_BYTES:], truncated or len(joined) > _LOG_BYTES


@tool(title="Refresh containers", access=Access.PROJECT, effect=Effect.DESTROYS, long=True, open_world=True)
def container_refresh(call: Call, arguments: ContainerRefresh) -> Refreshes:
    """Pull the newest image and replace the container by a new one, for one project or all of one container type.

    Workspace and home stay; whatever else was changed in the container is lost. Refused, with a list, while sessions
    or background commands are at work. If anything fails, the old container is as it was.
    """
    app, changed_only = call.app, arguments.if_changed
    if call.project is not None:
        if arguments.container_type is not None:
            raise InvalidSpecError("give project_id or container_type, not both")
        result = app.containers.refresh(
            call.project_id, if_changed=changed_only, progress=call.progress, cancel=call.cancel
        )
        return Refreshes(projects=[RefreshView.of(result)])
    if arguments.container_type is None:
        raise InvalidSpecError("give project_id or container_type")
    container_type = find_type(app.loaded.config.container_types, arguments.container_type).name
    with_container = {
        status.project.id: status.project
        for status in app.containers.list()
        if status.project.container_type == container_type and status.container is not None
    }
    outcomes = for_each(
        with_container,
        lambda target: app.containers.refresh(
            target, if_changed=changed_only, progress=call.progress, cancel=call.cancel
        ),
    )
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if errors and len(errors) == len(outcomes):
        raise _joined(errors)
    return Refreshes(
        projects=[
            RefreshView.of(outcome.value)
            if outcome.value is not None
            else RefreshView.failed(with_container[outcome.target], outcome.error or OublietteError("no result"))
            for outcome in outcomes
        ]
    )


def _joined(errors: list[OublietteError]) -> OublietteError:
    """Return the first error, with what the others say."""
    first = errors[0]
    first.message = "; ".join(dict.fromkeys(error.message for error in errors))
    return first


@tool(title="Run a command", access=Access.PROJECT, effect=Effect.DESTROYS, long=True, open_world=True)
def container_exec(call: Call, arguments: ContainerExec) -> CommandResult:
    """Run a command in the project's running container and return its exit code and what it printed.

    A non-zero exit code is a result, not an error. At the timeout, or when the call is cancelled, the command is
    killed with everything it started. For what takes longer than a client waits, use background.
    """
    limits = call.app.loaded.config.defaults.limits
    spec = ExecSpec(
        command=tuple(arguments.command),
        env=arguments.env,
        workdir=arguments.workdir,
        user=arguments.user,
        stdin=arguments.stdin.encode(),
        timeout=limits.exec_time if arguments.timeout is None else arguments.timeout,
        output_limit=min(arguments.output_limit, limits.exec_output),
    )
    containers, project_id = call.app.containers, call.project_id
    if not arguments.background:
        return CommandResult.of(project_id, containers.exec(project_id, spec, cancel=call.cancel))
    project = call.app.projects.get(project_id)
    state = call.execs.start(project, spec, lambda spec, cancel: containers.exec(project_id, spec, cancel=cancel))
    return CommandResult.of_state(state)


@tool(title="Look at a command in the background", access=Access.EXEC)
def exec_get(call: Call, arguments: ExecReference) -> CommandResult:  # noqa: ARG001 - the access check found it
    """Tell whether a command that was started with background still runs, and what it printed once it has ended."""
    return CommandResult.of_state(call.execs.get(call.found_session))


@tool(
    title="Cancel a command in the background", access=Access.EXEC, effect=Effect.DESTROYS, long=True, idempotent=True
)
def exec_cancel(call: Call, arguments: ExecReference) -> CommandResult:  # noqa: ARG001 - the access check found it
    """Kill a command that was started with background, with everything it started, and return what it printed."""
    return CommandResult.of_state(call.execs.cancel(call.found_session))


TOOLS = (
    container_start,
    container_stop,
    container_list,
    container_logs,
    container_refresh,
    container_exec,
    exec_get,
    exec_cancel,
)
