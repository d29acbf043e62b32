"""`Runtime`: the typed face of one selected backend, and the guard in front of it.

Everyone in Oubliette, and everyone who uses it as a library, calls a backend through this class. It adds no policy
of its own: it checks what goes in, sees to it that nothing is asked for that the backend does not declare, and calls
the hook.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self, cast

import attrs
import pluggy

from oubliette_core import _guard
from oubliette_core.errors import InvalidSpecError, PluginError, UnsupportedError
from oubliette_core.hookspecs import OPTIONAL_HOOKS, SERVER_HOOKS
from oubliette_core.models import (
    LABEL_NOT_ENFORCED,
    BuildSpec,
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

__all__ = ["Runtime"]

_NO_LABELS: Mapping[str, str] = MappingProxyType({})
DEFAULT_GRACE = 10.0
"""Seconds between the stop signal and the kill, as Docker and Podman have it."""


class Runtime:
    """One loaded runtime: a backend and the wrappers around it.

    :param name: the backend's entry-point name. :param manager: holds exactly one backend, and wrappers.

    A context manager; `close` releases the backend's connections.
    """

    def __init__(self, name: str, manager: pluggy.PluginManager) -> None:
        self.name = name
        self._hook = manager.hook
        implemented = {caller for caller in SERVER_HOOKS if _has_backend(getattr(self._hook, caller))}
        self.missing_hooks: frozenset[str] = SERVER_HOOKS - implemented
        """Hooks that the server needs and the backend lacks; empty for a complete backend."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Runtime {self.name}>"

    # -- The engine -----------------------------------------------------------------------------------------------

    def probe(self) -> Probe:
        """Tell whether the engine can be used now; never raises."""
        return cast(Probe, self._call("probe"))

    def capabilities(self) -> frozenset[Capability]:
        """Return what the backend enforces or does."""
        return cast("frozenset[Capability]", self._call("capabilities"))

    def close(self) -> None:
        """Release connections. Idempotent."""
        if "close" not in self.missing_hooks:
            self._call("close")

    # -- Images ---------------------------------------------------------------------------------------------------

    def pull(
        self,
        image: str,
        *,
        platform: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
        timeout: float | None = None,
    ) -> ImageInfo:
        """Download an image: see `RuntimeSpec.pull`."""
        if platform is not None:
            _guard.platform(platform)
        timeout = _guard.seconds(timeout, "timeout", minimum=0.001)
        result = self._call(
            "pull", image=_guard.image(image), platform=platform, progress=progress, cancel=cancel, timeout=timeout
        )
        return cast(ImageInfo, result)

    def exists(self, image: str, *, platform: str | None = None) -> bool:
        """Tell whether an image is present locally: see `RuntimeSpec.exists`."""
        reference = _guard.image(image, allow_id=True)
        return cast(bool, self._call("exists", image=reference, platform=_guard.platform(platform)))

    def inspect_image(self, image: str, *, platform: str | None = None) -> ImageInfo:
        """Describe a local image: see `RuntimeSpec.inspect_image`."""
        reference = _guard.image(image, allow_id=True)
        return cast(ImageInfo, self._call("inspect_image", image=reference, platform=_guard.platform(platform)))

    def remove_image(self, image: str) -> bool:
        """Remove an image: see `RuntimeSpec.remove_image`."""
        return cast(bool, self._optional("remove_image", image=_guard.image(image, allow_id=True)))

    def build(
        self, spec: BuildSpec, *, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> ImageInfo:
        """Build an image: see `RuntimeSpec.build`."""
        return cast(ImageInfo, self._optional("build", spec=_guard.build_spec(spec), progress=progress, cancel=cancel))

    def load_images(
        self, archive: Path, *, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> tuple[ImageInfo, ...]:
        """Load images from an archive: see `RuntimeSpec.load_images`."""
        if not archive.is_file():
            raise InvalidSpecError(f"{archive} is not a file", value=str(archive))
        result = self._optional("load_images", archive=archive, progress=progress, cancel=cancel)
        return cast("tuple[ImageInfo, ...]", result)

    def save_images(self, images: tuple[str, ...], archive: Path, *, cancel: Cancel | None = None) -> Path:
        """Write images into an archive: see `RuntimeSpec.save_images`."""
        references = tuple(_guard.image(image, allow_id=True) for image in images)
        if not references:
            raise InvalidSpecError("no images were named")
        return cast(Path, self._optional("save_images", images=references, archive=archive, cancel=cancel))

    # -- Containers -----------------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Make a stopped container: see `RuntimeSpec.create`.

        :raises UnsupportedError: a required setting is not among the backend's capabilities; nothing was done.
        :raises InvalidSpecError: the specification is malformed; nothing was done.
        """
        spec, left_out = _guard.enforceable(_guard.container_spec(spec), self.capabilities(), self.name)
        if left_out:
            labels = {**spec.labels, LABEL_NOT_ENFORCED: ",".join(left_out)}
            spec = attrs.evolve(spec, labels=labels)
        return _complete(self._call("create", spec=spec))

    def start(self, container: str) -> ContainerInfo:
        """Start a container: see `RuntimeSpec.start`."""
        return _complete(self._call("start", container=_guard.container(container)))

    def stop(self, container: str, *, grace: float = DEFAULT_GRACE) -> ContainerInfo:
        """Stop a container, killing it after ``grace`` seconds: see `RuntimeSpec.stop`."""
        seconds = _guard.seconds(grace, "grace")
        return _complete(self._call("stop", container=_guard.container(container), grace=seconds))

    def remove(self, container: str, *, force: bool = False) -> bool:
        """Remove a container: see `RuntimeSpec.remove`."""
        return cast(bool, self._call("remove", container=_guard.container(container), force=force))

    def inspect(self, container: str) -> ContainerInfo:
        """Describe a container: see `RuntimeSpec.inspect`."""
        return _complete(self._call("inspect", container=_guard.container(container)))

    def list_containers(
        self, labels: Mapping[str, str] = _NO_LABELS, *, running_only: bool = False
    ) -> tuple[ContainerInfo, ...]:
        """Describe the containers with these labels: see `RuntimeSpec.list_containers`."""
        found = self._call("list_containers", labels=_guard.labels(labels), running_only=running_only)
        return tuple(_complete(info) for info in found)

    def logs(self, container: str, spec: LogSpec | None = None) -> Iterator[bytes]:
        """Return what the main process printed: see `RuntimeSpec.logs`."""
        spec = _guard.log_spec(spec or LogSpec())
        if spec.follow:
            self._need(Capability.LOGS_FOLLOW, container)
        if spec.since is not None:
            self._need(Capability.LOGS_SINCE, container)
        return cast("Iterator[bytes]", self._call("logs", container=_guard.container(container), spec=spec))

    def exec(self, container: str, spec: ExecSpec, *, cancel: Cancel | None = None) -> ExecResult:
        """Run a command to its end or deadline: see `RuntimeSpec.exec`."""
        self._check_exec(container, spec)
        return cast(ExecResult, self._call("exec", container=container, spec=spec, cancel=cancel))

    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """Start a command and talk to it: see `RuntimeSpec.open_exec`."""
        self._check_exec(container, spec)
        return cast(Process, self._call("open_exec", container=container, spec=spec))

    def copy_in(self, container: str, path: str, archive: BinaryIO) -> None:
        """Unpack a tar stream into a directory of the container: see `RuntimeSpec.copy_in`."""
        name, inside = _guard.container(container), _guard.path_inside(path, "path")
        self._optional("copy_in", container=name, path=inside, archive=archive)

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """Return a file or directory of the container as a tar stream: see `RuntimeSpec.copy_out`."""
        name, inside = _guard.container(container), _guard.path_inside(path, "path")
        return cast("Iterator[bytes]", self._optional("copy_out", container=name, path=inside))

    # -- Calling --------------------------------------------------------------------------------------------------

    def _check_exec(self, container: str, spec: ExecSpec) -> None:
        _guard.container(container)
        _guard.exec_spec(spec)
        if spec.tty:
            self._need(Capability.TTY, container)
        if spec.user is not None:
            self._need(Capability.USER, container)

    def _need(self, capability: Capability, subject: str) -> None:
        if capability not in self.capabilities():
            raise UnsupportedError(
                f"runtime {self.name} does not support {capability.value}",
                capability=capability.value,
                runtime=self.name,
                subject=subject,
            )

    def _optional(self, hook: str, **arguments: object) -> Any:
        self._need(OPTIONAL_HOOKS[hook], "")
        return self._call(hook, **arguments)

    def _call(self, hook: str, **arguments: object) -> Any:
        caller = getattr(self._hook, hook)
        if hook in self.missing_hooks or not _has_backend(caller):
            raise UnsupportedError(f"runtime {self.name} does not implement {hook}", capability=hook, runtime=self.name)
        result = caller(**arguments)
        if result is None:
            raise PluginError(f"runtime {self.name} returned nothing from {hook}", runtime=self.name)
        return result


def _complete(info: ContainerInfo) -> ContainerInfo:
    """Fill in ``not_enforced``, which is kept in a label so that it is known for as long as the container exists."""
    left_out = info.labels.get(LABEL_NOT_ENFORCED)
    return attrs.evolve(info, not_enforced=tuple(left_out.split(","))) if left_out else info


def _has_backend(caller: pluggy.HookCaller) -> bool:
    return any(not (impl.wrapper or impl.hookwrapper) for impl in caller.get_hookimpls())
