"""Projects: making, finding, listing and deleting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import ConflictError
from oubliette_core.services import workspace
from oubliette_core.services.clone import begin_repository, check_repository, clone
from oubliette_core.services.container_types import find_type
from oubliette_core.services.ids import new_id, now
from oubliette_core.services.records import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from oubliette_core.config import Secret
    from oubliette_core.models import Cancel, ContainerType
    from oubliette_core.services.locks import ProjectLocks
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.removal import Removal
    from oubliette_core.services.sessions import Sessions

__all__ = ["Projects"]

_STAGING = ".new-"


class Projects:
    """The projects of one Oubliette home.

    :param directory: holds the projects' directories. :param types: the container types of the configuration.
    :param removal: what removes containers; asked for only when a project has had one.
    :param environ: the environment, of which git sees a few variables. :param github_token: for cloning from GitHub.
    """

    def __init__(
        self,
        *,
        directory: Path,
        types: Mapping[str, ContainerType],
        default_type: str,
        records: ProjectRecords,
        sessions: Sessions,
        locks: ProjectLocks,
        removal: Callable[[], Removal],
        environ: Mapping[str, str],
        github_token: Secret | None = None,
    ) -> None:
        self._directory = directory
        self._types = types
        self._default_type = default_type
        self._records = records
        self._sessions = sessions
        self._locks = locks
        self._removal = removal
        self._environ = environ
        self._github_token = github_token

    def create(
        self,
        name: str,
        *,
        container_type: str | None = None,
        repository: str | None = None,
        git_init: bool = False,
        cancel: Cancel | None = None,
    ) -> Project:
        """Make a project with its workspace and home directory; its container is made by `Containers.start`.

        Whatever fails, nothing is left behind.

        :param name: 1 to 63 letters, digits, ``.``, ``_`` and ``-``, beginning with a letter or digit; unique, also
            when letter case is ignored.
        :param container_type: key of ``containers`` in the configuration; None for the default one.
        :param repository: ``https`` or ``ssh`` URL of a git repository that is cloned into the workspace.
        :param git_init: without ``repository``: make the workspace a new git repository.
        :raises InvalidValueError: the name or URL is malformed.
        :raises UnknownContainerTypeError: with the valid ones. :raises ConflictError: the name is taken.
        :raises ServiceError: git failed, or is not installed. :raises OperationCancelledError: cancelled.
        """
        found, url = self.check(name, container_type=container_type, repository=repository)
        project_id = new_id("proj")
        directory = self._directory / project_id
        project = Project(
            id=project_id,
            name=name,
            container_type=found.name,
            repository=url,
            created_at=now(),
            workspace=directory / "workspace",
            home=directory / "home",
        )
        self._sweep()
        with self._locks.hold(project.id):
            try:
                self._furnish(project, cancel, git_init=git_init)
                self._records.insert(project)
            except BaseException:
                workspace.remove(project, keep_workspace=False)
                self._locks.forget(project.id)
                raise
        return project

    def check(
        self, name: str, *, container_type: str | None = None, repository: str | None = None
    ) -> tuple[ContainerType, str]:
        """Look at what a project is to be made of, making nothing: its type, and the URL of its repository if any.

        Errors are those of `create` about its arguments: what takes long need not be begun for a name that is taken.
        """
        self._records.refuse_taken(name)
        found = find_type(self._types, self._default_type if container_type is None else container_type)
        return found, "" if repository is None else check_repository(repository)

    def _furnish(self, project: Project, cancel: Cancel | None, *, git_init: bool) -> None:
        """Make the directories under another name first, so that what is interrupted can be told from a project."""
        directory = project.workspace.parent
        staging = directory.with_name(_STAGING + directory.name)
        staged = attrs.evolve(project, workspace=staging / "workspace", home=staging / "home")
        try:
            workspace.prepare(staged)
            if project.repository:
                clone(
                    project.repository,
                    staged.workspace,
                    environ=self._environ,
                    github_token=self._github_token.reveal() if self._github_token else "",
                    cancel=cancel,
                )
            elif git_init:
                begin_repository(staged.workspace, environ=self._environ)
            staging.rename(directory)
        except BaseException:
            workspace.remove(staged, keep_workspace=False)
            raise

    def _sweep(self) -> None:
        """Remove what a creation left behind that was killed."""
        for staging in self._directory.glob(f"{_STAGING}*"):
            project_id = staging.name.removeprefix(_STAGING)
            with self._locks.attempt(project_id) as held:
                if held:
                    workspace.remove_tree(staging)
                    self._locks.forget(project_id)

    def get(self, reference: str) -> Project:
        """Find a project by its id, a unique prefix of the id, or its name.

        :raises ProjectNotFoundError: none. :raises ConflictError: the prefix fits several, which are listed.
        :raises InvalidValueError: it has the form of none of them.
        """
        return self._records.find(reference)

    def list(self) -> tuple[Project, ...]:
        """Return all projects, sorted by name."""
        return self._records.list()

    def delete(self, reference: str, *, keep_workspace: bool = False) -> Path | None:
        """Remove a project, its container and its directories. What was begun and interrupted is finished.

        :returns: where the workspace is, when it was kept.
        :raises ActiveSessionsError: sessions are at work in it; nothing was touched.
        :raises ConflictError: files of other users could not be removed; the error says where they are.
        """
        project = self._records.find(reference)
        with self._locks.hold(project.id):
            project = self._records.get(project.id)
            self._sessions.refuse_if_active(project, "deleted")
            removal = self._removal() if project.generation or project.pending else None
            image = removal.containers(project) if removal else ""
            self._records.begin_deletion(project.id)
            gone = workspace.remove(project, keep_workspace=keep_workspace)
            if removal and not gone:
                removal.files(project, image, keep_workspace=keep_workspace)
                gone = workspace.remove(project, keep_workspace=keep_workspace)
            if not gone:
                raise _left(project)
            self._records.delete(project.id)
            self._locks.forget(project.id)
        return project.workspace if keep_workspace else None


def _left(project: Project) -> ConflictError:
    directory = project.workspace.parent
    return ConflictError(
        f"project {project.name} is not deleted yet: files of other users are left in {directory}",
        subject=project.id,
        hint=f"Remove them (sudo rm -rf {directory}), then repeat: oubliette project delete {project.name}",
    )
