"""The contract between Oubliette and a container runtime.

A runtime is a class, constructed with `RuntimeSettings`, whose methods carry `hookimpl` and have the names and
argument names of `RuntimeSpec`. It declares ``api_version = 1`` and is registered under the entry-point group
``oubliette.runtimes``::

    from oubliette_core.hookspecs import hookimpl

    class MyRuntime:
        api_version = 1

        def __init__(self, settings: RuntimeSettings) -> None: ...

        @hookimpl
        def exists(self, image: str, platform: str | None) -> bool: ...

Rules that hold for every hook:

* It is called through pluggy with keyword arguments; an implementation may leave out those that it does not need.
* It returns a value, never None, and may be called from several threads at once.
* It ends: engine calls carry a deadline of 30 s (`OperationTimeoutError`), every blocking read wakes once a second.
* It raises only the errors of `oubliette_core.errors`. Every hook may raise `RuntimeUnavailableError` (nothing was
  done), `RuntimeLostError` (the engine went away in the middle) and `OperationTimeoutError`; each names its others
  below.
* Arguments have been checked by the guard in `oubliette_core.runtime`: ids, names, references, paths and variables
  are of the allowed form, and nothing is asked for that `capabilities` does not declare.
* ``container`` is an id or a name, as a whole; never a prefix.

A *wrapper* is an object with ``@hookimpl(wrapper=True)`` methods of the same names (group ``oubliette.wrappers``).
It stands around whatever backend is loaded and sees each call, its result and its error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import pluggy

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
)

__all__ = [
    "API_VERSION",
    "CORE_HOOKS",
    "OPTIONAL_HOOKS",
    "PROJECT_NAME",
    "SERVER_HOOKS",
    "RuntimeSpec",
    "hookimpl",
    "hookspec",
]

API_VERSION = 1
"""Version of this contract. A plugin declares the one it was written for; the loader refuses any other."""

PROJECT_NAME = "oubliette"
hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)

CORE_HOOKS = frozenset({"probe", "capabilities", "pull", "exists", "create", "start", "stop"})
"""A backend that lacks one of these is not loaded."""

SERVER_HOOKS = CORE_HOOKS | {
    "inspect_image",
    "remove",
    "inspect",
    "list_containers",
    "logs",
    "exec",
    "open_exec",
    "close",
}
"""What the services, the CLI and the MCP server need. `Runtime.missing_hooks` names those that a backend lacks."""

OPTIONAL_HOOKS: Mapping[str, Capability] = {
    "build": Capability.BUILD,
    "copy_in": Capability.COPY_IN,
    "copy_out": Capability.COPY_OUT,
    "remove_image": Capability.REMOVE_IMAGE,
    "load_images": Capability.LOAD_IMAGES,
    "save_images": Capability.SAVE_IMAGES,
}
"""Hooks that are called only when the backend declares the capability."""


class RuntimeSpec:
    """Every operation of a runtime."""

    @hookspec(firstresult=True)
    def probe(self) -> Probe:
        """Tell whether the engine can be used now.

        Never raises, never takes more than 2 s, never starts anything.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def capabilities(self) -> frozenset[Capability]:
        """Return what this backend enforces or does, with the engine as it is now."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Download an image, or make sure that the local one is what the registry has under this reference.

        Succeeds only when the engine has confirmed the download and the reference resolves to what was downloaded;
        an image that was there before stays in every other case. Fails after 120 s without any event; an engine's
        own retrying is an event.

        :param image: reference as configured, with tag or digest; the backend normalises it for its engine.
        :param platform: ``os/architecture[/variant]``; None for the engine's own.
        :param timeout: seconds for the whole pull; None for no limit.
        :raises ImagePullError: with the reason; within 2 s of ``cancel`` with reason ``cancelled``.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def exists(self, image: str, platform: str | None) -> bool:
        """Tell whether the image is present locally, for this platform when one is given. Never uses the network."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        """Describe a local image.

        :param image: reference or image id.
        :raises ImageNotFoundError: it is not present, or not for this platform.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Make a container that is not started. Never uses the network.

        :raises ImageNotFoundError: the image is not present.
        :raises NameConflictError: the name is taken.
        :raises InvalidSpecError: a bind mount's source is missing (it is never created), or the engine refuses a value.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def start(self, container: str) -> ContainerInfo:
        """Start a container; return once its process has been seen alive. Idempotent.

        :raises ContainerNotFoundError: unknown.
        :raises StartFailedError: the process could not be started or had ended at once; its last output is attached.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def stop(self, container: str, grace: float) -> ContainerInfo:
        """Stop a container: its stop signal, then kill after ``grace`` seconds.

        Idempotent; a created one stays created.

        :raises ContainerNotFoundError: unknown.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def remove(self, container: str, force: bool) -> bool:
        """Remove a container and its writable layer; True if it was there, False if not. Idempotent.

        :param force: kill it first when it runs. :raises InUseError: it runs and ``force`` is False.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def inspect(self, container: str) -> ContainerInfo:
        """Describe a container. :raises ContainerNotFoundError: unknown."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def list_containers(self, labels: Mapping[str, str], running_only: bool) -> tuple[ContainerInfo, ...]:
        """Describe all containers that carry all of ``labels``, in one engine call however many there are.

        ``image_id``, ``exit_code`` and ``started_at`` may be missing where an engine's list does not have them.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        """Return what the main process printed, both streams in order, in chunks; closing the iterator ends a follow.

        :raises ContainerNotFoundError: unknown. A container that never ran has printed nothing.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """Run a command to its end, its deadline or ``cancel``.

        At the deadline or cancel the whole process tree is killed, detached children included, and the result says
        whether that was confirmed. A command that ends by itself leaves its background children running; the call
        returns at its exit plus at most 2 s of draining. The exit code is the only proof of an end: without one it is
        `RuntimeLostError`.

        :raises ContainerNotFoundError: unknown. :raises ContainerNotRunningError: not running.
        :raises CommandNotFoundError: the command could not be run at all (absent, not executable, bad user or
            directory).
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def open_exec(self, container: str, spec: ExecSpec) -> Process:
        """Start a command and return while it runs, with its streams.

        ``stdin``, ``timeout`` and ``output_limit`` of ``spec`` are not used.

        :raises ContainerNotFoundError: unknown. :raises ContainerNotRunningError: not running.
        :raises CommandNotFoundError: as for `exec`, where the engine tells at once; otherwise `Process.wait` gives
            126 or 127.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def close(self) -> bool:
        """Release connections. Idempotent; any later call opens what it needs or raises `RuntimeUnavailableError`."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """Build an image from a directory. :raises ImageBuildError: with the last output; also when cancelled."""
        raise NotImplementedError

    @hookspec(firstresult=True)
    def copy_in(self, container: str, path: str, archive: BinaryIO) -> bool:
        """Unpack a tar stream into directory ``path`` of the container; True when done.

        :raises ContainerNotFoundError: unknown. :raises InvalidSpecError: no such directory, or not a tar stream.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """Return file or directory ``path`` of the container as a tar stream, in chunks.

        :raises ContainerNotFoundError: unknown. :raises InvalidSpecError: no such path.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def remove_image(self, image: str) -> bool:
        """Remove this reference, and the image with the last of them; True if it was there.

        :raises InUseError: a container uses it.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def load_images(
        self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageInfo, ...]:
        """Load images from an archive (OCI layout or ``docker save``), without the network.

        :raises ImagePullError: ``corrupt`` for an archive that cannot be read, ``no_space``, ``cancelled``.
        """
        raise NotImplementedError

    @hookspec(firstresult=True)
    def save_images(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """Write local images into an archive that `load_images` takes; the file appears only when it is whole.

        :raises ImageNotFoundError: one of them is not present; nothing is written.
        """
        raise NotImplementedError
