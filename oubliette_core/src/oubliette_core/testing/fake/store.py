"""The images that the fake engine has."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from oubliette_core.errors import ImageNotFoundError
from oubliette_core.models import ImageInfo
from oubliette_core.reference import Reference
from oubliette_core.testing.fake.images import full

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oubliette_core.testing.fake.images import FakeImage

__all__ = ["ImageStore"]


class ImageStore:
    """The images that are present locally, by reference and platform.

    :param platform: the engine's own.
    """

    def __init__(self, name: str, platform: str) -> None:
        self.name = name
        self.platform = platform
        self._lock = threading.RLock()
        self._images: dict[str, dict[str, FakeImage]] = {}
        self._shown: dict[str, str] = {}

    def add(self, reference: str, image: FakeImage, *, digest: bool = False) -> ImageInfo:
        """Keep an image under a reference, and under its digest when it was pulled."""
        with self._lock:
            self._keep(reference, image)
            if digest:
                self._keep(f"{Reference.parse(reference).name}@{image.digest}", image)
        return self.describe(image)

    def _keep(self, reference: str, image: FakeImage) -> None:
        if reference.startswith("sha256:"):
            # Loaded without a name: it is found by its id only.
            self._images.setdefault(reference, {})[image.platform] = image
            return
        shown = str(Reference.parse(reference).with_default_tag())
        if "@" in shown:
            shown = f"{Reference.parse(reference).name}@{Reference.parse(reference).digest}"
        self._shown[full(reference)] = shown
        self._images.setdefault(full(reference), {})[image.platform] = image

    def find(self, reference: str, platform: str | None) -> FakeImage:
        """Return a local image. :raises ImageNotFoundError: there is none, or not for this platform."""
        image = self.get(reference, platform)
        if image is None:
            suffix = f" for {platform}" if platform else ""
            raise ImageNotFoundError(
                f"image {reference}{suffix} is not present", runtime=self.name, subject=reference, hint="Pull it first."
            )
        return image

    def get(self, reference: str, platform: str | None) -> FakeImage | None:
        """Return a local image, or None; without a platform the engine's own comes first."""
        with self._lock:
            if reference.startswith("sha256:"):
                found = {image.platform: image for image in self.all() if image.id == reference}
            else:
                found = dict(self._images.get(full(reference), {}))
        if platform is not None:
            return found.get(platform)
        return found.get(self.platform) or next(iter(found.values()), None)

    def all(self) -> list[FakeImage]:
        """List the images, each once."""
        with self._lock:
            found = {image.id: image for images in self._images.values() for image in images.values()}
        return list(found.values())

    def layers(self) -> set[str]:
        """Return the short ids of all layers that are present."""
        return {image.layer_name(index) for image in self.all() for index in range(len(image.image.layers))}

    def tags(self, image: FakeImage) -> list[str]:
        """List the names with a tag that an image has."""
        return [self._shown[key] for key in self._tags(image) if key in self._shown]

    def remove(self, reference: str, in_use: Callable[[FakeImage], None]) -> bool:
        """Take a reference away, by name or all of an id.

        :param in_use: called with an image that would go; raises when it is needed.
        """
        with self._lock:
            if reference.startswith("sha256:"):
                keys = [key for key, images in self._images.items() if _has(images, reference)]
            else:
                keys = [full(reference)] if full(reference) in self._images else []
            leaving = [image for key in keys for image in self._images[key].values()]
            for image in leaving:
                if not set(self._tags(image)) - set(keys):
                    in_use(image)
            for key in keys:
                del self._images[key]
            for image in leaving:
                if not self._tags(image):
                    self._forget(image)
            return bool(keys)

    def _tags(self, image: FakeImage) -> list[str]:
        return [key for key, images in self._images.items() if _has(images, image.id) and "@" not in key]

    def _forget(self, image: FakeImage) -> None:
        for key in [key for key, images in self._images.items() if _has(images, image.id)]:
            self._images[key].pop(image.platform)
            if not self._images[key]:
                del self._images[key]

    def describe(self, image: FakeImage) -> ImageInfo:
        """Return what is told about an image."""
        with self._lock:
            found = (key for key, images in self._images.items() if _has(images, image.id))
            shown = [self._shown[key] for key in found if key in self._shown]
        return ImageInfo(
            id=image.id,
            references=tuple(sorted(name for name in shown if "@" not in name)),
            digests=tuple(sorted(name for name in shown if "@" in name)),
            size=image.size,
            platform=image.platform,
            created_at=image.created_at,
            labels=image.labels,
        )


def _has(images: Mapping[str, FakeImage], identity: str) -> bool:
    return any(image.id == identity for image in images.values())
