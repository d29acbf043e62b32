"""The embedded runtime: each hook, handed on to where it is done."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from oubliette_core.errors import RuntimeUnavailableError
from oubliette_core.hookspecs import API_VERSION, hookimpl
from oubliette_core.models import Capability, Probe
from oubliette_embedded._capabilities import ELSEWHERE, PRIORITY, Surroundings, wrong_machine
from oubliette_embedded._options import RUNTIME, parse_options
from oubliette_embedded.images import ImageHooks, ImageStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.models import (
        Cancel,
        ContainerInfo,
        ContainerSpec,
        ExecResult,
        ExecSpec,
        LogSpec,
        Process,
        RuntimeSettings,
    )
    from oubliette_embedded._containers import Containers

__all__ = ["EmbeddedRuntime"]


class EmbeddedRuntime(ImageHooks):
    """Containers on Linux without a daemon, an engine or root.

    :raises ConfigError: the options are wrong (see `parse_options`).
    """

    api_version = API_VERSION

    def __init__(self, settings: RuntimeSettings) -> None:
        self._options = parse_options(settings.options)
        super().__init__(ImageStore(self._options.root / "images"))
        self._around = Surroundings(self._options)

    @functools.cached_property
    def _containers(self) -> Containers:
        """What works on containers; it takes modules that only Linux has."""
        if wrong := wrong_machine():
            raise RuntimeUnavailableError(wrong, runtime=RUNTIME)
        from oubliette_embedded._containers import Containers  # noqa: PLC0415
        from oubliette_embedded._places import Places  # noqa: PLC0415
        from oubliette_embedded._starting import Starter  # noqa: PLC0415

        around = self._around
        starter = Starter(self._options, self._images, mapped=around.mapped, groups=around.groups, way=around.way)
        oom_known = Capability.OOM_REPORT in around.capabilities()
        return Containers(Places(self._options.root), self._images, starter, oom_known=oom_known)

    @hookimpl
    def probe(self) -> Probe:
        """See `RuntimeSpec.probe`."""
        if wrong := wrong_machine():
            return Probe(available=False, priority=PRIORITY, detail=wrong, hint=ELSEWHERE)
        from oubliette_embedded._probe import probe  # noqa: PLC0415

        return probe(self._options, self._around.remarks())

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """See `RuntimeSpec.capabilities`."""
        return self._around.capabilities()

    @hookimpl
    def close(self) -> bool:
        """See `RuntimeSpec.close`."""
        if "_containers" in vars(self):
            self._containers.close()
        return True

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """See `RuntimeSpec.create`."""
        return self._containers.create(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.start`."""
        return self._containers.start(container)

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """See `RuntimeSpec.stop`."""
        return self._containers.stop(container, grace)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """See `RuntimeSpec.remove`."""
        return self._containers.remove(container, force=force)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.inspect`."""
        return self._containers.inspect(container)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """See `RuntimeSpec.list_containers`."""
        return self._containers.list_containers(labels, running_only=running_only)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """See `RuntimeSpec.logs`."""
        directory = self._containers.find(container)
        from oubliette_embedded import _logs  # noqa: PLC0415

        return _logs.read(directory, spec)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """See `RuntimeSpec.exec`."""
        directory = self._containers.find(container)
        from oubliette_embedded import _exec  # noqa: PLC0415

        return _exec.run(directory, spec, cancel)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """See `RuntimeSpec.open_exec`."""
        directory = self._containers.find(container)
        from oubliette_embedded._exec import Command  # noqa: PLC0415
        from oubliette_embedded._process import EmbeddedProcess  # noqa: PLC0415

        return EmbeddedProcess(Command(directory, spec), tty=spec.tty)
