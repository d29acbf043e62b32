"""A backend that hands every call on to the runtime under test, and counts it on the way.

It shows what the face in front of a backend lets through, for any runtime; and with fewer capabilities than the
runtime has, it shows what becomes of a setting that a backend does not declare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from oubliette_core.hookspecs import API_VERSION, hookimpl
from oubliette_core.models import (
    Cancel,
    Capability,
    ContainerInfo,
    ContainerSpec,
    ExecResult,
    ExecSpec,
    ImageInfo,
    LogSpec,
    Probe,
    Process,
    ProgressCallback,
)
from oubliette_core.plugins import build_runtime

if TYPE_CHECKING:
    from oubliette_core.runtime import Runtime

__all__ = ["Relay"]


class Relay:
    """The backend. Optional hooks are left out: `Runtime` refuses them before it looks for one.

    :param runtime: where the calls go. :param withheld: capabilities that are not declared, though the runtime has
        them.
    """

    api_version = API_VERSION

    def __init__(self, runtime: Runtime, withheld: frozenset[Capability] = frozenset()) -> None:
        self._runtime = runtime
        self._withheld = withheld
        self.calls: list[str] = []
        self.created: list[ContainerSpec] = []

    def face(self) -> Runtime:
        """Give the typed face of this backend, with the guard in front of it."""
        return build_runtime(self._runtime.name, self)

    def _counted(self, hook: str) -> Runtime:
        self.calls.append(hook)
        return self._runtime

    @hookimpl
    def probe(self) -> Probe:
        """Hand on."""
        return self._runtime.probe()

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """Declare what the runtime declares, but for what is withheld. Not counted: it asks for nothing."""
        return self._runtime.capabilities() - self._withheld

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Hand on."""
        runtime = self._counted("pull")
        return runtime.pull(image, platform=platform, progress=progress, cancel=cancel, timeout=timeout)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """Hand on."""
        return self._counted("exists").exists(image, platform=platform)

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """Hand on."""
        return self._counted("inspect_image").inspect_image(image, platform=platform)

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Hand on, and keep the specification."""
        self.created.append(spec)
        return self._counted("create").create(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """Hand on."""
        return self._counted("start").start(container)

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """Hand on."""
        return self._counted("stop").stop(container, grace=grace)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """Hand on."""
        return self._counted("remove").remove(container, force=force)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """Hand on."""
        return self._counted("inspect").inspect(container)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Hand on."""
        return self._counted("list_containers").list_containers(labels, running_only=running_only)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """Hand on."""
        return self._counted("logs").logs(container, spec)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """Hand on."""
        return self._counted("exec").exec(container, spec, cancel=cancel)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """Hand on."""
        return self._counted("open_exec").open_exec(container, spec)

    @hookimpl
    def close(self) -> bool:
        """Leave the runtime open: it is the kit's."""
        return True
