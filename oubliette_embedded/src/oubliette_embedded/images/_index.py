"""Which images are here, and which containers use them."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import InvalidValueError, RuntimeOperationError
from oubliette_core.reference import Reference
from oubliette_embedded.images._disk import read_json
from oubliette_embedded.images._failures import RUNTIME
from oubliette_embedded.images._platforms import choose, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oubliette_embedded.images._disk import Disk

__all__ = ["Record", "find", "key_of", "read_images", "read_use", "read_uses", "write_images", "write_use"]

_VERSION = 1
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
DOCKER_HUB = "docker.io/"


@attrs.frozen(kw_only=True)
class Record:
    """One image under one reference for one platform.

    :param reference: in full, with tag or digest; empty for an image without a name.
    :param target: digest that the reference led to in a registry: of an index, or of the manifest; empty if loaded.
    :param manifest: digest. :param id: digest of the configuration. :param layers: digests of the blobs, lowest first.
    :param sizes: of the blobs, in bytes. :param diff_ids: of the same layers unpacked.
    """

    reference: str
    platform: str
    target: str
    manifest: str
    id: str
    layers: tuple[str, ...]
    sizes: tuple[int, ...]
    diff_ids: tuple[str, ...]
    added: str = attrs.field(factory=lambda: datetime.now(UTC).isoformat())

    @property
    def blobs(self) -> frozenset[str]:
        """Digests of all blobs of the image."""
        return frozenset((self.manifest, self.id, *self.layers))

    @property
    def name(self) -> str:
        """The reference without tag and digest; empty for an image without a name."""
        return Reference.parse(self.reference).name if self.reference else ""


def key_of(image: str) -> str:
    """Return a reference as records have it: in full, and with a digest only if it has one; an id as it is.

    :raises InvalidReferenceError: it is no reference.
    """
    if image.startswith(("sha256:", "sha512:")):
        return image
    reference = Reference.parse(image).normalised()
    return f"{reference.name}@{reference.digest}" if reference.digest else str(reference)


def find(records: Iterable[Record], image: str, platform: str | None) -> Record | None:
    """Return the record that is meant by a reference or an id.

    :param platform: None for this machine's own, or the newest where there is none for this machine.
    """
    is_meant = _meant(key_of(image))
    found = [record for record in records if is_meant(record)]
    if platform is not None:
        found = [record for record in found if matches(platform, record.platform)]
    found.sort(key=lambda record: record.added, reverse=True)
    best = choose(found, lambda record: record.platform, platform)
    return best or (found[0] if found else None)


def _meant(key: str) -> Callable[[Record], bool]:
    if key.startswith(("sha256:", "sha512:")):
        return lambda record: record.id == key
    name, at, digest = key.partition("@")
    if at:
        return lambda record: digest in (record.target, record.manifest) and record.name == name
    return lambda record: record.reference == key


# -- On the disk ------------------------------------------------------------------------------------------------------


def read_images(disk: Disk) -> list[Record]:
    """Return all images. :raises RuntimeOperationError: a newer version wrote the list, or it is damaged."""
    found = read_json(disk.images)
    if found is None and not disk.images.exists():
        return []
    try:
        if found["version"] != _VERSION:
            raise ValueError(f"version {found['version']!r} is not known here")
        return [_record(fields) for fields in found["images"]]
    except (LookupError, TypeError, ValueError) as error:
        raise RuntimeOperationError(
            f"the list of images cannot be read: {disk.images}: {error}",
            runtime=RUNTIME,
            subject=str(disk.images),
            hint="Use the newest Oubliette, or remove the directory of the images and pull them again.",
        ) from error


def write_images(disk: Disk, records: Iterable[Record]) -> None:
    """Replace the list of images. To be called with the index locked for a change."""
    disk.write_json(disk.images, {"version": _VERSION, "images": [attrs.asdict(record) for record in records]})


def read_use(disk: Disk, user: str) -> Record | None:
    """Return the image that a container was made from."""
    return _use(read_json(disk.uses / f"{_checked(user)}.json"))


def read_uses(disk: Disk) -> list[Record]:
    """Return the images that containers were made from."""
    found = (_use(read_json(path)) for path in disk.uses.glob("*.json"))
    return [record for record in found if record is not None]


def write_use(disk: Disk, user: str, record: Record) -> None:
    """Note that a container uses an image. To be called with the index locked."""
    path, data = disk.uses / f"{_checked(user)}.json", json.dumps(attrs.asdict(record)).encode()
    try:
        disk.add(path, data)  # an incomplete note is none: there is no container yet that could need it
    except FileExistsError:
        disk.write(path, data)


def remove_use(disk: Disk, user: str) -> None:
    """Forget that a container uses an image."""
    (disk.uses / f"{_checked(user)}.json").unlink(missing_ok=True)


def _use(fields: Any) -> Record | None:
    try:
        return None if fields is None else _record(fields)
    except (LookupError, TypeError):
        return None


def _record(fields: Any) -> Record:
    lists = {name: tuple(fields[name]) for name in ("layers", "sizes", "diff_ids")}
    return Record(**{**fields, **lists})


def _checked(user: str) -> str:
    if _USER.fullmatch(user):
        return user
    raise InvalidValueError(f"{user!r} is no id of a container", value=repr(user))
