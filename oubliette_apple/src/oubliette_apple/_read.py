"""The JSON that ``container`` prints, of every version from 0.9 on.

Version 1.0 put a container's state into an object and writes times as ISO 8601; before, the state was a string and
times were seconds since 2001. Absent values are left out, and new keys appear with each release.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from oubliette_apple import _labels
from oubliette_core.errors import RuntimeOperationError
from oubliette_core.models import ContainerInfo, ContainerStatus, ImageInfo, Mount
from oubliette_core.reference import Reference

_2001 = datetime(2001, 1, 1, tzinfo=UTC)
_1970 = datetime(1970, 1, 1, tzinfo=UTC)
_STATES = {
    "running": ContainerStatus.RUNNING,
    "stopping": ContainerStatus.STOPPING,
    "stopped": ContainerStatus.EXITED,
}


def document(text: bytes, operation: str) -> list[dict[str, Any]]:
    """Decode a list of objects; what follows the first document is ignored.

    :raises RuntimeOperationError: it is none.
    """
    try:
        found, _ = json.JSONDecoder().raw_decode(text.decode("utf-8", "replace").lstrip())
    except ValueError as error:
        raise _unreadable(operation, text) from error
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise _unreadable(operation, text)
    return found


def container(item: dict[str, Any]) -> ContainerInfo:
    """Describe one element of ``container inspect`` or ``container list``."""
    try:
        return _container(item)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _unreadable("inspect", json.dumps(item).encode()) from error


def _container(item: dict[str, Any]) -> ContainerInfo:
    configuration = item["configuration"]
    status = item["status"]
    envelope = status if isinstance(status, dict) else item
    state = status["state"] if isinstance(status, dict) else status
    if not isinstance(state, str):
        raise TypeError("a container without a state")
    started = _time(envelope.get("startedDate"))
    image = configuration["image"]
    return ContainerInfo(
        id=configuration["id"],
        name=configuration["id"],
        image=image["reference"],
        image_id=image.get("descriptor", {}).get("digest", ""),
        status=_status(state, started),
        labels={key: _labels.decode(value) for key, value in (configuration.get("labels") or {}).items()},
        created_at=_created(configuration.get("creationDate")),
        started_at=started,
        ip_address=_address(envelope.get("networks") or []),
        mounts=tuple(mount for mount in map(_mount, configuration.get("mounts") or []) if mount),
    )


def _status(state: str, started: datetime | None) -> ContainerStatus:
    """Tell a container that never ran from one that has ended: the command calls both stopped."""
    known = _STATES.get(state, ContainerStatus.UNKNOWN)
    return ContainerStatus.CREATED if known is ContainerStatus.EXITED and started is None else known


def _time(value: object) -> datetime | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _2001 + timedelta(seconds=value)
    if isinstance(value, str):
        return datetime.fromisoformat(value).astimezone(UTC)
    return None


def _created(value: object) -> datetime | None:
    """Return the time of creation; 1970 stands for a container that an older version made."""
    time = _time(value)
    return None if time == _1970 else time


def _address(attachments: list[dict[str, Any]]) -> str:
    for attachment in attachments:
        address = attachment.get("ipv4Address") or attachment.get("address")
        if address:
            return str(address).partition("/")[0]
    return ""


def _mount(item: dict[str, Any]) -> Mount | None:
    kinds: dict[str, Literal["bind", "volume", "tmpfs"]] = {"virtiofs": "bind", "tmpfs": "tmpfs", "volume": "volume"}
    named = item.get("type") or {}
    kind = next((kinds[key] for key in named if key in kinds), None)
    if kind is None:
        return None
    source = item.get("source", "") if kind == "bind" else named.get("volume", {}).get("name", "")
    return Mount(kind=kind, source=source, target=item["destination"], read_only="ro" in (item.get("options") or []))


def image(item: dict[str, Any], wanted: str) -> ImageInfo | None:
    """Describe one element of ``container image inspect``.

    :param wanted: platform; only variants for it count.
    :returns: None when the image is not here for this platform.
    """
    try:
        configuration = item.get("configuration") or item
        reference = configuration["name"]
        descriptor = configuration.get("descriptor") or item.get("index") or {}
        variant = next((each for each in item["variants"] if fits(_platform(each["platform"]), wanted)), None)
        return _image(reference, descriptor["digest"], variant) if variant else None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _unreadable("image inspect", json.dumps(item).encode()) from error


def _image(reference: str, digest: str, variant: dict[str, Any]) -> ImageInfo:
    config = variant.get("config") or {}
    # The index of an image for one platform is made by the command, and no registry knows its digest. That of the
    # variant is what was pulled; before 1.0 it is not said.
    pulled = [variant["digest"]] if "digest" in variant else [digest]
    named = [reference.partition("@")[2]] if "@" in reference else []
    return ImageInfo(
        id=digest,
        references=_spellings(reference),
        digests=tuple(f"{repository(reference)}@{each}" for each in dict.fromkeys([*pulled, *named])),
        size=variant.get("size", 0),
        platform=_platform(variant["platform"]),
        created_at=_created(config.get("created")),
        labels=(config.get("config") or {}).get("Labels") or {},
    )


def variant_config(item: dict[str, Any], wanted: str) -> dict[str, Any]:
    """Return the OCI configuration (``Cmd``, ``Entrypoint`` ...) of the variant for a platform; empty without one."""
    for variant in item.get("variants") or []:
        if fits(_platform(variant["platform"]), wanted):
            return (variant.get("config") or {}).get("config") or {}
    return {}


def fits(platform: str, wanted: str) -> bool:
    """Whether an image for ``platform`` is what was wanted: the variant counts only when one was named."""
    if platform == wanted or platform.startswith(f"{wanted}/"):
        return True
    # arm64 has one variant in use, which some images name and some do not.
    return wanted == "linux/arm64/v8" and platform == "linux/arm64"


def _platform(item: dict[str, str]) -> str:
    return "/".join(part for part in (item["os"], item["architecture"], item.get("variant")) if part)


def names(item: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """Return the reference of an element of ``image list`` or ``image inspect``, and every digest it is known by."""
    try:
        configuration = item.get("configuration") or item
        reference = configuration.get("name") or configuration["reference"]
        descriptor = configuration.get("descriptor") or item["index"]
        variants = [each["digest"] for each in item.get("variants") or () if "digest" in each]
        return reference, frozenset([descriptor["digest"], *variants])
    except (KeyError, TypeError, AttributeError) as error:
        raise _unreadable("image list", json.dumps(item).encode()) from error


def _spellings(reference: str) -> tuple[str, ...]:
    """Return a reference as the command completes it, and as people write it."""
    short = reference.removeprefix("docker.io/library/").removeprefix("docker.io/")
    return tuple(dict.fromkeys((reference, short)))


def repository(reference: str) -> str:
    """Return a reference without tag and digest."""
    name = reference.partition("@")[0]
    head, slash, last = name.rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"


def same_repository(reference: str, name: str) -> bool:
    """Whether a reference that the command keeps is of the repository that somebody calls ``name``."""
    return repository(reference) in (name, Reference.parse(name).normalised().name)


def _unreadable(operation: str, text: bytes) -> RuntimeOperationError:
    shown = text[:100].decode("utf-8", "replace")
    return RuntimeOperationError(
        f"container {operation} printed what cannot be read: {shown!r}",
        runtime="apple",
        hint="The command may be newer than this runtime: pip install --upgrade oubliette-apple",
    )
