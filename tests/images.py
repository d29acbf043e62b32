"""Test images in the loopback registry, each test's in repositories of its own."""

import dataclasses
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from oubliette_core.testing.images import Image, Index, busybox_image
from oubliette_core.testing.upload import push
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PushedImage:
    """An image that a registry has under `reference` (registry/repository:tag)."""

    repository: str
    reference: str
    image: Image | Index

    @property
    def digest(self) -> str:
        """The digest of its manifest."""
        return self.image.digest


class ImageMaker:
    """Makes busybox images and pushes them; removes from the engine what was pulled of them.

    The images carry a label that no other test's images have, so that removing them takes nothing from others.
    """

    def __init__(self, engine: Engine, busybox: Path) -> None:
        self._engine = engine
        self._busybox = busybox
        self._space = f"t{uuid.uuid4().hex[:10]}"
        self._made: set[str] = set()

    def make(self, **settings: Any) -> Image:
        """Make an image of `settings` (those of `busybox_image`) and push it nowhere."""
        labels = {"dev.oubliette.test": self._space, **settings.pop("labels", {})}
        image = busybox_image(self._busybox, labels=labels, **settings)
        self._made |= {image.image_id, image.digest}  # engines that keep images in containerd have the digest as id
        return image

    def push(self, name: str = "app", tag: str = "latest", **settings: Any) -> PushedImage:
        """Make an image of `settings` (those of `busybox_image`) and push it; an existing tag is moved."""
        return self.push_made(self.make(**settings), name, tag)

    def push_made(self, image: Image | Index, name: str = "app", tag: str = "latest") -> PushedImage:
        """Push an image or an index that `make` made the parts of."""
        repository = f"{self._space}/{name}"
        push(image, self._engine.registry, repository, tag)
        return PushedImage(repository=repository, reference=f"{self._engine.registry}/{repository}:{tag}", image=image)

    def close(self) -> None:
        """Remove from the engine what was pulled, under whatever names."""
        for image in self._made:
            docker_request(self._engine.docker_host, "DELETE", f"/images/{image}?force=1")


StartEngine = Callable[..., Engine]


class Enter(Protocol):
    """Enters what starts engines."""

    def __call__(self, provider: AbstractContextManager[T], /) -> T:
        """Return what it gives."""
