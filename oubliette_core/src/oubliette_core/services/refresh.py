"""Replacing a project's container by one from the newest image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import ContainerNotFoundError
from oubliette_core.services.container_types import find_type

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oubliette_core.images import ImageManager
    from oubliette_core.models import Cancel, ContainerInfo, ContainerType, ProgressCallback
    from oubliette_core.services.generations import Generations
    from oubliette_core.services.locks import ProjectLocks
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.records import Project
    from oubliette_core.services.sessions import Sessions

__all__ = ["Refresher", "Swap"]


@attrs.frozen(kw_only=True)
class Swap:
    """What a refresh did. :param after: None when the container was left alone."""

    before: ContainerInfo
    after: ContainerInfo | None
    image_id: str


class Refresher:
    """Refreshes projects: pulls first, for as long as that takes, and locks the project for the swap alone."""

    def __init__(
        self,
        *,
        images: Callable[[], ImageManager],
        types: Mapping[str, ContainerType],
        records: ProjectRecords,
        generations: Generations,
        sessions: Sessions,
        locks: ProjectLocks,
    ) -> None:
        self._images = images
        self._types = types
        self._records = records
        self._generations = generations
        self._sessions = sessions
        self._locks = locks

    def refresh(
        self, project: Project, *, if_changed: bool, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> Swap:
        """Refresh a project: see `Containers.refresh`."""
        container_type = find_type(self._types, project.container_type)
        before = self._refreshable(project)
        # Where policy or dev mode forbid to pull, this asks for the local image.
        image_id = self._images().pull(container_type.name, progress=progress, cancel=cancel).id
        if if_changed and image_id == before.image_id:
            return Swap(before=before, after=None, image_id=image_id)
        with self._locks.hold(project.id, cancel=cancel):
            # Much can have happened during the pull.
            project = self._generations.recover(self._records.get(project.id))
            before = self._refreshable(project)
            runnable = self._images().runnable(container_type.name)
            after = self._generations.replace(project, runnable, cancel=cancel)
        return Swap(before=before, after=after, image_id=after.image_id or image_id)

    def _refreshable(self, project: Project) -> ContainerInfo:
        """Return the container of a project in which nothing is at work."""
        current = self._generations.current(project)
        if current is None:
            raise ContainerNotFoundError(
                f"project {project.name} has no container to refresh",
                subject=project.id,
                hint=f"Make one: oubliette container start {project.name}",
            )
        self._sessions.refuse_if_active(project, "refreshed")
        return current
