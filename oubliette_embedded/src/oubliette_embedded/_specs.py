"""From what is asked for to what a container is: its definition, or why there cannot be one."""

from __future__ import annotations

import os
import secrets
import signal
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError
from oubliette_embedded._definition import Definition

if TYPE_CHECKING:
    from oubliette_core.models import ContainerSpec, Mount
    from oubliette_embedded.images import StoredImage

__all__ = ["CAPABILITIES", "check", "define", "mask"]

CAPABILITIES = {
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "DAC_READ_SEARCH": 2,
    "FOWNER": 3,
    "FSETID": 4,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "SETPCAP": 8,
    "NET_BIND_SERVICE": 10,
    "NET_BROADCAST": 11,
    "NET_ADMIN": 12,
    "NET_RAW": 13,
    "IPC_LOCK": 14,
    "IPC_OWNER": 15,
    "SYS_CHROOT": 18,
    "AUDIT_WRITE": 29,
    "SETFCAP": 31,
}
"""Linux capabilities that a container can be given, by their numbers: those that end at the sandbox's own limits."""
_ALL = "ALL"
_STOP_SIGNAL = signal.SIGTERM
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def check(spec: ContainerSpec) -> None:
    """Refuse what cannot be. :raises InvalidSpecError: with the reason."""
    unknown = sorted({*spec.add_capabilities} - CAPABILITIES.keys() - {_ALL})
    if unknown:
        raise InvalidSpecError(
            f"the embedded runtime cannot give containers the capability {', '.join(unknown)}",
            value=unknown[0],
            hint=f"It can give {', '.join(CAPABILITIES)}.",
        )
    for mount in spec.mounts:
        if mount.kind == "bind" and not os.path.exists(mount.source):  # noqa: PTH110 - a broken link is missing, too
            raise missing_source(mount)


def missing_source(mount: Mount) -> InvalidSpecError:
    """Return the error for a bind mount of what is not there."""
    return InvalidSpecError(
        f"{mount.source} does not exist, so it cannot be mounted",
        value=mount.source,
        hint="Make it first: a source is never created.",
    )


def define(spec: ContainerSpec, image: StoredImage, identity: str) -> Definition:
    """Return what a container is. :raises InvalidSpecError: neither the image nor the specification has a command."""
    config = image.config
    entrypoint = (config.entrypoint or ()) if spec.entrypoint is None else spec.entrypoint
    own = config.command or () if spec.entrypoint is None else ()
    argv = (*entrypoint, *(own if spec.command is None else spec.command))
    if spec.command is None and spec.entrypoint == ():
        argv = config.command or ()
    if not argv or not argv[0]:
        raise InvalidSpecError(
            f"image {spec.image} has no command", value=spec.image, hint="Give one with the container."
        )
    hostname = spec.hostname or identity[:12]
    return Definition(
        id=identity,
        name=spec.name or f"oubliette-{secrets.token_hex(6)}",
        image=spec.image,
        image_id=image.id,
        labels={**config.labels, **spec.labels},
        created_at=time.time(),
        mounts=spec.mounts,
        argv=argv,
        env={"PATH": _PATH, "HOSTNAME": hostname, **config.env, **spec.env},
        workdir=spec.workdir or config.workdir or "/",
        user=spec.user or config.user,
        stop_signal=_signal(config.stop_signal),
        network=spec.network,
        init=spec.init,
        read_only=spec.read_only,
        capabilities=_capabilities(spec),
        hostname=hostname,
        memory=spec.memory,
        cpus=spec.cpus,
        pids=spec.pids,
    )


def _capabilities(spec: ContainerSpec) -> tuple[str, ...]:
    """Return what uid 0 keeps: nothing but what is asked for."""
    return tuple(CAPABILITIES) if _ALL in spec.add_capabilities else tuple(sorted(spec.add_capabilities))


def mask(capabilities: tuple[str, ...]) -> int:
    """Return a set of capabilities as the kernel counts them."""
    return sum(1 << CAPABILITIES[name] for name in capabilities)


def _signal(name: str) -> int:
    """Read an image's stop signal, by name or number; SIGTERM for what is none."""
    text = name.upper().removeprefix("SIG")
    if text.isascii() and text.isdigit() and 0 < int(text[:4]) < signal.NSIG:
        return int(text)
    try:
        return int(signal.Signals[f"SIG{text}"])
    except KeyError:
        return int(_STOP_SIGNAL)
