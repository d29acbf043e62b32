"""``oubliette project``: make, list, show and delete projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from oubliette_core.cli.apps import EndSessionsOption, JsonOption, YesOption, new_group
from oubliette_core.cli.completion import ProjectArgument, TypeOption
from oubliette_core.cli.invocation import current
from oubliette_core.cli.targets import end_first
from oubliette_core.cli.views import project_object, status_object
from oubliette_core.errors import PluginError, RuntimeUnavailableError
from oubliette_core.services.records import Project, ProjectStatus

if TYPE_CHECKING:
    from oubliette_core.app import App

app = new_group()


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    container_type: TypeOption = None,
    repository: Annotated[
        str | None, typer.Option("--repo", metavar="URL", help="Git repository (https or ssh) to clone into it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project with a workspace and a home. Its container is made when it is first started."""
    invocation = current(context)
    with invocation.app() as opened, invocation.interrupts.cancellable() as cancel:
        project = opened.projects.create(name, container_type=container_type, repository=repository, cancel=cancel)
    if as_json:
        invocation.output.json(project_object(project))
        return
    invocation.output.line(f"Created project {project.name} ({project.id}) of type {project.container_type}.")
    invocation.output.note(f"Start it: oubliette container start {project.name}")


@app.command("list")
def list_projects(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the projects. No container runtime is needed for it."""
    invocation = current(context)
    with invocation.app() as opened:
        projects = opened.projects.list()
    if as_json:
        invocation.output.json([project_object(project) for project in projects])
    elif projects:
        rows = [(one.name, one.id, one.container_type, one.created_at) for one in projects]
        invocation.output.table(("NAME", "ID", "TYPE", "CREATED"), rows)
    else:
        invocation.output.note("No projects. Make one: oubliette project create NAME")


@app.command()
def show(context: typer.Context, project: ProjectArgument, as_json: JsonOption = False) -> None:
    """Show a project, its container and its sessions."""
    invocation = current(context)
    with invocation.app() as opened:
        status, unknown = _status(opened, project)
    if as_json:
        invocation.output.json(status_object(status) | ({"state": "unknown"} if unknown else {}))
    else:
        invocation.output.fields(_fields(status, "unknown" if unknown else status.state))
    if unknown:
        invocation.output.warning(f"the container's state is not known: {unknown.message}", unknown.hint)


def _status(opened: App, reference: str) -> tuple[ProjectStatus, PluginError | RuntimeUnavailableError | None]:
    """Return what is known of a project, and why nothing is known of its container."""
    try:
        return opened.containers.get(reference), None
    except (PluginError, RuntimeUnavailableError) as error:
        project = opened.projects.get(reference)
        known = opened.loaded.config.container_types.get(project.container_type)
        return ProjectStatus(project=project, image=known.image if known else ""), error


def _fields(status: ProjectStatus, state: str) -> list[tuple[str, object]]:
    project, container = status.project, status.container
    fields: list[tuple[str, object]] = [
        ("name", project.name),
        ("id", project.id),
        ("type", project.container_type),
        ("image", status.image),
        ("repository", project.repository),
        ("created", project.created_at),
        ("workspace", project.workspace),
        ("home", project.home),
        ("state", state),
    ]
    if container is not None:
        fields += [
            ("container", container.name),
            ("image id", container.image_id),
            ("started", container.started_at),
            ("address", container.ip_address),
            ("not enforced", ", ".join(container.not_enforced)),
        ]
    return [*fields, ("sessions", ", ".join(status.sessions))]


@app.command()
def delete(
    context: typer.Context,
    project: ProjectArgument,
    keep_workspace: Annotated[bool, typer.Option("--keep-workspace", help="Leave the workspace where it is.")] = False,
    end_sessions: EndSessionsOption = False,
    yes: YesOption = False,
) -> None:
    """Delete a project with its container, its home and its workspace."""
    invocation = current(context)
    output = invocation.output
    with invocation.app() as opened:
        found = opened.projects.get(project)
        if not yes and not output.confirm(_question(found, keep_workspace), otherwise="--yes"):
            output.note("Nothing was deleted.")
            raise typer.Exit(1)
        if end_sessions:
            end_first(opened, [found.id])
        # By id: the name may be another project's by the time the question is answered.
        kept = opened.projects.delete(found.id, keep_workspace=keep_workspace)
    output.line(f"Deleted project {found.name} ({found.id}).")
    if kept is not None:
        output.line(f"Its workspace is still at {kept}.")


def _question(project: Project, keep_workspace: bool) -> str:
    what = "its container and its home" if keep_workspace else f"its container and all files in {project.workspace}"
    return f"Delete project {project.name} ({project.id}), {what}?"


@app.command()
def options(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show what a new project can choose from."""
    invocation = current(context)
    config = invocation.load(invocation.home()).config
    types, default = config.container_types, config.default_type
    if as_json:
        invocation.output.json({"default_type": default, "types": list(types.values())})
        return
    rows = [(one.name, one.image, one.pull.value, one.platform, one.name == default) for one in types.values()]
    invocation.output.table(("TYPE", "IMAGE", "PULL", "PLATFORM", "DEFAULT"), rows)
