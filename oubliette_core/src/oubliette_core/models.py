"""The values that cross the line between Oubliette and a runtime.

All are frozen, keyword-only and slotted; sequences are tuples. Sizes are bytes, durations seconds, times aware and
in UTC. They are plain data: the guard in `oubliette_core.runtime` checks them before a backend sees them. With them
come `Cancel` and `Process`, which live while a call goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import attrs

from oubliette_core._live import ByteSink, ByteSource, Cancel, Process

__all__ = [
    "LABEL_ATTEMPT",
    "LABEL_GENERATION",
    "LABEL_HOME",
    "LABEL_NOT_ENFORCED",
    "LABEL_PROJECT",
    "LABEL_TYPE",
    "BuildSpec",
    "ByteSink",
    "ByteSource",
    "Cancel",
    "Capability",
    "ContainerInfo",
    "ContainerSpec",
    "ContainerStatus",
    "ContainerType",
    "ExecResult",
    "ExecSpec",
    "ImageInfo",
    "LogSpec",
    "Mount",
    "Probe",
    "Process",
    "ProgressCallback",
    "ProgressEvent",
    "PullPolicy",
    "RuntimeSettings",
]

LABEL_HOME = "dev.oubliette.home"
"""Id of the home that a container belongs to: two homes on one engine never touch each other's containers."""
LABEL_PROJECT = "dev.oubliette.project"
LABEL_TYPE = "dev.oubliette.type"
LABEL_GENERATION = "dev.oubliette.generation"
LABEL_ATTEMPT = "dev.oubliette.attempt"
"""Random id of one create: after a lost reply only a container with our own attempt id is taken for ours."""
LABEL_NOT_ENFORCED = "dev.oubliette.not-enforced"
"""Comma-separated names of preferred settings that the backend could not enforce when the container was made."""


class Capability(enum.StrEnum):
    """What a backend can enforce or do. A backend declares what it really does on this machine now, nothing else."""

    MEMORY_LIMIT = "memory-limit"
    CPU_LIMIT = "cpu-limit"
    PIDS_LIMIT = "pids-limit"
    READ_ONLY = "read-only"
    CAPABILITIES = "capabilities"
    """Linux capabilities can be dropped and added."""
    NO_NEW_PRIVILEGES = "no-new-privileges"
    INIT = "init"
    """An init process that reaps orphans and forwards signals."""
    HOSTNAME = "hostname"
    USER = "user"
    """The container and each exec can be run as a user given by name or uid[:gid]."""
    NETWORK_NONE = "network-none"
    NETWORK_HOST = "network-host"
    NETWORK_NAMED = "network-named"
    VOLUMES = "volumes"
    TMPFS = "tmpfs"
    PLATFORMS = "platforms"
    """Images of other platforms than the machine's own can be pulled and kept."""
    TTY = "tty"
    LOGS_FOLLOW = "logs-follow"
    LOGS_SINCE = "logs-since"
    PERSISTENT_LAYER = "persistent-layer"
    """Files written outside mounts survive stop and start."""
    EXIT_CODE = "exit-code"
    """`ContainerInfo.exit_code` is known once the main process has ended; without this it is always None."""
    OOM_REPORT = "oom-report"
    """`ContainerInfo.oom_killed` is a bool, not None."""
    VM_ISOLATION = "vm-isolation"
    """Each container is a virtual machine: a boundary stronger than dropped capabilities or no_new_privileges."""
    ROOTLESS = "rootless"
    """Uid 0 in a container is, outside, the ordinary user who runs the engine."""
    BUILD = "build"
    COPY_IN = "copy-in"
    COPY_OUT = "copy-out"
    REMOVE_IMAGE = "remove-image"
    LOAD_IMAGES = "load-images"
    SAVE_IMAGES = "save-images"


class PullPolicy(enum.StrEnum):
    """When an image is pulled, as Kubernetes and Compose name it."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


class ContainerStatus(enum.StrEnum):
    """What a container is doing. A state that a backend does not know is ``unknown``, never an error."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    EXITED = "exited"
    DEAD = "dead"
    UNKNOWN = "unknown"


@attrs.frozen(kw_only=True)
class RuntimeSettings:
    """What a runtime is constructed with.

    :param options: the runtime's own section of the configuration (``runtimes.<name>``), unchecked: the plugin
        checks it and raises `ConfigError` with paths below ``runtimes.<name>``.
    :param home_id: id of the Oubliette home that the runtime works for; empty outside of one.
    """

    options: Mapping[str, Any] = attrs.field(factory=dict)
    home_id: str = ""


@attrs.frozen(kw_only=True)
class ContainerType:
    """One entry of ``containers`` in the configuration.

    :param image: image reference as the user wrote it.
    :param pull: when to pull it.
    :param platform: ``os/architecture[/variant]``, or None for the engine's own.
    :param command: ``("idle",)`` for Oubliette's idle command, ``("image",)`` for the image's own, else an argv.
    """

    name: str
    image: str
    pull: PullPolicy = PullPolicy.MISSING
    platform: str | None = None
    command: tuple[str, ...] = ("idle",)


@attrs.frozen(kw_only=True)
class Mount:
    """Something of the host's made visible in a container.

    :param kind: ``bind`` (source is an absolute path on the engine's machine), ``volume`` (source is a volume's
        name) or ``tmpfs`` (no source).
    :param target: absolute path in the container.
    :param size: upper bound of a tmpfs in bytes.
    """

    kind: Literal["bind", "volume", "tmpfs"] = "bind"
    source: str = ""
    target: str
    read_only: bool = False
    size: int | None = None


def _copy(value: Mapping[str, str]) -> Mapping[str, str]:
    return dict(value)


@attrs.frozen(kw_only=True)
class ContainerSpec:
    """A container to be made. What is None, empty or False is not asked for.

    :param image: image reference; must be present locally.
    :param platform: ``os/architecture[/variant]``.
    :param name: unique on the engine.
    :param command: argv that replaces the image's CMD; None keeps it.
    :param entrypoint: argv that replaces the image's ENTRYPOINT; ``()`` clears it, None keeps it.
    :param env: variables added to the image's.
    :param workdir: absolute path in the container.
    :param user: name or ``uid[:gid]``.
    :param memory: limit in bytes. :param cpus: limit in cores. :param pids: limit of processes and threads.
    :param network: ``default``, ``none``, ``host`` or a network's name.
    :param init: run an init process as PID 1 that reaps and forwards signals.
    :param read_only: mount the image read-only.
    :param drop_capabilities: names without ``CAP_``, or ``ALL``.
    :param preferred: names of fields above that are wished for and not required: a backend that does not declare the
        capability runs the container without them, and they are listed in `ContainerInfo.not_enforced`.
    """

    image: str
    platform: str | None = None
    name: str | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_copy, repr=lambda env: repr(sorted(env)))
    workdir: str | None = None
    user: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_copy)
    mounts: tuple[Mount, ...] = ()
    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    network: str = "default"
    init: bool = False
    read_only: bool = False
    drop_capabilities: tuple[str, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    hostname: str | None = None
    preferred: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class ContainerInfo:
    """A container as the engine sees it now.

    :param image: reference it was made from. :param image_id: content id of that image.
    :param exit_code: of the main process once it has ended, else None; always None where the backend cannot tell.
    :param oom_killed: whether the kernel killed it for memory; None where the backend cannot tell.
    :param ip_address: empty when it has none of its own.
    :param not_enforced: names of preferred `ContainerSpec` fields that are not in force.
    """

    id: str
    name: str
    image: str
    image_id: str
    status: ContainerStatus
    exit_code: int | None = None
    oom_killed: bool | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_copy)
    created_at: datetime | None = None
    started_at: datetime | None = None
    ip_address: str = ""
    mounts: tuple[Mount, ...] = ()
    not_enforced: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether commands can be run in it."""
        return self.status is ContainerStatus.RUNNING


@attrs.frozen(kw_only=True)
class ImageInfo:
    """An image that is present locally.

    :param id: content id, ``sha256:<64 hex>`` where the engine has one.
    :param references: names it is known by, as the engine prints them.
    :param digests: ``repository@sha256:...`` of the manifests it was pulled by; empty for a locally built image.
    :param size: bytes on disk. :param platform: ``os/architecture[/variant]``.
    """

    id: str
    references: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size: int = 0
    platform: str = ""
    created_at: datetime | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_copy)


@attrs.frozen(kw_only=True)
class ExecSpec:
    """A command to be run in a running container.

    :param command: argv, at least one word; never a shell string.
    :param env: variables added to the container's. :param workdir: absolute path. :param user: name or ``uid[:gid]``.
    :param stdin: bytes given to the command before end of file. `Runtime.open_exec` ignores it.
    :param tty: give it a terminal; stdout and stderr are then one stream.
    :param timeout: seconds until the whole process tree is killed; None for no deadline.
    :param output_limit: bytes kept of stdout and of stderr each; the rest is read and dropped.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(factory=dict, converter=_copy, repr=lambda env: repr(sorted(env)))
    workdir: str | None = None
    user: str | None = None
    stdin: bytes = b""
    tty: bool = False
    timeout: float | None = None
    output_limit: int = 16 * 1024 * 1024


@attrs.frozen(kw_only=True)
class ExecResult:
    """How a command ended. A non-zero exit code is a result, not an error.

    :param exit_code: of the command (128 + signal when it was killed); None when it did not end by itself.
    :param timed_out: the deadline came first. :param cancelled: the caller's `Cancel` came first.
    :param killed: only when ``timed_out`` or ``cancelled``: True if it was confirmed that no process of the command
        is left.
    :param truncated: output went past ``output_limit`` and the rest was dropped.
    :param duration: seconds from start to end.
    """

    exit_code: int | None
    stdout: bytes = b""
    stderr: bytes = b""
    timed_out: bool = False
    cancelled: bool = False
    killed: bool = False
    truncated: bool = False
    duration: float = 0.0


@attrs.frozen(kw_only=True)
class LogSpec:
    """Which part of a container's output is wanted.

    :param tail: number of last lines; None for all. :param since: nothing older than this.
    :param follow: go on until the container ends.
    """

    tail: int | None = None
    since: datetime | None = None
    follow: bool = False


@attrs.frozen(kw_only=True)
class BuildSpec:
    """An image to be built.

    :param context: directory whose content the build sees.
    :param dockerfile: path below ``context``. :param tag: reference that the result gets.
    :param platform: ``os/architecture[/variant]``; None for the engine's own.
    :param no_cache: build every step anew.
    """

    context: Path
    dockerfile: str = "Dockerfile"
    tag: str
    build_args: Mapping[str, str] = attrs.field(factory=dict, converter=_copy)
    labels: Mapping[str, str] = attrs.field(factory=dict, converter=_copy)
    platform: str | None = None
    target: str | None = None
    no_cache: bool = False


@attrs.frozen(kw_only=True)
class Probe:
    """Whether a runtime can be used now.

    :param version: of the engine, where it could be told. :param priority: higher is tried first by ``auto``; 50 is the
        middle, an engine that is a last resort uses less than 10.
    :param detail: one line: what was found, or why it cannot be used.
    :param hint: what to install or start, so that it can be used or does more.
    """

    available: bool
    version: str = ""
    priority: int = 50
    detail: str = ""
    hint: str = ""


@attrs.frozen(kw_only=True)
class ProgressEvent:
    """One step of a pull, a build or a load.

    :param layer: short id of the layer, or empty for the whole image.
    :param phase: ``resolving``, ``waiting``, ``downloading``, ``verifying``, ``extracting``, ``retrying``,
        ``exists``, ``done`` or ``building``. Exactly one event with an empty layer and ``done`` ends a pull that
        succeeds.
    :param current: units done. :param total: units in all; None where not known. Bytes when downloading or extracting.
    :param detail: the engine's own words, one line.
    """

    image: str
    layer: str = ""
    phase: str
    current: int = 0
    total: int | None = None
    detail: str = ""


ProgressCallback = Callable[[ProgressEvent], None]
"""Called from the thread that works; must return quickly. What it raises ends the operation."""
