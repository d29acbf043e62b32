"""Manifests, indexes and image configurations, read strictly: they come from anybody.

Formats: the OCI image specification (manifest.md, image-index.md, config.md) and Docker's "Image Manifest V 2,
Schema 2". What a program would take for an index and another one for a manifest is refused (CVE-2021-41190).
"""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_embedded.images._failures import Failure, corrupt, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "INDEX_TYPES",
    "LARGEST_DOCUMENT",
    "MANIFEST_TYPES",
    "Descriptor",
    "ImageConfig",
    "ImageDocument",
    "Index",
    "Manifest",
    "check_digest",
    "digest_of",
    "new_hash",
    "parse_image",
    "parse_json",
    "parse_manifest",
    "platform_text",
]

LARGEST_DOCUMENT = 8 * 1024 * 1024
"""Bytes of a manifest, an index or a configuration. The distribution specification has registries take 4 MiB."""
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_PLATFORM_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_MOST_LAYERS = 500
"""What overlayfs stacks at most."""
_MOST_MANIFESTS = 1000
_LARGEST_BLOB = 1 << 40
_EMPTY: Mapping[str, str] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Descriptor:
    """Where content is, and what it has to be.

    :param size: bytes. :param platform: ``os/architecture[/variant]``; empty where it is not said.
    """

    media_type: str
    digest: str
    size: int
    platform: str = ""
    annotations: Mapping[str, str] = _EMPTY


@attrs.frozen(kw_only=True)
class Index:
    """Manifests for several platforms."""

    manifests: tuple[Descriptor, ...]


@attrs.frozen(kw_only=True)
class Manifest:
    """One image for one platform. :param layers: lowest first."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@attrs.frozen(kw_only=True)
class ImageConfig:
    """What an image says about the containers that are made from it.

    :param entrypoint: None where there is none. :param command: its CMD; None where there is none.
    :param user: ``name|uid[:group|gid]``; empty for root. :param exposed_ports: such as ``80/tcp``.
    """

    env: Mapping[str, str] = _EMPTY
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    workdir: str = ""
    user: str = ""
    labels: Mapping[str, str] = _EMPTY
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class ImageDocument:
    """An image configuration. :param diff_ids: digests of the uncompressed layers, lowest first."""

    config: ImageConfig
    platform: str
    created_at: datetime | None
    diff_ids: tuple[str, ...]


# -- Digests ----------------------------------------------------------------------------------------------------------


def check_digest(value: object) -> str:
    """Return a digest. :raises Failure: ``corrupt``: it is none, or of an algorithm that is not registered."""
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return value
    raise corrupt(f"{one_line(repr(value), 80)} is no digest")


def new_hash(digest: str) -> hashlib._Hash:
    """Return what computes a digest of this one's algorithm."""
    return hashlib.new(digest.partition(":")[0], usedforsecurity=False)


def digest_of(data: bytes, like: str = "sha256:") -> str:
    """Return the digest of some bytes, by the algorithm of ``like``."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data, usedforsecurity=False).hexdigest()}"


# -- Parsing ----------------------------------------------------------------------------------------------------------


def parse_json(data: bytes, what: str) -> Any:
    """Return a JSON document. :raises Failure: ``corrupt``: it is none, or too large."""
    if len(data) > LARGEST_DOCUMENT:
        raise corrupt(f"its {what} is larger than {LARGEST_DOCUMENT // (1024 * 1024)} MiB")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise corrupt(f"its {what} is no JSON document") from error


def parse_manifest(data: bytes) -> Manifest | Index:
    """Return what a registry or a layout has for an image.

    :raises Failure: ``corrupt``, or ``other`` for a format of old or for something that is no image.
    """
    document = _object(parse_json(data, "manifest"), "manifest")
    if "manifests" in document and ("layers" in document or "config" in document):
        raise corrupt("its manifest is an index at the same time")
    if "manifests" in document:
        return Index(manifests=_descriptors(document["manifests"], "index", _MOST_MANIFESTS))
    if "config" in document and "layers" in document:
        layers = _descriptors(document["layers"], "manifest", _MOST_LAYERS)
        return Manifest(config=_descriptor(document["config"]), layers=layers)
    if document.get("schemaVersion") == 1:
        raise Failure("its manifest is of Docker's first format, which is out of use", hint="Push the image again.")
    raise corrupt("its manifest is of no known form")


def parse_image(data: bytes, layers: int | None = None) -> ImageDocument:
    """Return an image configuration.

    :param layers: how many the manifest has. :raises Failure: as `parse_manifest` does.
    """
    document = _object(parse_json(data, "configuration"), "configuration")
    root = document.get("rootfs")
    if not isinstance(root, dict) or not isinstance(root.get("diff_ids") or [], list):
        raise Failure("it is no container image: its configuration names no layers")
    diff_ids = tuple(check_digest(one) for one in root.get("diff_ids") or [])
    if len(diff_ids) > _MOST_LAYERS or (layers is not None and len(diff_ids) != layers):
        raise corrupt(f"its configuration names {len(diff_ids)} layers, its manifest {layers}")
    return ImageDocument(
        config=_settings(_object(document.get("config") or {}, "configuration")),
        platform=platform_text(document),
        created_at=_time(document.get("created")),
        diff_ids=diff_ids,
    )


def platform_text(fields: Mapping[str, Any]) -> str:
    """Return ``os/architecture[/variant]`` of the fields of an index or a configuration; empty where it is not said.

    :raises Failure: ``corrupt``: a part is none.
    """
    parts = [fields.get(name) or "" for name in ("os", "architecture", "variant")]
    if not (parts[0] and parts[1]):
        return ""
    for part in parts:
        if not isinstance(part, str) or (part and not _PLATFORM_PART.fullmatch(part)):
            raise corrupt(f"{one_line(repr(part), 80)} is no part of a platform")
    return "/".join(part for part in parts if part)


def _descriptors(value: object, what: str, most: int) -> tuple[Descriptor, ...]:
    if not isinstance(value, list) or len(value) > most:
        raise corrupt(f"its {what} has no list, or one of more than {most} entries")
    return tuple(_descriptor(one) for one in value)


def _descriptor(value: object) -> Descriptor:
    fields = _object(value, "manifest")
    size = fields.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST_BLOB:
        raise corrupt(f"{one_line(repr(size), 80)} is no size")
    platform = fields.get("platform")
    return Descriptor(
        media_type=_text(fields, "mediaType"),
        digest=check_digest(fields.get("digest")),
        size=size,
        platform=platform_text(platform) if isinstance(platform, dict) else "",
        annotations=_texts(fields.get("annotations"), "annotations"),
    )


def _settings(fields: Mapping[str, Any]) -> ImageConfig:
    return ImageConfig(
        env=_variables(fields.get("Env")),
        entrypoint=_words(fields, "Entrypoint"),
        command=_words(fields, "Cmd"),
        workdir=_text(fields, "WorkingDir"),
        user=_text(fields, "User"),
        labels=_texts(fields.get("Labels"), "Labels"),
        stop_signal=_text(fields, "StopSignal"),
        volumes=tuple(_object(fields.get("Volumes") or {}, "Volumes")),
        exposed_ports=tuple(_object(fields.get("ExposedPorts") or {}, "ExposedPorts")),
    )


def _object(value: object, what: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise corrupt(f"its {what} is of no known form")


def _is_text(value: object) -> bool:
    """Tell whether this is text that a process can be given."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if _is_text(value):
        return str(value)
    raise corrupt(f"{name} is no text")


def _texts(value: object, name: str) -> Mapping[str, str]:
    fields = _object(value or {}, name)
    if all(_is_text(one) for pair in fields.items() for one in pair):
        return MappingProxyType(dict(fields))
    raise corrupt(f"{name} are no texts")


def _words(fields: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, list) and all(_is_text(one) for one in value):
        return tuple(value) or None
    raise corrupt(f"{name} is no list of words")


def _variables(value: object) -> Mapping[str, str]:
    found = _words({"Env": value}, "Env") or ()
    pairs = (one.partition("=") for one in found)
    return MappingProxyType({name: text for name, separator, text in pairs if name and separator})


def _time(value: object) -> datetime | None:
    """Return a time of RFC 3339; None for one that is not to be understood, which harms nobody."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
