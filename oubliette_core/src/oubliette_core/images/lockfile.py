"""The lock: the digest of each container type's image, so that every machine and every day gets the same.

``oubliette.lock`` is JSON beside the configuration, made to be copied and kept in version control::

    {"version": 1, "images": {"base": {"image": "ghcr.io/...:latest", "platform": null, "digest": "sha256:...", ...}}}
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ConfigError, InvalidReferenceError
from oubliette_core.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core.models import ContainerType, ImageInfo

__all__ = ["Lock", "LockedImage", "digest_of", "read_lock", "write_lock"]

_VERSION = 1
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_ID = re.compile(r"(?:sha256:[a-f0-9]{64})?")


@attrs.frozen(kw_only=True)
class LockedImage:
    """The image that a container type is held to.

    :param image: the reference as configured, with a tag. :param platform: as configured.
    :param digest: of the manifest or index that the registry has.
    :param id: the engine's id of it where it was locked; finds an image again that was loaded from an archive.
    """

    image: str
    platform: str | None
    digest: str
    id: str = ""


@attrs.frozen(kw_only=True)
class Lock:
    """The locked images by container type."""

    images: Mapping[str, LockedImage]

    def find(self, container_type: ContainerType) -> LockedImage | None:
        """Return what a container type is held to; None if it is not locked, or was configured otherwise then."""
        found = self.images.get(container_type.name)
        image = str(Reference.parse(container_type.image).with_default_tag())
        same = found is not None and (found.image, found.platform) == (image, container_type.platform)
        return found if same else None


def digest_of(info: ImageInfo, image: str) -> str:
    """Return the digest that an image was pulled by from the repository of ``image``; empty where there is none."""
    wanted = Reference.parse(image)
    if wanted.digest:
        return wanted.digest
    known = (Reference.parse(text) for text in sorted(info.digests))
    return next((one.digest for one in known if one.normalised().name == wanted.normalised().name), "")


def read_lock(file: Path) -> Lock | None:
    """Read a lock; None where there is none.

    :raises ConfigError: it cannot be read or is no lock. It is never passed over: that would loosen what it holds.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']!r} is not known here")
        return Lock(images={str(name): _entry(entry) for name, entry in content["images"].items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, InvalidReferenceError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "no entry"
        raise ConfigError(
            f"{file} cannot be used: {reason}",
            file=str(file),
            hint="Restore it, or make it anew: delete it, then run: oubliette image lock",
        ) from error


def _entry(content: dict[str, Any]) -> LockedImage:
    entry = LockedImage(**content)
    Reference.parse(entry.image)
    if not (_DIGEST.fullmatch(entry.digest) and _ID.fullmatch(entry.id)):
        raise ValueError(f"{entry.image} has no digest in it")
    return entry


def write_lock(file: Path, lock: Lock) -> None:
    """Write a lock in one step: who reads it sees the old one or the new one.

    :raises ConfigError: it cannot be written; the old one is as it was.
    """
    images = {name: attrs.asdict(entry) for name, entry in lock.images.items()}
    text = json.dumps({"version": _VERSION, "images": images}, indent=2) + "\n"
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(temporary).replace(file)
    except OSError as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink(missing_ok=True)
        raise ConfigError(f"{file} cannot be written: {error.strerror or error}", file=str(file)) from error
