"""The hooks about images, over an `ImageStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from pathlib import Path

    from oubliette_core.models import Cancel, ImageInfo, ProgressCallback
    from oubliette_embedded.images._store import ImageStore

__all__ = ["ImageHooks"]


class ImageHooks:
    """What a runtime answers about images. Each method is described in `RuntimeSpec`.

    :param images: where they are.
    """

    def __init__(self, images: ImageStore) -> None:
        self._images = images

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Download an image."""
        return self._images.pull(image, platform, progress=progress, cancel=cancel, timeout=timeout)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """Tell whether an image is here."""
        return self._images.exists(image, platform)

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """Describe an image."""
        return self._images.inspect(image, platform)

    @hookimpl
    def remove_image(self, image: str) -> bool:
        """Remove a reference, and the image with the last of them."""
        return self._images.remove(image)

    @hookimpl
    def load_images(
        self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageInfo, ...]:
        """Load images from an archive."""
        return self._images.load(archive, progress, cancel)

    @hookimpl
    def save_images(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """Write images into an archive."""
        return self._images.save(images, archive, cancel)
