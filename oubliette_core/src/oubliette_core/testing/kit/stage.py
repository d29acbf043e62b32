"""What the cases play on: a runtime, a registry, images and containers, and their removal."""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from oubliette_core.errors import OublietteError
from oubliette_core.models import (
    LABEL_HOME,
    Capability,
    ContainerInfo,
    ContainerSpec,
    ImageInfo,
    Mount,
    ProgressCallback,
)
from oubliette_core.testing.images import (
    File,
    Image,
    Index,
    build_image,
    busybox_image,
    busybox_layer,
    files_layer,
)
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.witness import witnessed

if TYPE_CHECKING:
    from oubliette_core.models import Cancel
    from oubliette_core.runtime import Runtime
    from oubliette_core.testing.faults import Fault
    from oubliette_core.testing.images import Layer

__all__ = ["FOREIGN_PLATFORM", "Maker", "Published", "Registry", "Stage", "making", "unique"]

FOREIGN_PLATFORM = "linux/s390x"
"""A platform that no machine of the kit's users has."""
IDLE = (
    "/bin/sh",
    "-c",
    "trap 'exit 0' TERM INT; while :; do /bin/busybox sleep 3600 & wait $!; done",
)
"""A main process that does nothing until it is told to stop."""
PATH = "/usr/local/bin:/usr/bin:/bin"
NOT_EXECUTABLE = "/kit/not-executable"
DATA = b"what the image brought along\n"


def unique() -> str:
    """Give a short word that nobody else has; digits only, so that it serves as a number of seconds, too."""
    return str(1_000_000_000 + secrets.randbelow(1_000_000_000))


FaultT = TypeVar("FaultT", bound="Fault")


class Registry(Protocol):
    """What the kit needs of a registry: `oubliette_core.testing.registry.FaultRegistry` is one."""

    address: str

    def add(self, image: Image | Index, repository: str, tag: str = "latest") -> str:
        """Serve an image; an existing tag is moved. Gives the reference to pull."""

    def fail(self, repository: str, fault: FaultT) -> FaultT:
        """From now on answer in ``repository`` as ``fault`` says."""

    def heal(self, repository: str) -> None:
        """Answer well again in ``repository``, and let go on what waits."""

    def count(self, kind: str | None = None, *, repository: str | None = None, method: str | None = None) -> int:
        """Give the number of requests so far."""


@attrs.frozen(kw_only=True)
class Published:
    """An image that the kit's registry has.

    :param reference: with its tag. :param name: registry and repository, without tag.
    """

    reference: str
    name: str
    repository: str
    image: Image | Index

    @property
    def by_digest(self) -> str:
        """The reference by the manifest's digest."""
        return f"{self.name}@{self.image.digest}"


class Stage:
    """Made once for a run of the kit over one runtime.

    :param make_runtime: gives the runtime under test; what several calls give works with the same engine.
    :param registry: serves images to the engine. :param busybox: what images are made of.
    :param folder: for files of the kit that the engine need not see.

    :ivar capabilities: what the runtime declares. :ivar facts: what a report says about it.
    :ivar images: references and ids of all images that cases brought to the engine.
    """

    def __init__(self, make_runtime: Callable[[], Runtime], registry: Registry, *, busybox: Path, folder: Path) -> None:
        self.make_runtime = make_runtime
        self.registry = registry
        self.folder = folder
        self.runtime = witnessed(make_runtime())
        self.capabilities: frozenset[Capability] = self.runtime.capabilities()
        self.facts = {
            "runtime": self.runtime.name,
            "version": self.runtime.probe().version,
            "capabilities": sorted(one.value for one in self.capabilities),
        }
        self.home = f"kit-{secrets.token_hex(4)}"
        sample = busybox_image(busybox)
        self.platform = sample.platform
        self.images: list[str] = []
        self._busybox = sample.layers[0]
        self._shell_only = busybox_layer(busybox.read_bytes(), ("sh",))
        self._base: Published | None = None
        self._box: Box | None = None
        self._maker = Maker(self)

    def close(self) -> None:
        """Remove what all cases shared, and close the runtime."""
        try:
            self.leave()
        finally:
            self.runtime.close()

    def leave(self) -> None:
        """Remove what all cases shared; the next case that needs some of it gets another."""
        self._base = self._box = None
        self._maker.close()

    @staticmethod
    def nowhere() -> str:
        """Give the address of a registry that is not there."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            return f"127.0.0.1:{taken.getsockname()[1]}"

    def image(self, *layers: Layer, shell_only: bool = False, **settings: Any) -> Image:
        """Make an image that nobody else has: busybox, a layer of its own, ``layers``; ``settings`` of `build_image`.

        :param shell_only: with ``/bin/sh`` and no other command on PATH.
        """
        word = unique()
        own = files_layer(
            {
                "/kit": File(mode=0o755),
                "/kit/data": DATA,
                NOT_EXECUTABLE: "#!/bin/sh\necho never\n",
                "/kit/unique": word,
            }
        )
        labels = {"dev.oubliette.kit": word, **settings.pop("labels", {})}
        env = {"PATH": PATH, **settings.pop("env", {})}
        defaults = {"command": IDLE, "platform": self.platform}
        system = self._shell_only if shell_only else self._busybox
        return build_image(system, own, *layers, labels=labels, env=env, **{**defaults, **settings})

    def exit_code(self, code: int) -> int | None:
        """Give what the runtime has to say of a main process that ended with ``code``."""
        return code if Capability.EXIT_CODE in self.capabilities else None

    @property
    def base(self) -> str:
        """Reference of an image that has been pulled and does nothing until it is stopped."""
        if self._base is None:
            self._base = self._maker.pulled()
        return self._base.reference

    @property
    def box(self) -> Box:
        """A running container that cases share; a new one when a case has spoiled it."""
        if self._box is None or not self._runs(self._box):
            self._box = self._maker.running()
        return self._box

    def _runs(self, box: Box) -> bool:
        with contextlib.suppress(OublietteError):
            return box.inspect().running
        return False


class Maker:
    """Makes images and containers, and removes those that it made.

    Containers carry the label of the stage's home, so that a case finds them with `Maker.listed`.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._runtime = stage.runtime
        self._space = f"kit/{secrets.token_hex(4)}"
        self._case = secrets.token_hex(4)
        self._images: list[str] = []
        self._containers: list[str] = []

    @property
    def labels(self) -> dict[str, str]:
        """What every container of this maker carries."""
        return {LABEL_HOME: self.stage.home, "dev.oubliette.kit.case": self._case}

    # -- Images ---------------------------------------------------------------------------------------------------

    def publish(self, image: Image | Index | None = None, name: str = "app", tag: str = "latest") -> Published:
        """Have the registry serve an image; an existing tag is moved."""
        image = image or self.stage.image()
        repository = f"{self._space}/{name}"
        reference = self.stage.registry.add(image, repository, tag)
        return Published(reference=reference, name=reference.rpartition(":")[0], repository=repository, image=image)

    def absent(self) -> str:
        """Give a reference in the registry under which there is nothing."""
        return f"{self.stage.registry.address}/{self._space}/absent:{unique()}"

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
        timeout: float | None = None,
    ) -> ImageInfo:
        """Pull an image, and remove it at the end whether that succeeds or not."""
        self.remove_later(reference)
        info = self._runtime.pull(reference, platform=platform, progress=progress, cancel=cancel, timeout=timeout)
        self.remove_later(info.id)
        return info

    def pulled(self, image: Image | Index | None = None, name: str = "app", tag: str = "latest") -> Published:
        """Publish an image and pull it."""
        published = self.publish(image, name, tag)
        self.pull(published.reference)
        return published

    def remove_later(self, image: str) -> str:
        """Remove an image, given by reference or id, at the end; give it back."""
        self._images.append(image)
        self.stage.images.append(image)
        return image

    # -- Containers -----------------------------------------------------------------------------------------------

    def spec(self, *command: str, **fields: Any) -> ContainerSpec:
        """Make a specification: the base image and its own command, unless others are given."""
        labels = {**self.labels, **fields.pop("labels", {})}
        image = fields.pop("image", None) or self.stage.base
        return ContainerSpec(image=image, command=command or None, labels=labels, **fields)

    def created(self, *command: str, **fields: Any) -> ContainerInfo:
        """Create a container."""
        info = self._runtime.create(self.spec(*command, **fields))
        self._containers.append(info.id)
        return info

    def running(self, *command: str, **fields: Any) -> Box:
        """Create a container and start it."""
        return Box(self._runtime, self._runtime.start(self.created(*command, **fields).id).id)

    def name(self) -> str:
        """Give a name that no container has."""
        return f"kit-{unique()}"

    def bind(self, folder: Path, target: str = "/shared", *, read_only: bool = False) -> Mount:
        """Give the mount of a directory that any user of a container may write to."""
        folder.chmod(0o777)
        return Mount(source=str(folder), target=target, read_only=read_only)

    def listed(self, labels: Mapping[str, str] | None = None, *, running_only: bool = False) -> list[ContainerInfo]:
        """List the containers of this maker, by id."""
        found = self._runtime.list_containers({**self.labels, **(labels or {})}, running_only=running_only)
        return sorted(found, key=lambda info: info.id)

    # -- Removing -------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Remove what was made; what cannot be removed is seen at the end of the run."""
        self.remove_containers()
        if Capability.REMOVE_IMAGE in self.stage.capabilities:
            for reference in self._images:
                with contextlib.suppress(OublietteError):
                    self._runtime.remove_image(reference)

    def remove_containers(self) -> None:
        """Remove the containers: those that we know of, and those that were made without our help."""
        listed = (info.id for info in self._runtime.list_containers(self.labels))
        for container in dict.fromkeys((*self._containers, *listed)):
            with contextlib.suppress(OublietteError):
                self._runtime.remove(container, force=True)


@contextlib.contextmanager
def making(stage: Stage) -> Iterator[Maker]:
    """Give a maker for one case, and remove what it made."""
    with contextlib.closing(Maker(stage)) as maker:
        yield maker
