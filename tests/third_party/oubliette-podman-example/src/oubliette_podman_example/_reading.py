"""Reading the JSON that Podman prints."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from oubliette_core.models import ContainerInfo, ContainerStatus, ImageInfo, Mount

_STATES = {
    "created": ContainerStatus.CREATED,
    "configured": ContainerStatus.CREATED,
    "initialized": ContainerStatus.CREATED,
    "running": ContainerStatus.RUNNING,
    "paused": ContainerStatus.PAUSED,
    "stopping": ContainerStatus.STOPPING,
    "stopped": ContainerStatus.EXITED,
    "exited": ContainerStatus.EXITED,
    "removing": ContainerStatus.DEAD,
}


def container_info(raw: Mapping[str, Any]) -> ContainerInfo:
    """Read an entry of ``podman container inspect``."""
    status = _STATES.get(raw["State"]["Status"], ContainerStatus.UNKNOWN)
    networks = ((raw.get("NetworkSettings") or {}).get("Networks") or {}).values()
    addresses = [network["IPAddress"] for network in networks if network.get("IPAddress")]
    return ContainerInfo(
        id=raw["Id"],
        name=raw["Name"],
        image=raw["ImageName"],
        image_id=f"sha256:{raw['Image']}",
        status=status,
        exit_code=raw["State"]["ExitCode"] if status is ContainerStatus.EXITED else None,
        labels=raw["Config"].get("Labels") or {},
        created_at=_time(raw["Created"]),
        started_at=_time(raw["State"]["StartedAt"]),
        ip_address=addresses[0] if addresses else "",
        mounts=tuple(_mount(mount) for mount in raw.get("Mounts") or ()),
    )


def listed_container(raw: Mapping[str, Any]) -> ContainerInfo:
    """Read an entry of ``podman ps``, which knows less."""
    return ContainerInfo(
        id=raw["Id"],
        name=raw["Names"][0],
        image=raw["Image"],
        image_id=f"sha256:{raw['ImageID']}",
        status=_STATES.get(raw["State"], ContainerStatus.UNKNOWN),
        labels=raw.get("Labels") or {},
        created_at=datetime.fromtimestamp(raw["Created"], UTC),
    )


def image_info(raw: Mapping[str, Any]) -> ImageInfo:
    """Read an entry of ``podman image inspect``."""
    platform = "/".join(filter(None, (raw["Os"], raw["Architecture"], raw.get("Variant"))))
    return ImageInfo(
        id=f"sha256:{raw['Id'].removeprefix('sha256:')}",
        references=tuple(raw.get("RepoTags") or ()),
        digests=tuple(raw.get("RepoDigests") or ()),
        size=raw["Size"],
        platform=platform,
        created_at=_time(raw["Created"]),
        labels=raw.get("Labels") or {},
    )


def _mount(raw: Mapping[str, Any]) -> Mount:
    volume = raw["Type"] == "volume"
    source = raw.get("Name", "") if volume else raw["Source"]
    return Mount(kind="volume" if volume else "bind", source=source, target=raw["Destination"], read_only=not raw["RW"])


def _time(text: str) -> datetime | None:
    """Read a time; the year 1 stands for never."""
    time = datetime.fromisoformat(text)
    return None if time.year == 1 else time.astimezone(UTC)
