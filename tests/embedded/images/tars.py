"""Tar archives for layers, the well-formed and the hostile."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import attrs

from oubliette_core.testing.images import Layer


@attrs.frozen
class Entry:
    """One member. :param fields: attributes of `tarfile.TarInfo`."""

    name: str
    content: bytes = b""
    fields: dict[str, Any] = attrs.field(factory=dict)


def file(name: str, content: bytes | str = b"", **fields: Any) -> Entry:
    """Make a regular file."""
    return Entry(name, content.encode() if isinstance(content, str) else content, fields)


def folder(name: str, mode: int = 0o755, **fields: Any) -> Entry:
    """Make a directory."""
    return Entry(name, b"", {"type": tarfile.DIRTYPE, "mode": mode, **fields})


def link(name: str, target: str, **fields: Any) -> Entry:
    """Make a symbolic link."""
    return Entry(name, b"", {"type": tarfile.SYMTYPE, "linkname": target, **fields})


def hard_link(name: str, target: str, **fields: Any) -> Entry:
    """Make a hard link."""
    return Entry(name, b"", {"type": tarfile.LNKTYPE, "linkname": target, **fields})


def node(name: str, kind: bytes, **fields: Any) -> Entry:
    """Make a device or a fifo."""
    return Entry(name, b"", {"type": kind, **fields})


def tar(*entries: Entry) -> bytes:
    """Give the archive of some members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            archive.addfile(member(entry), io.BytesIO(entry.content))
    return buffer.getvalue()


def member(entry: Entry) -> tarfile.TarInfo:
    """Give a member's description."""
    info = tarfile.TarInfo(entry.name)
    info.size = len(entry.content)
    for name, value in entry.fields.items():
        setattr(info, name, value)
    return info


def layer(*entries: Entry) -> Layer:
    """Give a layer of some members."""
    return Layer.from_tar(tar(*entries))
