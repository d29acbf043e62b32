"""The containers of projects: start, stop, run commands, look."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from oubliette_core.errors import (
    ConflictError,
    ContainerNotFoundError,
    ContainerNotRunningError,
)
from oubliette_core.models import LABEL_GENERATION, LABEL_HOME, LABEL_PROJECT
from oubliette_core.services.container_types import find_type
from oubliette_core.services.records import ProjectStatus, RefreshResult
from oubliette_core.services.refresh import Refresher
from oubliette_core.services.together import for_each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oubliette_core.errors import RuntimeOperationError
    from oubliette_core.images import ImageManager
    from oubliette_core.models import (
        Cancel,
        ContainerInfo,
        ContainerType,
        ExecResult,
        ExecSpec,
        LogSpec,
        Process,
        ProgressCallback,
    )
    from oubliette_core.runtime import Runtime
    from oubliette_core.services.generations import Generations
    from oubliette_core.services.locks import ProjectLocks
    from oubliette_core.services.policy import ContainerPolicy
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.records import Outcome, Project
    from oubliette_core.services.sessions import Sessions

__all__ = ["Containers"]

T = TypeVar("T")


class Containers:
    """The projects' containers on one runtime. ``reference`` is a project's id, a unique prefix of it, or its name.

    Every method may raise `ProjectNotFoundError`, `ConflictError` (the prefix fits several projects, or the project
    is being deleted) and `BusyError` (another process works on the project and does not get done).

    :param images: gives the images, which are not needed for looking.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        images: Callable[[], ImageManager],
        types: Mapping[str, ContainerType],
        records: ProjectRecords,
        generations: Generations,
        sessions: Sessions,
        locks: ProjectLocks,
        policy: ContainerPolicy,
    ) -> None:
        self._runtime = runtime
        self._images = images
        self._types = types
        self._records = records
        self._generations = generations
        self._sessions = sessions
        self._locks = locks
        self._policy = policy
        self._refresher = Refresher(
            images=images, types=types, records=records, generations=generations, sessions=sessions, locks=locks
        )

    # -- One project ----------------------------------------------------------------------------------------------

    def start(
        self, reference: str, *, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> ProjectStatus:
        """Have the project's container running: make it where there is none, pulling a missing image first.

        Idempotent.

        :raises UnknownContainerTypeError: the type is no longer configured. :raises ImagePullError: no image.
        :raises StartFailedError: it ended at once, or it does not see this machine's workspace.
        """
        project = self._recover_if_free(self._get(reference))
        container_type = find_type(self._types, project.container_type)
        current = self._generations.current(project)
        if current is None:
            self._images().ensure_image_exists(container_type.name, progress=progress, cancel=cancel)
        elif current.running:
            return self._status(project, current)
        with self._locks.hold(project.id, cancel=cancel):
            project = self._generations.recover(self._get(project.id))
            current = self._generations.current(project)
            if current is None:
                runnable = self._images().runnable(container_type.name)
                current = self._generations.replace(project, runnable, cancel=cancel)
            elif not current.running:
                current = self._generations.start(project, current, cancel=cancel)
        return self._status(self._records.get(project.id), current)

    def stop(self, reference: str, *, grace: float = 10.0) -> ProjectStatus:
        """Stop the project's container, killing it after ``grace`` seconds; where there is none, nothing happens.

        :raises ActiveSessionsError: sessions are at work in it; nothing was touched.
        """
        project = self._get(reference)
        with self._locks.hold(project.id):
            project = self._generations.recover(self._get(project.id))
            current = self._generations.current(project)
            if current is not None and current.running:
                self._sessions.refuse_if_active(project, "stopped")
                current = self._runtime.stop(current.id, grace=grace)
        return self._status(project, current)

    def refresh(
        self,
        reference: str,
        *,
        if_changed: bool = False,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> RefreshResult:
        """Pull the image of the project's type and replace the container by a new one, which is then running.

        Workspace and HOME stay; what is in the container beside them is lost. If anything fails, the old container is
        as it was.

        :param if_changed: leave the container alone when its image is still the newest.
        :raises ContainerNotFoundError: there is no container to refresh.
        :raises ActiveSessionsError: sessions are at work in it; nothing was touched, nothing was pulled.
        :raises UnknownContainerTypeError: the type is no longer configured. :raises ImagePullError: no newer image.
        :raises StartFailedError: the new one ended at once, or does not see this machine's workspace.
        """
        project = self._recover_if_free(self._get(reference))
        swap = self._refresher.refresh(project, if_changed=if_changed, progress=progress, cancel=cancel)
        return RefreshResult(
            status=self._status(self._records.get(project.id), swap.after or swap.before),
            skipped=swap.after is None,
            image_changed=swap.image_id != swap.before.image_id,
            previous_image_id=swap.before.image_id,
            image_id=swap.image_id,
            was_running=swap.before.running,
        )

    def exec(self, reference: str, spec: ExecSpec, *, cancel: Cancel | None = None) -> ExecResult:
        """Run a command in the project's running container to its end: see `Runtime.exec`."""
        return self._with_current(reference, lambda name: self._runtime.exec(name, spec, cancel=cancel))

    def open_exec(self, reference: str, spec: ExecSpec) -> Process:
        """Start a command in the project's running container and talk to it: see `Runtime.open_exec`."""
        return self._with_current(reference, lambda name: self._runtime.open_exec(name, spec))

    def logs(self, reference: str, spec: LogSpec | None = None) -> Iterator[bytes]:
        """Return what the container's main process printed: see `Runtime.logs`.

        :raises ContainerNotFoundError: the project has no container.
        """
        return self._with_current(reference, lambda name: self._runtime.logs(name, spec))

    def get(self, reference: str) -> ProjectStatus:
        """Return a project with its container."""
        return self.status(self._records.find(reference))

    def status(self, project: Project) -> ProjectStatus:
        """Return a project that was found just now with its container."""
        project = self._recover_if_free(project)
        return self._status(project, self._generations.current(project))

    # -- All of them ----------------------------------------------------------------------------------------------

    def list(self) -> tuple[ProjectStatus, ...]:
        """Return all projects with their containers, sorted by name: one engine call, however many there are."""
        projects = tuple(map(self._recover_if_free, self._records.list()))
        found = {
            (info.labels.get(LABEL_PROJECT), info.labels.get(LABEL_GENERATION)): info
            for info in self._runtime.list_containers({LABEL_HOME: self._policy.home_id})
        }
        active: dict[str, tuple[str, ...]] = {}
        for session in self._sessions.active():
            active[session.project_id] = (*active.get(session.project_id, ()), session.id)
        return tuple(
            ProjectStatus(
                project=project,
                container=found.get((project.id, str(project.generation))),
                image=self._image(project),
                sessions=active.get(project.id, ()),
            )
            for project in projects
        )

    def stop_all(self, *, grace: float = 10.0) -> tuple[Outcome[ProjectStatus], ...]:
        """Stop all running containers of this home, in parallel; a failure of one does not keep the others."""
        running = [status.project.name for status in self.list() if status.container and status.container.running]
        return for_each(running, lambda name: self.stop(name, grace=grace))

    def unenforced(self) -> tuple[str, ...]:
        """Return the names of the built-in settings that the runtime cannot enforce and containers go without.

        :raises UnsupportedError: it lacks what is required.
        """
        return self._policy.unenforced(self._runtime.capabilities())

    # -- Inside ---------------------------------------------------------------------------------------------------

    def _get(self, reference: str) -> Project:
        """Find a project with which something can be done."""
        project = self._records.find(reference)
        if project.deleting:
            raise ConflictError(
                f"project {project.name} is being deleted",
                subject=project.id,
                hint=f"Finish that: oubliette project delete {project.name}",
            )
        return project

    def _recover_if_free(self, project: Project) -> Project:
        """Clear what an interrupted swap left behind; not while somebody is at it."""
        if not project.pending:
            return project
        with self._locks.attempt(project.id) as held:
            return self._generations.recover(project) if held else project

    def _with_current(self, reference: str, action: Callable[[str], T]) -> T:
        """Do something with the name of the project's container; once more when that was replaced just now."""
        project = self._recover_if_free(self._get(reference))
        while True:
            if not project.generation:
                raise self._absent(project)
            try:
                return action(self._generations.name(project))
            except (ContainerNotFoundError, ContainerNotRunningError) as error:
                latest = self._records.get(project.id)
                if latest.generation == project.generation:
                    raise self._absent(project, error) from error
                project = latest

    def _absent(self, project: Project, error: RuntimeOperationError | None = None) -> RuntimeOperationError:
        stopped = isinstance(error, ContainerNotRunningError)
        kind = ContainerNotRunningError if stopped else ContainerNotFoundError
        return kind(
            f"the container of project {project.name} is not running"
            if stopped
            else f"project {project.name} has no container",
            runtime=self._runtime.name,
            subject=project.id,
            hint=f"Start it: oubliette container start {project.name}",
        )

    def _status(self, project: Project, container: ContainerInfo | None) -> ProjectStatus:
        return ProjectStatus(
            project=project,
            container=container,
            image=self._image(project),
            sessions=tuple(session.id for session in self._sessions.active(project.id)),
        )

    def _image(self, project: Project) -> str:
        found = self._types.get(project.container_type)
        return found.image if found else ""
