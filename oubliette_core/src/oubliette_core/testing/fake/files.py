"""The file system that a fake container sees: one tree of nodes, with mounts in it.

Every name is looked up step by step, as the kernel does: links are followed inside the container, permissions are
checked for the user who asks, and what is mounted read-only cannot be changed.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from pathlib import PurePosixPath
from typing import cast

import attrs

from oubliette_core.testing.fake.nodes import Device, Directory, File, HostNode, Identity, Link, Node, fail

__all__ = ["ROOT", "Files", "Place", "join"]

ROOT = Identity()
_READ, _WRITE, _EXECUTE = 4, 2, 1
_MOST_LINKS = 40


@attrs.frozen(kw_only=True)
class Place:
    """Where a path leads to.

    :param node: what is there; None when only its directory exists. :param parent: that directory.
    """

    node: Node | None
    parent: Directory | HostNode | None
    name: str
    path: str
    read_only: bool

    @property
    def here(self) -> Node:
        """What is there; raises ENOENT when there is nothing."""
        if self.node is None:
            raise fail(errno.ENOENT, self.path)
        return self.node

    @property
    def directory(self) -> Directory | HostNode:
        """The directory that is there; raises ENOENT or ENOTDIR."""
        node = self.here
        if not stat.S_ISDIR(node.mode):
            raise fail(errno.ENOTDIR, self.path)
        return cast("Directory | HostNode", node)


@attrs.frozen(kw_only=True)
class _Mounted:
    node: Node
    read_only: bool


def join(directory: str, path: str) -> str:
    """Make ``path`` absolute, seen from ``directory``; links and ``..`` are left for the walk."""
    return path if path.startswith("/") else f"{directory.rstrip('/')}/{path}"


class Files:
    """A tree of nodes with mounts.

    :param root: the container's own layer. :param read_only: nothing in it can be changed.
    """

    def __init__(self, root: Directory, *, read_only: bool = False) -> None:
        self.root = root
        self._read_only = read_only
        self._mounts: dict[str, _Mounted] = {}

    def mount(self, target: str, node: Node, *, read_only: bool = False) -> None:
        """Make ``node`` visible at ``target``; the directories above it are made where they are missing."""
        path = str(PurePosixPath(target))
        place = self._make_target(PurePosixPath(target), stat.S_ISDIR(node.mode))
        self._mounts[place.path or path] = _Mounted(node=node, read_only=read_only)

    def _make_target(self, target: PurePosixPath, directory: bool) -> Place:
        for step in [*reversed(target.parents), target][1:]:
            place = self.locate(str(step))
            if place.node is None and place.parent is not None:
                if step == target and not directory:
                    place.parent.make_file(place.name, 0o644, ROOT)
                else:
                    place.parent.make_directory(place.name, 0o755, ROOT)
        return self.locate(str(target))

    # -- Looking up -----------------------------------------------------------------------------------------------

    def locate(self, path: str, who: Identity = ROOT, *, cwd: str = "/", follow: bool = True) -> Place:
        """Walk along ``path``.

        :param follow: also when the last step is a link.
        :raises OSError: a directory on the way is missing, is none, may not be entered, or the links go in a circle.
        """
        start = Place(node=self.root, parent=None, name="", path="", read_only=self._read_only)
        trail, links = [start], 0
        steps = deque(join(cwd, path).split("/"))
        while steps:
            step = steps.popleft()
            if step in ("", "."):
                continue
            if step == "..":
                del trail[1 if len(trail) == 1 else -1 :]
                continue
            place = self._step(trail[-1], step, who)
            target = _link_target(place.node)
            if target is not None and (follow or any(steps)):
                links += 1
                if links > _MOST_LINKS:
                    raise fail(errno.ELOOP, path)
                steps.extendleft(reversed(target.split("/")))
                trail = trail[:1] if target.startswith("/") else trail
            else:
                trail.append(place)
        return trail[-1] if trail[-1].path else attrs.evolve(trail[-1], path="/")

    def _step(self, place: Place, name: str, who: Identity) -> Place:
        directory = place.directory
        _require(directory, who, _EXECUTE, place.path)
        path = f"{place.path}/{name}"
        mounted = self._mounts.get(path)
        node = mounted.node if mounted else directory.get(name)
        read_only = mounted.read_only if mounted else place.read_only
        return Place(node=node, parent=directory, name=name, path=path, read_only=read_only)

    def real_path(self, path: str, who: Identity = ROOT, *, cwd: str = "/") -> str:
        """Return ``path`` without links."""
        place = self.locate(path, who, cwd=cwd)
        if place.node is None:
            raise fail(errno.ENOENT, path)
        return place.path

    def allowed(self, node: Node, who: Identity, wanted: int) -> bool:
        """Tell whether ``who`` may do ``wanted`` (4 read, 2 write, 1 execute) with ``node``."""
        return _allowed(node, who, wanted)

    def is_mount(self, path: str) -> bool:
        """Tell whether something is mounted at this real path."""
        return path in self._mounts

    # -- Reading and writing --------------------------------------------------------------------------------------

    def open_node(self, path: str, mode: str, who: Identity, *, cwd: str = "/") -> File | HostNode | Device:
        """Return the file behind ``path``, made or emptied as ``mode`` (``r``, ``w``, ``a``, ``rw``) says."""
        place = self.locate(path, who, cwd=cwd)
        if mode != "r" and place.node is None:
            return cast("File | HostNode", self._create(place, who))
        node = place.here
        if stat.S_ISDIR(node.mode):
            raise fail(errno.EISDIR, path)
        if mode != "r" and place.read_only and not isinstance(node, Device):
            raise fail(errno.EROFS, path)
        _require(node, who, _READ if mode == "r" else _WRITE, path)
        if not isinstance(node, (File, HostNode, Device)) or not (_regular(node) or isinstance(node, Device)):
            raise fail(errno.ENXIO, path)
        if mode == "w" and not isinstance(node, Device):
            node.truncate()
        return node

    def _create(self, place: Place, who: Identity) -> Node:
        parent = self._writable(place, who)
        return parent.make_file(place.name, 0o644, who)

    def read(self, path: str, who: Identity = ROOT, *, cwd: str = "/") -> bytes:
        """Return all of a file."""
        node = self.open_node(path, "r", who, cwd=cwd)
        return b"" if isinstance(node, Device) else node.read(0, node.size)

    def write(self, path: str, data: bytes, who: Identity = ROOT, *, cwd: str = "/", mode: str = "w") -> None:
        """Replace a file's content, or add to it with mode ``a``."""
        node = self.open_node(path, mode, who, cwd=cwd)
        if not isinstance(node, Device):
            node.write(node.tail(), data)

    # -- Changing the tree ----------------------------------------------------------------------------------------

    def make_directory(
        self, path: str, who: Identity = ROOT, *, cwd: str = "/", parents: bool = False, permissions: int = 0o755
    ) -> None:
        """Make a directory; with ``parents`` also those above it, and it may be there already."""
        if parents:
            steps = PurePosixPath(join(cwd, path))
            for step in reversed(steps.parents):
                if self.locate(str(step), who).node is None:
                    self.make_directory(str(step), who)
        place = self.locate(path, who, cwd=cwd)
        if place.node is not None:
            if parents and stat.S_ISDIR(place.node.mode):
                return
            raise fail(errno.EEXIST, path)
        self._writable(place, who).make_directory(place.name, permissions, who)

    def make_link(self, target: str, path: str, who: Identity = ROOT, *, cwd: str = "/") -> None:
        """Make a symbolic link."""
        place = self.locate(path, who, cwd=cwd, follow=False)
        if place.node is not None:
            raise fail(errno.EEXIST, path)
        self._writable(place, who).make_link(place.name, target, who)

    def remove(self, path: str, who: Identity = ROOT, *, cwd: str = "/", recursive: bool = False) -> None:
        """Remove a file, a link or an empty directory; with ``recursive`` everything below it first."""
        place = self.locate(path, who, cwd=cwd, follow=False)
        node = place.here
        if stat.S_ISDIR(node.mode):
            names = place.directory.names()
            if names and not recursive:
                raise fail(errno.ENOTEMPTY, path)
            for name in names:
                self.remove(f"{place.path}/{name}", who, recursive=True)
        if self.is_mount(place.path):
            raise fail(errno.EBUSY, path)
        self._writable(place, who).unlink(place.name)

    def move(self, source: str, target: str, who: Identity = ROOT, *, cwd: str = "/") -> None:
        """Rename within one file system; across two it is EXDEV, as with rename(2)."""
        old = self.locate(source, who, cwd=cwd, follow=False)
        new = self.locate(target, who, cwd=cwd, follow=False)
        if self.is_mount(old.path) or self.is_mount(new.path):
            raise fail(errno.EBUSY, source)
        if old.here is new.node:
            return
        if new.path.startswith(f"{old.path}/"):
            raise fail(errno.EINVAL, target)
        self._writable(new, who).adopt(new.name, self._writable(old, who), old.name)

    def link(self, source: str, target: str, who: Identity = ROOT, *, cwd: str = "/") -> None:
        """Give a file in memory a second name."""
        node = self.locate(source, who, cwd=cwd, follow=False).here
        place = self.locate(target, who, cwd=cwd, follow=False)
        parent = self._writable(place, who)
        if place.node is not None:
            raise fail(errno.EEXIST, target)
        if not isinstance(parent, Directory) or isinstance(node, HostNode):
            raise fail(errno.EPERM, target)
        parent.put(place.name, node)

    def change_mode(self, path: str, mode: int, who: Identity, *, cwd: str = "/") -> None:
        """Set the permissions of what belongs to ``who``."""
        place = self.locate(path, who, cwd=cwd)
        if who.uid not in (0, place.here.owner.uid):
            raise fail(errno.EPERM, path)
        self._unprotected(place).change(mode=mode)

    def change_owner(self, path: str, owner: Identity, who: Identity, *, cwd: str = "/", follow: bool = True) -> None:
        """Give something to another user; only the superuser can."""
        place = self.locate(path, who, cwd=cwd, follow=follow)
        if who.uid != 0:
            raise fail(errno.EPERM, path)
        self._unprotected(place).change(owner=owner)

    def touch(self, path: str, who: Identity, *, cwd: str = "/", time: float) -> None:
        """Set the time of the last change; make an empty file where there is none."""
        place = self.locate(path, who, cwd=cwd)
        node = place.node or self._create(place, who)
        self._unprotected(attrs.evolve(place, node=node)).change(mtime=time)

    def _unprotected(self, place: Place) -> Node:
        if place.read_only:
            raise fail(errno.EROFS, place.path)
        return place.here

    def _writable(self, place: Place, who: Identity) -> Directory | HostNode:
        if place.parent is None:
            raise fail(errno.EBUSY, place.path)
        if place.read_only:
            raise fail(errno.EROFS, place.path)
        _require(place.parent, who, _WRITE | _EXECUTE, place.path)
        sticky = place.parent.mode & stat.S_ISVTX and place.node is not None
        if sticky and who.uid not in (0, place.here.owner.uid, place.parent.owner.uid):
            raise fail(errno.EPERM, place.path)
        return place.parent


def _link_target(node: Node | None) -> str | None:
    if isinstance(node, Link):
        return node.target
    return node.target if isinstance(node, HostNode) and stat.S_ISLNK(node.mode) else None


def _regular(node: Node) -> bool:
    return stat.S_ISREG(node.mode)


def _allowed(node: Node, who: Identity, wanted: int) -> bool:
    if who.uid == 0:
        # The superuser reads and writes everything, and executes what anyone may.
        return not wanted & _EXECUTE or stat.S_ISDIR(node.mode) or bool(node.mode & 0o111)
    shift = 6 if node.owner.uid == who.uid else 3 if node.owner.gid == who.gid else 0
    return (node.mode >> shift) & wanted == wanted


def _require(node: Node, who: Identity, wanted: int, path: str) -> None:
    if not _allowed(node, who, wanted):
        raise fail(errno.EACCES, path or "/")
