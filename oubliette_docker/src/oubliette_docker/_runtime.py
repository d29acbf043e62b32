"""The Docker runtime: each hook, handed on to where it is done.

What looks at containers and images is imported with it; what runs commands, builds and copies when it is first needed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, BinaryIO

from oubliette_core.hookspecs import API_VERSION, hookimpl
from oubliette_docker._capabilities import EngineFacts, probe
from oubliette_docker._connection import Connection
from oubliette_docker._containers import Containers
from oubliette_docker._credentials import Credentials
from oubliette_docker._endpoint import Options, Surroundings, find_endpoint, parse_options
from oubliette_docker._images import Images

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

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
    from oubliette_docker._build import Builder
    from oubliette_docker._exec import Execs
    from oubliette_docker._image_archives import ImageArchives
    from oubliette_docker._logs import Logs

__all__ = ["DockerRuntime"]


class _Engine:
    """What works on one engine, all over one connection. Safe between threads."""

    def __init__(self, options: Options) -> None:
        around = Surroundings()
        self.connection = Connection(find_endpoint(options, around))
        self.facts = EngineFacts(self.connection)
        self._credentials = Credentials(around)
        self.images = Images(self.connection, self._credentials)
        self.containers = Containers(self.connection, self.facts, self.images)
        self._lock = threading.Lock()
        self._execs: Execs | None = None

    @property
    def execs(self) -> Execs:
        """The commands in containers: one for all, which knows its commands from those of others."""
        with self._lock:
            if self._execs is None:
                from oubliette_docker._exec import Execs  # noqa: PLC0415

                self._execs = Execs(self.connection)
            return self._execs

    @property
    def logs(self) -> Logs:
        """What containers print."""
        from oubliette_docker._logs import Logs  # noqa: PLC0415

        return Logs(self.connection)

    @property
    def archives(self) -> ImageArchives:
        """Images in files."""
        from oubliette_docker._image_archives import ImageArchives  # noqa: PLC0415

        return ImageArchives(self.connection, self.images)

    @property
    def builder(self) -> Builder:
        """Makes images."""
        from oubliette_docker._build import Builder  # noqa: PLC0415

        return Builder(self.connection, self.images, self._credentials)


class DockerRuntime:
    """Docker Engine, and Podman through its Docker-compatible socket, as an Oubliette runtime.

    The engine is looked for at the first call, not at construction.

    :raises ConfigError: the options are wrong (keys ``host``, ``context``, ``tls`` below ``runtimes.docker``).
    """

    api_version = API_VERSION

    def __init__(self, settings: RuntimeSettings) -> None:
        self._options = parse_options(settings.options)
        self._lock = threading.Lock()
        self._found: _Engine | None = None

    @property
    def _engine(self) -> _Engine:
        """The engine, looked for if that has not been done yet."""
        with self._lock:
            if self._found is None:
                self._found = _Engine(self._options)
            return self._found

    # -- The engine ---------------------------------------------------------------------------------------------------

    @hookimpl
    def probe(self) -> Probe:
        """See `RuntimeSpec.probe`."""
        return probe(lambda: self._engine.connection)

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """See `RuntimeSpec.capabilities`; asked of the engine once per connection."""
        return self._engine.facts.capabilities()

    @hookimpl
    def close(self) -> bool:
        """See `RuntimeSpec.close`."""
        with self._lock:
            engine, self._found = self._found, None
        if engine is not None:
            engine.connection.close()
        return True

    # -- Images -------------------------------------------------------------------------------------------------------

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """See `RuntimeSpec.pull`."""
        return self._engine.images.pull(image, platform, progress=progress, cancel=cancel, timeout=timeout)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        """See `RuntimeSpec.exists`."""
        return self._engine.images.exists(image, platform)

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """See `RuntimeSpec.inspect_image`."""
        return self._engine.images.inspect(image, platform)

    @hookimpl
    def remove_image(self, image: str) -> bool:
        """See `RuntimeSpec.remove_image`."""
        return self._engine.images.remove(image)

    @hookimpl
    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """See `RuntimeSpec.build`."""
        return self._engine.builder.build(spec, progress, cancel)

    @hookimpl
    def load_images(
        self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageInfo, ...]:
        """See `RuntimeSpec.load_images`."""
        return self._engine.archives.load(archive, progress, cancel)

    @hookimpl
    def save_images(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """See `RuntimeSpec.save_images`."""
        return self._engine.archives.save(images, archive, cancel)

    # -- Containers ---------------------------------------------------------------------------------------------------

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """See `RuntimeSpec.create`."""
        return self._engine.containers.create(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.start`."""
        return self._engine.containers.start(container)

    @hookimpl
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """See `RuntimeSpec.stop`."""
        return self._engine.containers.stop(container, grace)

    @hookimpl
    def remove(self, container: str, force: bool) -> bool:
        """See `RuntimeSpec.remove`."""
        return self._engine.containers.remove(container, force=force)

    @hookimpl
    def inspect(self, container: str) -> ContainerInfo:
        """See `RuntimeSpec.inspect`."""
        return self._engine.containers.inspect(container)

    @hookimpl
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """See `RuntimeSpec.list_containers`."""
        return self._engine.containers.list_containers(labels, running_only=running_only)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """See `RuntimeSpec.logs`."""
        engine = self._engine
        return engine.logs.read(engine.containers.whole(container), spec)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """See `RuntimeSpec.exec`."""
        engine = self._engine
        return engine.execs.run(engine.containers.whole(container), spec, cancel)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """See `RuntimeSpec.open_exec`."""
        engine = self._engine
        return engine.execs.open(engine.containers.whole(container), spec)

    @hookimpl
    def copy_in(self, container: str, path: str, archive: BinaryIO) -> bool:
        """See `RuntimeSpec.copy_in`."""
        from oubliette_docker import _archive  # noqa: PLC0415

        engine = self._engine
        return _archive.copy_in(engine.connection, engine.containers.whole(container), path, archive)

    @hookimpl
    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """See `RuntimeSpec.copy_out`."""
        from oubliette_docker import _archive  # noqa: PLC0415

        engine = self._engine
        return _archive.copy_out(engine.connection, engine.containers.whole(container), path)
