"""What a fake container's file system is made of: files, directories, links and devices, in memory or on the host.

Only bind mounts are on the host. A `HostNode` reaches it by path and never follows a link itself: links are followed
by the walk in `oubliette_core.testing.fake.files`, which stays inside the container.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Device", "Directory", "File", "HostNode", "Identity", "Link", "Node", "Quota", "fail"]


@attrs.frozen
class Identity:
    """Who acts: a user's and a group's number."""

    uid: int = 0
    gid: int = 0


def fail(number: int, path: str = "") -> OSError:
    """Return the OSError of this number, as the kernel would have it."""
    return OSError(number, os.strerror(number), path)


class Node(Protocol):
    """One entry of a file system."""

    @property
    def mode(self) -> int:
        """Type and permissions, as in ``st_mode``."""

    @property
    def owner(self) -> Identity:
        """Who it belongs to."""

    @property
    def size(self) -> int:
        """Length of the content in bytes."""

    @property
    def mtime(self) -> float:
        """Time of the last change, in seconds since 1970."""

    def change(self, *, mode: int | None = None, owner: Identity | None = None, mtime: float | None = None) -> None:
        """Set permissions, owner or time."""


@attrs.define
class Quota:
    """The room that a tmpfs has left."""

    left: int

    def take(self, size: int) -> None:
        """Use ``size`` bytes of it, or raise ENOSPC; a negative size gives back."""
        if size > self.left:
            raise fail(errno.ENOSPC)
        self.left -= size


class _Memory:
    """What all nodes in memory have."""

    kind = 0

    def __init__(self, permissions: int, owner: Identity) -> None:
        self.mode = self.kind | permissions
        self.owner = owner
        self.size = 0
        self.mtime = time.time()

    def change(self, *, mode: int | None = None, owner: Identity | None = None, mtime: float | None = None) -> None:
        if mode is not None:
            self.mode = self.kind | (mode & 0o7777)
        self.owner = owner or self.owner
        self.mtime = self.mtime if mtime is None else mtime


class File(_Memory):
    """A file in memory."""

    kind = stat.S_IFREG

    def __init__(
        self, data: bytes = b"", permissions: int = 0o644, owner: Identity = Identity(), quota: Quota | None = None
    ) -> None:
        super().__init__(permissions, owner)
        # Bytes, shared with other containers of an image, until the first write.
        self._data: bytes | bytearray = data
        self._quota = quota
        self.size = len(data)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on."""
        return bytes(self._data[offset : offset + size])

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``; a gap before it is filled with zeros."""
        grown = max(0, offset + len(data) - len(self._data))
        if self._quota:
            self._quota.take(grown)
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        if offset > len(self._data):
            self._data.extend(bytes(offset - len(self._data)))
        self._data[offset : offset + len(data)] = data
        self.size, self.mtime = len(self._data), time.time()

    def truncate(self) -> None:
        """Make it empty."""
        if self._quota:
            self._quota.take(-len(self._data))
        self._data = b""
        self.size, self.mtime = 0, time.time()

    def tail(self) -> int:
        """Return the offset at its end."""
        return len(self._data)


class Link(_Memory):
    """A symbolic link in memory."""

    kind = stat.S_IFLNK

    def __init__(self, target: str, owner: Identity = Identity()) -> None:
        super().__init__(0o777, owner)
        self.target = target
        self.size = len(target)


class Device(_Memory):
    """A character device; what it does is known by its name."""

    kind = stat.S_IFCHR

    def __init__(self, name: str) -> None:
        super().__init__(0o666, Identity())
        self.name = name


class Directory(_Memory):
    """A directory in memory."""

    kind = stat.S_IFDIR

    def __init__(self, permissions: int = 0o755, owner: Identity = Identity(), quota: Quota | None = None) -> None:
        super().__init__(permissions, owner)
        self.entries: dict[str, Node] = {}
        self._quota = quota

    def get(self, name: str) -> Node | None:
        """Return the entry of this name."""
        return self.entries.get(name)

    def names(self) -> list[str]:
        """List the entries."""
        return list(self.entries)

    def put(self, name: str, node: Node) -> None:
        """Add or replace an entry."""
        self.entries[name] = node
        self.mtime = time.time()

    def make_file(self, name: str, permissions: int, owner: Identity) -> Node:
        """Add an empty file."""
        self.put(name, File(b"", permissions, owner, self._quota))
        return self.entries[name]

    def make_directory(self, name: str, permissions: int, owner: Identity) -> Node:
        """Add an empty directory."""
        self.put(name, Directory(permissions, owner, self._quota))
        return self.entries[name]

    def make_link(self, name: str, target: str, owner: Identity) -> None:
        """Add a symbolic link."""
        self.put(name, Link(target, owner))

    def unlink(self, name: str) -> None:
        """Take an entry out, whatever it is."""
        node = self.entries.pop(name)
        if self._quota and isinstance(node, File):
            node.truncate()
        self.mtime = time.time()

    def adopt(self, name: str, source: Directory | HostNode, old: str) -> None:
        """Move an entry of ``source`` here."""
        if not isinstance(source, Directory):
            raise fail(errno.EXDEV)
        self.put(name, source.entries.pop(old))


class HostNode:
    """A file, directory or link on the host, below the source of a bind mount."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def _stat(self) -> os.stat_result:
        return self.path.lstat()

    @property
    def mode(self) -> int:
        """Type and permissions."""
        return self._stat().st_mode

    @property
    def owner(self) -> Identity:
        """Owner on the host."""
        found = self._stat()
        return Identity(found.st_uid, found.st_gid)

    @property
    def size(self) -> int:
        """Length in bytes."""
        return self._stat().st_size

    @property
    def mtime(self) -> float:
        """Time of the last change."""
        return self._stat().st_mtime

    @property
    def target(self) -> str:
        """Where a link points to."""
        return str(self.path.readlink())

    def change(self, *, mode: int | None = None, owner: Identity | None = None, mtime: float | None = None) -> None:
        """Set permissions, owner or time. Only the superuser can give a file away: for others it stays whose it is."""
        if mode is not None:
            self.path.chmod(mode & 0o7777)
        if owner is not None and os.geteuid() == 0:
            os.chown(self.path, owner.uid, owner.gid, follow_symlinks=False)
        if mtime is not None:
            os.utime(self.path, (mtime, mtime), follow_symlinks=False)

    def read(self, offset: int, size: int) -> bytes:
        """Return up to ``size`` bytes from ``offset`` on."""
        with self._open(os.O_RDONLY) as descriptor:
            return os.pread(descriptor.number, size, offset)

    def write(self, offset: int, data: bytes) -> None:
        """Put ``data`` at ``offset``."""
        with self._open(os.O_WRONLY) as descriptor:
            os.pwrite(descriptor.number, data, offset)

    def truncate(self) -> None:
        """Make it empty."""
        with self._open(os.O_WRONLY | os.O_TRUNC):
            pass

    def tail(self) -> int:
        """Return the offset at its end."""
        return self.size

    def get(self, name: str) -> HostNode | None:
        """Return the entry of this name."""
        child = HostNode(self.path / name)
        return child if os.path.lexists(child.path) else None

    def names(self) -> list[str]:
        """List the entries."""
        return [path.name for path in self.path.iterdir()]

    def make_file(self, name: str, permissions: int, owner: Identity) -> HostNode:
        """Add an empty file."""
        os.close(os.open(self.path / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, permissions))
        return self._own(name, owner)

    def make_directory(self, name: str, permissions: int, owner: Identity) -> HostNode:
        """Add an empty directory."""
        (self.path / name).mkdir(permissions)
        return self._own(name, owner)

    def make_link(self, name: str, target: str, owner: Identity) -> None:
        """Add a symbolic link."""
        (self.path / name).symlink_to(target)
        self._own(name, owner)

    def unlink(self, name: str) -> None:
        """Take an entry out."""
        child = self.path / name
        if child.is_dir() and not child.is_symlink():
            child.rmdir()
        else:
            child.unlink()

    def adopt(self, name: str, source: Directory | HostNode, old: str) -> None:
        """Move an entry of ``source`` here."""
        if not isinstance(source, HostNode):
            raise fail(errno.EXDEV)
        shutil.move(source.path / old, self.path / name)

    def _own(self, name: str, owner: Identity) -> HostNode:
        """Give what was made to the user of the container, where the host lets us."""
        child = HostNode(self.path / name)
        child.change(owner=owner)
        return child

    def _open(self, flags: int) -> _Descriptor:
        return _Descriptor(os.open(self.path, flags | os.O_NOFOLLOW | os.O_NONBLOCK))


class _Descriptor:
    """An open file of the host, closed at the end of the block."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> _Descriptor:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self.number)
