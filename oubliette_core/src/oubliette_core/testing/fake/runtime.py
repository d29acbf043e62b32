"""`FakeRuntime`: a complete runtime without an engine, for the tests of everything above a runtime."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from oubliette_core.errors import (
    ImageBuildError,
    ImagePullError,
    InUseError,
    InvalidSpecError,
    OperationCancelledError,
    RuntimeOperationError,
)
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
    ProgressCallback,
    ProgressEvent,
    RuntimeSettings,
)
from oubliette_core.testing.fake.archive import pack, unpack
from oubliette_core.testing.fake.build import Build
from oubliette_core.testing.fake.command import FakeProcess, run_command, start_command
from oubliette_core.testing.fake.download import Download
from oubliette_core.testing.fake.engine import FakeEngine
from oubliette_core.testing.fake.image_archive import read_archive
from oubliette_core.testing.images import docker_archive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.testing.fake.container import FakeContainer
    from oubliette_core.testing.fake.faults import Calls, Fault, Faults
    from oubliette_core.testing.fake.images import FakeImage, FakeRegistry

__all__ = ["FakeRuntime"]


class FakeRuntime:
    """A backend whose engine is in memory.

    :param settings: as for every runtime; it has no options.
    :param engine: the engine to use; several runtimes can share one. None makes a new one.

    Commands are interpreted, not executed: the shell and about seventy programs know what scripts in tests use, and
    ``engine.programs["git"] = function`` adds one of your own. Files are in memory, but for bind mounts, whose
    sources are real. See `oubliette_core.testing.fake` for what it cannot do.
    """

    api_version = 1

    def __init__(self, settings: RuntimeSettings, engine: FakeEngine | None = None) -> None:
        self.settings = settings
        self.engine = engine or FakeEngine()

    @property
    def registry(self) -> FakeRegistry:
        """What can be pulled."""
        return self.engine.registry

    @property
    def faults(self) -> Faults:
        """What is to go wrong."""
        return self.engine.faults

    @property
    def calls(self) -> Calls:
        """How often each hook was called."""
        return self.engine.calls

    def _enter(self, hook: str, subject: str, cancel: Cancel | None = None, **arguments: Any) -> Fault | None:
        """Count a call, and let it fail or hang as scripted; returns the fault for what it does later."""
        engine = self.engine
        number = engine.calls.note(hook, arguments)
        if engine.board.gone:
            raise engine.board.unavailable()
        fault = engine.faults.take(hook, number)
        if not engine.faults.enter(fault, subject, cancel):
            raise self._cancelled(hook, subject)
        return fault

    def _cancelled(self, hook: str, subject: str) -> RuntimeOperationError:
        message = f"{hook} of {subject} was cancelled"
        if hook == "build":
            return ImageBuildError(message, runtime=self.engine.name, subject=subject)
        if hook in ("pull", "load_images"):
            return ImagePullError(message, reason="cancelled", runtime=self.engine.name, subject=subject)
        return OperationCancelledError(message, runtime=self.engine.name, subject=subject)

    # -- The engine -----------------------------------------------------------------------------------------------

    @hookimpl
    def probe(self) -> Probe:
        """Tell whether the engine is there; scripted faults of ``probe`` make it unavailable."""
        number = self.engine.calls.note("probe", {})
        fault = self.engine.faults.take("probe", number)
        if self.engine.board.gone or fault is not None:
            return Probe(
                available=False, priority=1, detail="the fake engine is not running", hint="engine.come_back()"
            )
        return Probe(available=True, version="1", priority=1, detail="in memory, for tests")

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """Return what the fake really does."""
        self.engine.calls.note("capabilities", {})
        return self.engine.capabilities

    @hookimpl
    def close(self) -> bool:
        """Let go of nothing: the engine and its containers stay until `FakeEngine.shut_down`."""
        self.engine.calls.note("close", {})
        return True

    # -- Images ---------------------------------------------------------------------------------------------------

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Download from the fake registry."""
        fault = self._enter("pull", image, cancel, image=image, platform=platform)
        cut = fault.after if fault else None
        download = Download(self.engine, image, platform, progress=progress, cancel=cancel, timeout=timeout, cut=cut)
        return download.run()

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """Look into the local images."""
        self._enter("exists", image, image=image, platform=platform)
        return self.engine.images.get(image, platform) is not None

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """Describe a local image."""
        self._enter("inspect_image", image, image=image, platform=platform)
        return self.engine.images.describe(self.engine.images.find(image, platform))

    @hookimpl
    def remove_image(self, image: str) -> bool:
        """Remove a local image."""
        self._enter("remove_image", image, image=image)
        return self.engine.images.remove(image, lambda found: self._refuse_if_used(found, image))

    def _refuse_if_used(self, image: FakeImage, reference: str) -> None:
        users = [container.name for container in self.engine.containers() if container.image.id == image.id]
        if users:
            raise InUseError(
                f"image {reference} is used by {', '.join(users)}",
                runtime=self.engine.name, subject=reference, hint="Remove these containers first.",
            )  # fmt: skip

    @hookimpl
    def load_images(
        self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageInfo, ...]:
        """Load images from an archive."""
        self._enter("load_images", str(archive), cancel, archive=archive)
        loaded = []
        for found in read_archive(archive):
            for name in found.names or (found.image.id,):
                self._not_cancelled("load_images", str(archive), cancel)
                info = self.engine.images.add(name, found.image)
                if progress is not None:
                    progress(ProgressEvent(image=name, phase="done"))
            loaded.append(info)
        return tuple(loaded)

    @hookimpl
    def save_images(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """Write images into an archive."""
        self._enter("save_images", str(archive), cancel, images=images, archive=archive)
        found = {name: self.engine.images.find(name, None).image for name in images}
        data = docker_archive(found)
        self._not_cancelled("save_images", str(archive), cancel)
        part = archive.with_name(f"{archive.name}.part")
        try:
            part.write_bytes(data)
            return part.replace(archive)
        except OSError as error:
            raise InvalidSpecError(f"{archive} cannot be written: {error.strerror}", value=str(archive)) from error

    @hookimpl
    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """Build an image."""
        self._enter("build", spec.tag, cancel, spec=spec)
        return Build(self.engine, spec, progress, cancel).run()

    def _not_cancelled(self, hook: str, subject: str, cancel: Cancel | None) -> None:
        if cancel is not None and cancel.cancelled:
            raise self._cancelled(hook, subject)

    # -- Containers -----------------------------------------------------------------------------------------------

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Make a container."""
        self._enter("create", spec.name or spec.image, spec=spec)
        for mount in spec.mounts:
            if mount.kind == "bind" and not Path(mount.source).exists():
                raise InvalidSpecError(
                    f"the source of a bind mount, {mount.source}, does not exist", value=mount.source
                )
        return self.engine.add_container(spec).info()

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """Run its main process."""
        self._enter("start", container, container=container)
        found = self.engine.container(container)
        found.start()
        return found.info()

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """End its main process."""
        self._enter("stop", container, container=container, grace=grace)
        found = self.engine.container(container)
        found.stop(grace)
        return found.info()

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """Forget it."""
        self._enter("remove", container, container=container, force=force)
        found = self._find(container)
        if found is None:
            return False
        if found.alive and not force:
            raise InUseError(
                f"container {found.name} is running",
                runtime=self.engine.name, subject=found.name, hint="Stop it first, or remove it with force.",
            )  # fmt: skip
        return self.engine.drop_container(found)

    def _find(self, name: str) -> FakeContainer | None:
        return next((each for each in self.engine.containers() if name in (each.id, each.name)), None)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """Describe it."""
        self._enter("inspect", container, container=container)
        return self.engine.container(container).info()

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Describe those that carry the labels."""
        self._enter("list_containers", "containers", labels=dict(labels), running_only=running_only)
        found = [container.info() for container in self.engine.containers()]
        wanted = set(labels.items())
        return tuple(
            info for info in found if wanted <= set(info.labels.items()) and (info.running or not running_only)
        )

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """Return what its main process printed."""
        fault = self._enter("logs", container, container=container, spec=spec)
        found = self.engine.container(container)
        return self._chunks(found.log.read(spec), container, fault)

    def _chunks(self, chunks: Iterator[bytes], subject: str, fault: Fault | None) -> Iterator[bytes]:
        """Hand chunks on, slowed down or cut off as scripted."""
        board, left = self.engine.board, fault.after if fault else None
        for chunk in chunks:
            if fault is not None and fault.delay:
                board.wait(lambda: False, timeout=fault.delay)
            if board.gone:
                raise board.lost(subject)
            if left is not None and len(chunk) > left:
                yield chunk[:left]
                raise board.lost(subject)
            left = None if left is None else left - len(chunk)
            yield chunk

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """Run a command to its end."""
        try:
            fault = self._enter("exec", container, cancel, container=container, spec=spec)
        except OperationCancelledError:
            return ExecResult(exit_code=None, cancelled=True, killed=True)
        found = self.engine.container(container)
        return run_command(found, spec, cancel, self.engine.board, cut=fault.after if fault else None)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> FakeProcess:
        """Start a command and return while it runs."""
        fault = self._enter("open_exec", container, container=container, spec=spec)
        found = self.engine.container(container)
        return start_command(found, spec, self.engine.board, cut=fault.after if fault else None)

    @hookimpl
    def copy_in(self, container: str, path: str, archive: BinaryIO) -> bool:
        """Unpack a tar stream."""
        self._enter("copy_in", container, container=container, path=path)
        unpack(self.engine.container(container).files, path, archive)
        return True

    @hookimpl
    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """Return a tar stream."""
        fault = self._enter("copy_out", container, container=container, path=path)
        data = io.BytesIO(pack(self.engine.container(container).files, path))
        return self._chunks(iter(lambda: data.read(64 * 1024), b""), container, fault)
