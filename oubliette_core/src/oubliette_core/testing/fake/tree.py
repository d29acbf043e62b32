"""From the layers of an image to the tree that a container begins with, and back."""

from __future__ import annotations

import functools
import io
import tarfile
import zlib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs

from oubliette_core.testing.fake.nodes import Directory, File, Identity, Link

if TYPE_CHECKING:
    from oubliette_core.testing.fake.nodes import Node
    from oubliette_core.testing.images import Image, Layer

__all__ = ["make_tree"]

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


@attrs.frozen
class _Entry:
    """One member of a layer."""

    path: PurePosixPath
    kind: bytes
    mode: int
    owner: Identity
    target: str
    data: bytes


def make_tree(image: Image) -> Directory:
    """Lay the layers of an image over each other (OCI image specification, "Image Layer Filesystem Changeset")."""
    root = Directory()
    for layer in image.layers:
        for entry in _entries(layer):
            _apply(root, entry)
    return root


@functools.lru_cache(maxsize=64)
def _entries(layer: Layer) -> tuple[_Entry, ...]:
    """Read a layer once: containers share the bytes of its files until they write to them."""
    found = []
    with tarfile.open(fileobj=io.BytesIO(zlib.decompress(layer.data, wbits=47))) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isreg() else None
            entry = _Entry(
                path=PurePosixPath(
                    "/", *(part for part in PurePosixPath(member.name).parts if part not in ("/", ".."))
                ),
                kind=member.type,
                mode=member.mode,
                owner=Identity(member.uid, member.gid),
                target=member.linkname,
                data=content.read() if content is not None else b"",
            )
            found.append(entry)
    return tuple(found)


def _apply(root: Directory, entry: _Entry) -> None:
    parent = _directory(root, entry.path.parent)
    name = entry.path.name
    old = parent.get(name)
    if name == _OPAQUE:
        parent.entries.clear()
    elif name.startswith(_WHITEOUT):
        parent.entries.pop(name.removeprefix(_WHITEOUT), None)
    elif entry.kind == tarfile.DIRTYPE:
        if name and not isinstance(old, Directory):
            parent.put(name, Directory())
        (_directory(root, entry.path)).change(mode=entry.mode, owner=entry.owner)
    elif entry.kind == tarfile.SYMTYPE:
        parent.put(name, Link(entry.target, entry.owner))
    elif entry.kind == tarfile.LNKTYPE:
        target = PurePosixPath("/", entry.target)
        parent.put(name, _directory(root, target.parent).entries[target.name])
    elif entry.kind in (tarfile.REGTYPE, tarfile.AREGTYPE):
        parent.put(name, File(entry.data, entry.mode, entry.owner))


def _directory(root: Directory, path: PurePosixPath) -> Directory:
    """Return a directory of the tree; what is missing on the way is made."""
    current = root
    for part in path.parts[1:]:
        following: Node | None = current.get(part)
        if not isinstance(following, Directory):
            following = Directory()
            current.put(part, following)
        current = following
    return current
