"""The hooks of the Apple runtime; each delegates to the module that knows."""

from __future__ import annotations

import platform
import time
from typing import TYPE_CHECKING, BinaryIO

from oubliette_apple import _errors, _options
from oubliette_apple._archive import Archives
from oubliette_apple._cli import Cli
from oubliette_apple._containers import Containers
from oubliette_apple._exec import Execs
from oubliette_apple._images import Images
from oubliette_apple._logs import Logs
from oubliette_apple._process import AppleProcess
from oubliette_core.errors import ContainerNotRunningError, OperationTimeoutError, OublietteError
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
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
    RuntimeSettings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PROBE = 1.9
_ON_ITS_OWN_GROUND = 60
_ELSEWHERE = 40


class AppleRuntime:
    """Containers as virtual machines, by Apple's ``container`` command.

    :param settings: options ``binary``, ``timeout`` and ``autostart``.
    :raises ConfigError: an option is wrong.
    """

    api_version = 1

    def __init__(self, settings: RuntimeSettings) -> None:
        self._cli = Cli(_options.read(settings.options))
        self._images = Images(self._cli)
        self._containers = Containers(self._cli, self._images)
        self._execs = Execs(self._cli, self._containers.inspect)
        self._logs = Logs(self._cli, lambda container: self._containers.inspect(container).running)
        self._archives = Archives(self._cli, self._execs)

    @hookimpl
    def probe(self) -> Probe:
        """Look for the command, then ask whether its service runs; start nothing."""
        native = platform.system() == "Darwin" and platform.machine() == "arm64"
        priority = _ON_ITS_OWN_GROUND if native else _ELSEWHERE
        deadline = time.monotonic() + _PROBE
        version = ""
        try:
            version = str(self._cli.version(timeout=_PROBE))
            left = max(0.1, deadline - time.monotonic())
            answer = self._cli.run("system", "status", operation="system status", timeout=left)
        except OperationTimeoutError as error:
            hint = "Restart it: container system stop && container system start --enable-kernel-install"
            return Probe(available=False, version=version, priority=priority, detail=error.message, hint=hint)
        except OublietteError as error:
            return Probe(available=False, version=version, priority=priority, detail=_where(error), hint=error.hint)
        if answer.code:
            detail = f"container {version} is installed, and its service is not running"
            return Probe(available=False, version=version, priority=priority, detail=detail, hint=_errors.START_HINT)
        return Probe(available=True, version=version, priority=priority, detail=f"container {version}")

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """Return what the installed version can enforce."""
        return self._cli.version().capabilities()

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
        return self._images.pull(image, platform, progress, cancel, timeout)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """Tell whether an image is here."""
        return self._images.find(image, platform) is not None

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """Describe an image."""
        return self._images.inspect(image, platform)

    @hookimpl
    def remove_image(self, image: str) -> bool:
        """Remove an image."""
        return self._images.remove(image)

    @hookimpl
    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """Build an image in Apple's builder."""
        return self._images.build(spec, progress, cancel)

    @hookimpl
    def load_images(
        self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageInfo, ...]:
        """Load an archive."""
        return self._images.load(archive, progress, cancel)

    @hookimpl
    def save_images(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """Write an archive."""
        return self._images.save(images, archive, cancel)

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Make a container."""
        return self._containers.create(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """Boot a container."""
        return self._containers.start(container)

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """Stop a container."""
        return self._containers.stop(container, grace)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """Remove a container."""
        return self._containers.remove(container, force)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """Describe a container."""
        return self._containers.inspect(container)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Describe containers."""
        return self._containers.list(dict(labels), running_only)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """Read what a container printed."""
        return self._logs.read(container, spec.tail, spec.follow)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """Run a command to its end."""
        return self._execs.run(container, spec, cancel)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """Start a command and talk to it."""
        if not self._containers.inspect(container).running:
            raise ContainerNotRunningError(
                f"container {container} is not running", runtime=_errors.NAME, subject=container
            )
        return AppleProcess(self._execs, container, spec)

    @hookimpl
    def copy_in(self, container: str, path: str, archive: BinaryIO) -> bool:
        """Unpack a tar stream in a container."""
        return self._archives.copy_in(container, path, archive)

    @hookimpl
    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """Read a tar stream from a container."""
        return self._archives.copy_out(container, path)

    @hookimpl
    def close(self) -> bool:
        """There is no connection; the command is looked for again when it is needed."""
        self._cli.forget()
        return True


def _where(error: OublietteError) -> str:
    if platform.system() == "Darwin":
        return error.message
    return f"{error.message} (it runs on macOS only, and this is {platform.system()})"
