"""From our values to the engine's JSON and back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus, ImageInfo, Mount

__all__ = ["container_info", "create_body", "image_info", "listed_container", "matches_platform", "parse_time"]

_STATUSES = {
    "created": ContainerStatus.CREATED,
    "configured": ContainerStatus.CREATED,  # Podman
    "initialized": ContainerStatus.CREATED,  # Podman
    "running": ContainerStatus.RUNNING,
    "paused": ContainerStatus.PAUSED,
    "stopping": ContainerStatus.STOPPING,  # Podman
    "removing": ContainerStatus.STOPPING,
    "restarting": ContainerStatus.EXITED,  # its process has ended; the engine means to start another one
    "exited": ContainerStatus.EXITED,
    "stopped": ContainerStatus.EXITED,  # Podman
    "dead": ContainerStatus.DEAD,
}
_NATIVE = {"amd64": {"amd64", "386"}, "arm64": {"arm64", "arm"}}
"""Architectures that a processor runs without emulation."""


# -- Containers -------------------------------------------------------------------------------------------------------


def create_body(spec: ContainerSpec, image: str, log_driver: str | None = None) -> dict[str, Any]:
    """Return the body of ``POST /containers/create``. What the specification leaves open is left out."""
    log = {"LogConfig": {"Type": log_driver}} if log_driver else {}
    body: dict[str, Any] = {
        "Image": image,
        "Env": [f"{name}={value}" for name, value in spec.env.items()],
        "Labels": dict(spec.labels),
        # A shell as main process then waits for input that never comes, and does not end at once.
        "OpenStdin": True,
        "HostConfig": _host_config(spec) | log,
    }
    optional = {
        "Cmd": spec.command,
        # To clear the image's, Docker and Podman both take one empty word, if there is a command.
        "Entrypoint": [""] if spec.entrypoint == () and spec.command else spec.entrypoint,
        "WorkingDir": spec.workdir,
        "User": spec.user,
        "Hostname": spec.hostname,
    }
    return body | {name: value for name, value in optional.items() if value is not None}


def _host_config(spec: ContainerSpec) -> dict[str, Any]:
    host: dict[str, Any] = {
        "Init": spec.init,
        "ReadonlyRootfs": spec.read_only,
        "CapDrop": list(spec.drop_capabilities),
        "CapAdd": list(spec.add_capabilities),
        "SecurityOpt": ["no-new-privileges"] if spec.no_new_privileges else [],
        "Mounts": [_mount_body(mount) for mount in spec.mounts],
    }
    if spec.memory is not None:
        host["Memory"] = host["MemorySwap"] = spec.memory  # without the second, as much again in swap
    if spec.cpus is not None:
        host["NanoCpus"] = round(spec.cpus * 1e9)
    if spec.pids is not None:
        host["PidsLimit"] = spec.pids
    if spec.network != "default":
        host["NetworkMode"] = spec.network
    return host


def _mount_body(mount: Mount) -> dict[str, Any]:
    body: dict[str, Any] = {"Type": mount.kind, "Target": mount.target, "ReadOnly": mount.read_only}
    if mount.kind != "tmpfs":
        body["Source"] = mount.source
    if mount.kind == "bind":
        body["BindOptions"] = {"CreateMountpoint": False}
    if mount.kind == "tmpfs":
        size = {} if mount.size is None else {"SizeBytes": mount.size}
        body["TmpfsOptions"] = {"Mode": 0o1777, **size}  # Podman would make it for root alone
    return body


def container_info(raw: Mapping[str, Any], *, oom_known: bool) -> ContainerInfo:
    """Return what ``GET /containers/{id}/json`` says.

    :param oom_known: whether the engine tells a kill for memory from others.
    """
    state, config = raw.get("State") or {}, raw.get("Config") or {}
    status = _STATUSES.get(str(state.get("Status", "")).lower(), ContainerStatus.UNKNOWN)
    ended = status in (ContainerStatus.EXITED, ContainerStatus.DEAD)
    return ContainerInfo(
        id=raw["Id"],
        name=raw.get("Name", "").lstrip("/"),
        image=config.get("Image") or "",
        image_id=_full_id(raw.get("Image", "")),
        status=status,
        exit_code=state.get("ExitCode") if ended else None,
        oom_killed=bool(state.get("OOMKilled")) if oom_known else None,
        labels=config.get("Labels") or {},
        created_at=parse_time(raw.get("Created")),
        started_at=parse_time(state.get("StartedAt")),
        ip_address=_ip_address(raw),
        mounts=_mounts(raw),
    )


def listed_container(raw: Mapping[str, Any]) -> ContainerInfo:
    """Return what an entry of ``GET /containers/json`` says."""
    names = [name.lstrip("/") for name in raw.get("Names") or ()]
    created = raw.get("Created")
    return ContainerInfo(
        id=raw["Id"],
        name=next((name for name in names if "/" not in name), ""),  # the others are links
        image=raw.get("Image") or "",
        image_id=_full_id(raw.get("ImageID", "")),
        status=_STATUSES.get(str(raw.get("State", "")).lower(), ContainerStatus.UNKNOWN),
        labels=raw.get("Labels") or {},
        created_at=datetime.fromtimestamp(created, UTC) if isinstance(created, int) else parse_time(created),
        ip_address=_ip_address(raw),
        mounts=_mounts(raw),
    )


def _ip_address(raw: Mapping[str, Any]) -> str:
    networks = ((raw.get("NetworkSettings") or {}).get("Networks") or {}).values()
    return next((network["IPAddress"] for network in networks if network and network.get("IPAddress")), "")


def _mounts(raw: Mapping[str, Any]) -> tuple[Mount, ...]:
    """Return the mounts by target: the engine gives them in no order. In a list, Podman gives the targets only."""
    host = raw.get("HostConfig") or {}
    asked = {mount.get("Target"): mount.get("TmpfsOptions") or {} for mount in host.get("Mounts") or ()}
    sizes = {target: options.get("SizeBytes") for target, options in asked.items()}
    found = [_mount(mount, sizes) for mount in raw.get("Mounts") or () if isinstance(mount, Mapping)]
    found += [_podman_tmpfs(target, options) for target, options in (host.get("Tmpfs") or {}).items()]
    return tuple(sorted(found, key=lambda mount: mount.target))


def _mount(raw: Mapping[str, Any], sizes: Mapping[str, int | None]) -> Mount:
    kind, target = raw.get("Type"), raw.get("Destination", "")
    read_only = raw.get("RW") is False
    if kind == "volume":
        return Mount(kind="volume", source=raw.get("Name", ""), target=target, read_only=read_only)
    if kind == "tmpfs":
        return Mount(kind="tmpfs", target=target, read_only=read_only, size=sizes.get(target))
    return Mount(kind="bind", source=raw.get("Source", ""), target=target, read_only=read_only)


def _podman_tmpfs(target: str, options: str) -> Mount:
    words = options.split(",")
    size = next((word.removeprefix("size=") for word in words if re.fullmatch(r"size=\d+", word)), None)
    return Mount(kind="tmpfs", target=target, read_only="ro" in words, size=int(size) if size else None)


def parse_time(text: object) -> datetime | None:
    """Return a time as the engine writes it, in UTC; None for its zero time, nothing, or another form."""
    if not isinstance(text, str) or text.startswith("0001-"):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


# -- Images -----------------------------------------------------------------------------------------------------------


def image_info(raw: Mapping[str, Any]) -> ImageInfo:
    """Return what ``GET /images/{name}/json`` says."""
    parts = (raw.get("Os"), raw.get("Architecture"), raw.get("Variant"))
    return ImageInfo(
        id=_full_id(raw["Id"]),
        references=tuple(tag for tag in raw.get("RepoTags") or () if tag != "<none>:<none>"),
        digests=tuple(digest for digest in raw.get("RepoDigests") or () if not digest.startswith("<none>")),
        size=raw.get("Size") or 0,
        platform="/".join(part for part in parts if part) if parts[0] and parts[1] else "",
        created_at=parse_time(raw.get("Created")),
        labels=(raw.get("Config") or {}).get("Labels") or {},
    )


def matches_platform(wanted: str, found: str, *, native: bool = False) -> bool:
    """Tell whether an image of platform ``found`` is one of ``wanted``; an image that does not say is of any.

    :param native: count what a processor runs without emulation too, such as 386 on amd64.
    """
    if not found:
        return True
    (wanted_os, wanted_cpu, wanted_variant), (found_os, found_cpu, found_variant) = _split(wanted), _split(found)
    if wanted_os != found_os:
        return False
    if native and found_cpu in _NATIVE.get(wanted_cpu, ()):
        return True
    return wanted_cpu == found_cpu and (not wanted_variant or not found_variant or wanted_variant == found_variant)


def _split(platform: str) -> tuple[str, str, str]:
    system, _, rest = platform.lower().partition("/")
    cpu, _, variant = rest.partition("/")
    aliases = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}
    return system, aliases.get(cpu, cpu), variant


def _full_id(text: str) -> str:
    """Return a content id with its algorithm, which Podman leaves out."""
    return f"sha256:{text}" if re.fullmatch(r"[a-f0-9]{64}", text) else text
