"""Removing what a runtime holds or has made of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette_core.services.throwaway import remove_as_root

if TYPE_CHECKING:
    from oubliette_core.images import ImageManager
    from oubliette_core.runtime import Runtime
    from oubliette_core.services.generations import Generations
    from oubliette_core.services.records import Project

__all__ = ["Removal"]


class Removal:
    """The part of a project's deletion that needs a runtime."""

    def __init__(self, runtime: Runtime, generations: Generations, images: ImageManager) -> None:
        self._runtime = runtime
        self._generations = generations
        self._images = images

    def containers(self, project: Project) -> str:
        """Remove every container of a project; return the image of one, or nothing."""
        current = self._generations.current(project)
        self._generations.discard(project)
        return current.image_id or current.image if current else ""

    def files(self, project: Project, image: str, *, keep_workspace: bool) -> None:
        """Remove files that belong to users of the project's containers, as far as that can be done."""
        found = image if image and self._runtime.exists(image) else self._local(project.container_type)
        if found:
            labels = self._generations.labels(project)
            remove_as_root(self._runtime, project, found, labels, keep_workspace=keep_workspace)

    def _local(self, container_type: str) -> str:
        """Return the id of a container type's local image; nothing where there is none, or no such type any more."""
        known = self._images.is_valid_type(container_type)
        info = self._images.find_local(container_type) if known else None
        return info.id if info is not None else ""
