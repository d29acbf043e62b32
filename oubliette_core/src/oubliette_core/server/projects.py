"""Tools for projects."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from oubliette_core.errors import ConflictError, OublietteError, PluginError, RuntimeUnavailableError
from oubliette_core.server.arguments import NoArguments, OfProject, ProjectCreation, ProjectDeletion
from oubliette_core.server.results import (
    Deletion,
    Limits,
    Options,
    ProjectListing,
    ProjectView,
    RuntimeOption,
    StatusView,
    TypeOption,
)
from oubliette_core.server.toolbox import Access, Call, Effect, tool
from oubliette_core.services.records import ProjectStatus

if TYPE_CHECKING:
    from oubliette_core.app import App
    from oubliette_core.models import ContainerType


@tool(title="Create a project", access=Access.ABOVE, effect=Effect.CHANGES, long=True, open_world=True)
def project_create(call: Call, arguments: ProjectCreation) -> StatusView:
    """Make a project: a workspace and a container to work on it, of a configured type (see project_options).

    The workspace is empty, a new git repository, or a clone. If anything fails, nothing is left behind.
    """
    app = call.app
    if arguments.repository is not None and arguments.git_init:
        raise ConflictError("git_init and repository exclude each other: a clone is a git repository already")
    found, _ = app.projects.check(
        arguments.name, container_type=arguments.container_type, repository=arguments.repository
    )
    if arguments.start:
        # First, because it takes longest and fails most; nothing has been made yet.
        app.images.ensure_image_exists(found.name, progress=call.progress, cancel=call.cancel)
    project = app.projects.create(
        arguments.name,
        container_type=found.name,
        repository=arguments.repository,
        git_init=arguments.git_init,
        cancel=call.cancel,
    )
    if not arguments.start:
        return StatusView.of(ProjectStatus(project=project, image=found.image))
    try:
        return StatusView.of(app.containers.start(project.id, progress=call.progress, cancel=call.cancel))
    except BaseException:
        with contextlib.suppress(OublietteError):
            app.projects.delete(project.id)
        raise


@tool(title="List projects", access=Access.ANYONE)
def project_list(call: Call, arguments: NoArguments) -> ProjectListing:  # noqa: ARG001 - it takes none
    """List the projects, without asking the container runtime: container_list tells their state too."""
    return ProjectListing(
        projects=[ProjectView.of(project) for project in call.app.projects.list() if call.caller.sees(project.id)]
    )


@tool(title="Show a project", access=Access.PROJECT)
def project_get(call: Call, arguments: OfProject) -> StatusView:  # noqa: ARG001 - the access check found it
    """Show a project, its container, and what is at work in it."""
    try:
        return StatusView.of(call.app.containers.status(call.found_project))
    except (PluginError, RuntimeUnavailableError) as error:
        project = call.found_project
        known = call.app.loaded.config.container_types.get(project.container_type)
        return StatusView.of(ProjectStatus(project=project, image=known.image if known else ""), error)


@tool(title="Delete a project", access=Access.PROJECT, effect=Effect.DESTROYS, long=True)
def project_delete(call: Call, arguments: ProjectDeletion) -> Deletion:
    """Delete a project with its container, its home and its workspace. Refused while something is at work in it."""
    project = call.app.projects.get(call.project_id)
    kept = call.app.projects.delete(project.id, keep_workspace=arguments.keep_workspace)
    return Deletion(project=ProjectView.of(project), workspace_kept_at=str(kept) if kept else None)


@tool(title="Show what a project can choose from", access=Access.ANYONE)
def project_options(call: Call, arguments: NoArguments) -> Options:  # noqa: ARG001 - it takes none
    """List the container types with their images and whether these are present, models, agents, limits and runtime."""
    app = call.app
    config = app.loaded.config
    runtime = _runtime(app)
    settings, bounds = config.defaults.container, config.defaults.limits
    return Options(
        types=[_type(app, each, available=runtime.available) for each in config.container_types.values()],
        default_type=config.default_type,
        agents=list(config.agents),
        models=list(config.models),
        limits=Limits(
            memory=settings.memory,
            cpus=settings.cpus,
            pids=settings.pids,
            sessions=bounds.sessions,
            exec_time=bounds.exec_time,
            exec_output=bounds.exec_output,
        ),
        runtime=runtime,
    )


def _type(app: App, found: ContainerType, *, available: bool) -> TypeOption:
    present = None
    if available:
        with contextlib.suppress(OublietteError):
            present = app.images.find_local(found.name) is not None
    return TypeOption(
        name=found.name,
        image=found.image,
        pull=found.pull.value,
        platform=found.platform,
        default=found.name == app.loaded.config.default_type,
        present=present,
    )


def _runtime(app: App) -> RuntimeOption:
    name, version = None, ""
    try:
        runtime = app.runtime
        name = runtime.name
        probe = runtime.probe()
        version = probe.version
        if not probe.available:
            raise RuntimeUnavailableError(probe.detail or f"runtime {name} cannot be used", runtime=name)
        return RuntimeOption(
            name=name,
            version=version,
            available=True,
            capabilities=sorted(each.value for each in runtime.capabilities()),
            not_enforced=list(app.containers.unenforced()),
        )
    except OublietteError as error:
        return RuntimeOption(
            name=name, version=version, available=False, capabilities=[], not_enforced=[], problem=error.message
        )


TOOLS = (project_create, project_list, project_get, project_delete, project_options)
