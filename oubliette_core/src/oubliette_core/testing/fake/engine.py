"""The fake engine: what there is, whoever asks for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import ContainerNotFoundError, NameConflictError
from oubliette_core.models import Capability, ContainerSpec, ImageInfo
from oubliette_core.testing.fake.container import FakeContainer
from oubliette_core.testing.fake.faults import Calls, Faults, Switchboard
from oubliette_core.testing.fake.images import DEFAULT_PLATFORM, FakeRegistry, make_image
from oubliette_core.testing.fake.programs import standard_programs
from oubliette_core.testing.fake.store import ImageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oubliette_core.testing.fake.kernel import Program
    from oubliette_core.testing.fake.nodes import Directory

__all__ = ["FakeEngine"]

_CAPABILITIES = frozenset(Capability) - {
    Capability.MEMORY_LIMIT,
    Capability.CPU_LIMIT,
    Capability.CAPABILITIES,
    Capability.NETWORK_HOST,
    Capability.NETWORK_NAMED,
    Capability.VM_ISOLATION,
    Capability.ROOTLESS,
}
"""What the fake really does."""


class FakeEngine:
    """Images, containers and volumes in memory, with a registry to pull from and faults to script.

    :param platform: the engine's own, ``os/architecture``.
    :param without: capabilities that it is to lack.

    :ivar registry: what can be pulled; a `FakeRegistry`. :ivar images: what is present locally.
    :ivar faults: what is to go wrong. :ivar calls: how often each hook was called.
    :ivar programs: what commands do, by name; add functions of your own before a container is started.
    :ivar stall: seconds without an event after which a pull fails.
    """

    def __init__(self, *, platform: str = DEFAULT_PLATFORM, without: Iterable[Capability] = ()) -> None:
        self.name = "fake"
        self.board = Switchboard(self.name)
        self.registry = FakeRegistry(self.board)
        self.images = ImageStore(self.name, platform)
        self.faults = Faults(self.board)
        self.calls = Calls()
        self.programs: dict[str, Program] = standard_programs()
        self.capabilities = _CAPABILITIES - frozenset(without)
        self.volumes: dict[str, Directory] = {}
        self.stall = 120.0
        self._lock = threading.Lock()
        self._containers: dict[str, FakeContainer] = {}
        self._pulling: Callable[[], None] | None = None
        self.board.watch(self._wake_containers)

    # -- Going away -----------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Let the engine die: calls under way are lost, later ones find nothing. Containers live on."""
        self.board.turn(gone=True)

    def come_back(self) -> None:
        """Let the engine run again."""
        self.board.turn(gone=False)

    def shut_down(self) -> None:
        """End every container and let go of everything. Idempotent."""
        self.faults.clear()
        for container in self.containers():
            container.kill()
        with self._lock:
            self._containers.clear()

    def _wake_containers(self) -> None:
        for container in self.containers():
            if container.kernel is not None:
                container.kernel.wake()

    # -- Containers -----------------------------------------------------------------------------------------------

    def containers(self) -> list[FakeContainer]:
        """List all containers, in the order they were made."""
        with self._lock:
            return list(self._containers.values())

    def container(self, name: str) -> FakeContainer:
        """Return a container by its id or name. :raises ContainerNotFoundError: unknown."""
        for container in self.containers():
            if name in (container.id, container.name):
                return container
        raise ContainerNotFoundError(
            f"there is no container {name}", runtime=self.name, subject=name, hint="List them: oubliette container list"
        )

    def add_container(self, spec: ContainerSpec) -> FakeContainer:
        """Make a container of a local image."""
        image = self.images.find(spec.image, spec.platform)
        container = FakeContainer(spec, image, self.programs, self.volumes)
        with self._lock:
            if any(container.name == other.name for other in self._containers.values()):
                raise NameConflictError(
                    f"the name {container.name} is taken", runtime=self.name, subject=container.name
                )
            self._containers[container.id] = container
        return container

    def drop_container(self, container: FakeContainer) -> bool:
        """Forget a container; False if another call was first."""
        container.kill()
        with self._lock:
            return self._containers.pop(container.id, None) is not None

    # -- Images ---------------------------------------------------------------------------------------------------

    def add_image(self, reference: str, version: str = "1", **settings: Any) -> ImageInfo:
        """Have an image present locally, as if it had been built here; ``settings`` are those of `make_image`."""
        return self.images.add(reference, make_image(version, **{"platform": self.images.platform, **settings}))
