"""Making a project's next container, and which one counts.

The store says which generation is the project's container. A new one is made beside the old one, and one update in the
store is the moment from which it counts; then all others are removed. What a crash leaves behind is cleared by that
same last step. Everything here is done under the project's lock.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import TYPE_CHECKING

from oubliette_core.errors import (
    ContainerNotFoundError,
    InvalidSpecError,
    NameConflictError,
    OperationCancelledError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
    StartFailedError,
)
from oubliette_core.models import (
    LABEL_ATTEMPT,
    LABEL_GENERATION,
    LABEL_HOME,
    LABEL_PROJECT,
    Capability,
    ContainerInfo,
    ContainerSpec,
    ContainerType,
)
from oubliette_core.services import workspace
from oubliette_core.services.ids import new_id
from oubliette_core.services.inside import View, add_names, look
from oubliette_core.services.policy import ContainerPolicy, container_name
from oubliette_core.services.throwaway import throwaway

if TYPE_CHECKING:
    from oubliette_core.models import Cancel
    from oubliette_core.runtime import Runtime
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.records import Project

__all__ = ["Generations"]

_log = logging.getLogger(__name__)
_UNSEEN_FOR = timedelta(seconds=60)
"""How long a container may still appear whose making was interrupted: an engine goes on without its client."""


class Generations:
    """The containers of projects on one runtime, one generation after the other."""

    def __init__(self, runtime: Runtime, records: ProjectRecords, policy: ContainerPolicy) -> None:
        self._runtime = runtime
        self._records = records
        self._policy = policy

    def current(self, project: Project) -> ContainerInfo | None:
        """Return the project's container; None where there is none. Needs no lock."""
        if not project.generation:
            return None
        try:
            info = self._runtime.inspect(self.name(project))
        except ContainerNotFoundError:
            return None
        return info if self._is_ours(info, project) else None

    def name(self, project: Project) -> str:
        """Return the name of the project's container."""
        return container_name(self._policy.home_id, project.id, project.generation)

    def recover(self, project: Project, *, known: bool = False) -> Project:
        """Clear what an interrupted swap left behind, so that only the container that counts is there.

        :param known: the container of the interrupted swap was made, or will not appear any more.
        :returns: the project as it is now.
        """
        if not project.pending:
            return project
        project = self._records.get(project.id)
        for info in self._all(project):
            known = known or info.labels.get(LABEL_ATTEMPT) == project.pending
            if info.labels.get(LABEL_GENERATION) != str(project.generation):
                self._runtime.remove(info.id, force=True)
        if known or self._records.swap_is_older_than(project.id, _UNSEEN_FOR):
            self._records.end_swap(project.id)
        return self._records.get(project.id)

    def replace(
        self, project: Project, container_type: ContainerType, *, cancel: Cancel | None = None
    ) -> ContainerInfo:
        """Make and start the project's next container and remove the one before.

        If anything fails before the new one counts, it is removed and the old one is as it was.

        :param project: recovered. :raises StartFailedError: see `start`.
        :raises OperationCancelledError: ``cancel`` came before the new one counted.
        """
        attempt, generation = new_id("try"), project.generation + 1
        workspace.prepare(project)
        self._records.begin_swap(project.id, attempt)
        try:
            spec = self._policy.spec(
                project, container_type, self._runtime.capabilities(), generation=generation, attempt=attempt
            )
            if self._policy.uid == 0 and container_type.command != ("idle",):
                self._prepare_for(project, spec)
            _go_on(project, cancel)
            created = self._create(project, spec)
            _go_on(project, cancel)
            started = self.start(project, created, cancel=cancel)
            _go_on(project, cancel)
            self._records.commit_swap(project.id, generation)
        except BaseException as error:
            self._undo(project, error)
            raise
        try:
            self.recover(self._records.get(project.id), known=True)
        except OublietteError as error:
            _log.warning("project %s: the container before is not removed yet: %s", project.id, error)
        return started

    def start(self, project: Project, container: ContainerInfo, *, cancel: Cancel | None = None) -> ContainerInfo:
        """Start a container and see that it runs as it should: on this machine's workspace, as a user with a name.

        :raises StartFailedError: it ended at once, cannot run a shell, or sees another machine's workspace.
        :raises OperationCancelledError: cancelled while that was looked at.
        """
        started = self._runtime.start(container.id)
        with workspace.nonce_file(project) as (name, nonce):
            view = look(self._runtime, started.id, name, cancel=cancel)
        if view.nonce != nonce:
            self._runtime.stop(started.id, grace=1.0)
            raise self._elsewhere(project)
        self._share(project, view)
        add_names(self._runtime, started.id, view, named=self._policy.names_user(self._runtime.capabilities()))
        return started

    def discard(self, project: Project) -> None:
        """Remove every container of the project."""
        for info in self._all(project):
            self._runtime.remove(info.id, force=True)

    def labels(self, project: Project) -> dict[str, str]:
        """Return the labels that every container of the project has, and no other."""
        return {LABEL_HOME: self._policy.home_id, LABEL_PROJECT: project.id}

    def _all(self, project: Project) -> tuple[ContainerInfo, ...]:
        return self._runtime.list_containers(self.labels(project))

    def _is_ours(self, info: ContainerInfo, project: Project) -> bool:
        return self.labels(project).items() <= info.labels.items()

    def _create(self, project: Project, spec: ContainerSpec) -> ContainerInfo:
        try:
            return self._runtime.create(spec)
        except (RuntimeLostError, OperationTimeoutError):
            # The engine may have done it all the same. Only a container of this very attempt is what we asked for.
            with contextlib.suppress(OublietteError):
                for info in self._all(project):
                    if info.labels.get(LABEL_ATTEMPT) == spec.labels[LABEL_ATTEMPT]:
                        return info
            raise
        except NameConflictError:
            # Left by an attempt that was interrupted so long ago that its container was no longer waited for.
            stale = [info for info in self._all(project) if info.name == spec.name]
            if not stale:
                raise
            for info in stale:
                self._runtime.remove(info.id, force=True)
            return self._runtime.create(spec)
        except InvalidSpecError as error:
            if str(project.workspace.parent) in error.message:
                raise self._elsewhere(project) from error
            raise

    def _prepare_for(self, project: Project, spec: ContainerSpec) -> None:
        """Hand the directories over before a command of the image's own starts, which may write at once.

        As whom the image runs is only known from inside, so a container that does nothing is asked.
        """
        with throwaway(self._runtime, spec) as container, workspace.nonce_file(project) as (name, _):
            self._share(project, look(self._runtime, container, name))

    def _share(self, project: Project, view: View) -> None:
        """See to it that host and container can both read, write and delete what the other makes."""
        if self._policy.uid != 0:
            if Capability.ROOTLESS in self._runtime.capabilities():
                # What other users of the container make belongs to ids that are not ours.
                workspace.share_with(project, self._policy.uid)
        elif view.outside_uid and view.outside_gid is not None:
            workspace.give_to(project, view.outside_uid, view.outside_gid)
            workspace.share_with(project, view.outside_uid)

    def _undo(self, project: Project, error: BaseException) -> None:
        """Remove a new container that does not count; where that fails now, the next operation does it."""
        lost = not isinstance(error, OublietteError) or isinstance(error, (RuntimeLostError, OperationTimeoutError))
        try:
            self.recover(self._records.get(project.id), known=not lost)
        except OublietteError as second:
            _log.warning("project %s: what was begun is not undone yet: %s", project.id, second)

    def _elsewhere(self, project: Project) -> StartFailedError:
        return StartFailedError(
            f"the engine does not see this machine's workspace {project.workspace}: it runs elsewhere "
            f"({self._runtime.name}: {self._runtime.probe().detail})",
            runtime=self._runtime.name,
            subject=project.id,
            hint="Use an engine of this machine, or one that shares this directory under the same path.",
        )


def _go_on(project: Project, cancel: Cancel | None) -> None:
    if cancel is not None and cancel.cancelled:
        raise OperationCancelledError(f"the work on project {project.name} was cancelled", subject=project.id)
