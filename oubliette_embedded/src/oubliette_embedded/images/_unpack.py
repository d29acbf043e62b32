"""A layer becomes a directory that overlayfs can stack.

Rules follow the OCI image specification (layer.md): ``.wh.NAME`` hides NAME of the layers below, ``.wh..wh..opq`` all
that is in a directory. They become what overlayfs has for them with ``userxattr``, which needs no root.

The superuser gives files to their owners. An ordinary user cannot: all belong to whoever unpacks, and inside a
container there is one user for them, whatever it is called there.

Set-user-id and set-group-id bits of files, capabilities of files and device nodes are left out: a container of ours
could not use them, and on the host they must not lie around. Directories are open to their owner and files can be
read by theirs: an image's root, which may go and look everywhere, has no such power here.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING, TypeVar

import attrs

from oubliette_embedded.images._failures import Failure, corrupt
from oubliette_embedded.images._tar import CHUNK, DAMAGE, Source, decompressed, members, too_large
from oubliette_embedded.images._tree import (
    Tree,
    is_whiteout,
    make_directory,
    make_opaque,
    make_whiteout,
    remove_tree_at,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oubliette_embedded.images._model import Limits

__all__ = ["Unpacked", "unpack"]

_Made = TypeVar("_Made")
_WHITEOUT = b".wh."
_AUFS = b".wh..wh."
_OPAQUE = b".wh..wh..opq"
_LONGEST_PATH = 4095
_LONGEST_NAME = 255
_XATTR = "SCHILY.xattr."
_LATEST = 1 << 33
"""Times are seconds since 1970; file systems do not know later ones."""


@attrs.frozen(kw_only=True)
class Unpacked:
    """What a layer held.

    :param size: bytes of its files. :param entries: files, directories and links.
    :param hides_all: nothing of the layers below is to be seen.
    """

    size: int
    entries: int
    hides_all: bool = False


def unpack(
    file: IO[bytes], root: int, diff_id: str, *, compressed: int, limits: Limits, step: Callable[[], None]
) -> Unpacked:
    """Unpack a layer into an empty directory.

    :param file: the layer, compressed or not. :param root: the open directory. :param diff_id: what it has to be.
    :param compressed: its size in bytes. :param step: called often; what it raises ends the unpacking.
    :raises Failure: ``corrupt`` for a layer that is damaged, hostile, too large or not the one that it has to be.
    """
    allowed = limits.allowed(compressed)
    # Headers, padding and the end of an archive are bytes, too.
    source = Source(decompressed(file), diff_id, allowed + 2 * tarfile.BLOCKSIZE * limits.entries, step)
    layer = _Layer(source, root, limits.entries, allowed)
    try:
        for member, archive in members(source):
            layer.take(member, archive)
        source.drain()
        layer.finish()
    except DAMAGE as error:
        raise corrupt(f"a layer of it is damaged: {error}") from error
    finally:
        layer.close()
    if source.digest != diff_id:
        raise corrupt(f"a layer of it has digest {source.digest} unpacked, and not {diff_id}")
    return Unpacked(size=layer.size, entries=layer.entries, hides_all=layer.hides_all)


@attrs.frozen(kw_only=True)
class _Status:
    """What a file or a directory is to have. :param time: nanoseconds."""

    mode: int
    time: int
    uid: int
    gid: int


class _Layer:
    """A directory that becomes a layer."""

    def __init__(self, source: Source, root: int, most: int, allowed: int) -> None:
        self._source, self._root, self._most, self._allowed = source, root, most, allowed
        self._tree = Tree(root)
        self._directories: dict[bytes, _Status] = {}
        self._gives = os.geteuid() == 0
        self.size = self.entries = 0
        self.hides_all = False

    def close(self) -> None:
        self._tree.close()

    # -- Members ------------------------------------------------------------------------------------------------------

    def take(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Make one member."""
        self.entries += 1
        if self.entries + self._tree.made > self._most:
            raise corrupt(f"a layer of it holds more than {self._most:,} files, which is taken for an attack")
        parts = _components(member.name)
        if not parts:
            self._take_root(member)
            return
        *above, name = parts
        if name.startswith(_WHITEOUT):
            self._take_whiteout(above, name)
            return
        here, path = self._tree.directory(above)
        path = path + b"/" + name if path else name
        if member.isdir():
            self._take_directory(here, name, path, member)
        elif member.isreg():
            self._take_file(here, name, member, archive)
        elif member.issym():
            self._take_link(here, name, member)
        elif member.islnk():
            self._take_hard_link(here, name, member)
        elif member.isfifo():
            self._place(here, name, lambda: os.mkfifo(name, _status(member).mode, dir_fd=here))
            self._give(name, _status(member), here)
        elif member.isdev():
            self._place(here, name, lambda: make_whiteout(here, name))
        else:
            raise corrupt(f"{shown(name)} in a layer is of an unknown type ({member.type!r})")

    def _take_root(self, member: tarfile.TarInfo) -> None:
        if not member.isdir():
            raise corrupt("the root of a layer is no directory")
        self._directories[b""] = _status(member)

    def _take_whiteout(self, above: list[bytes], name: bytes) -> None:
        here, path = self._tree.directory(above)
        if name == _OPAQUE:
            # overlayfs does not look at this attribute of a layer's root.
            self.hides_all = self.hides_all or not path
            make_opaque(here)
            return
        if name.startswith(_AUFS):
            return  # what aufs keeps for itself
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise corrupt(f"a layer hides {shown(hidden)}")
        try:
            status = os.lstat(hidden, dir_fd=here)
        except FileNotFoundError:
            make_whiteout(here, hidden)
            return
        # The layer has the name itself. A file hides what is below anyhow, a directory has to be told to.
        if stat.S_ISDIR(status.st_mode):
            directory = os.open(hidden, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            try:
                make_opaque(directory)
            finally:
                os.close(directory)

    def _take_directory(self, here: int, name: bytes, path: bytes, member: tarfile.TarInfo) -> None:
        try:
            os.close(make_directory(here, name))
        except FileExistsError:
            status = os.lstat(name, dir_fd=here)
            if not stat.S_ISDIR(status.st_mode):
                self._remove(here, name)
                os.close(make_directory(here, name, opaque=is_whiteout(status)))
        self._directories[path] = _status(member)

    def _take_file(self, here: int, name: bytes, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if self.size + member.size > self._allowed:
            raise too_large(self._allowed)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = self._place(here, name, lambda: os.open(name, flags, 0o600, dir_fd=here))
        try:
            for data in self._content(member, archive):
                _write(target, data)
            os.ftruncate(target, member.size)  # it may end with a hole
            for attribute, value in _attributes(member):
                with contextlib.suppress(OSError):  # not every file system has them, or room for them
                    os.setxattr(target, attribute, value)
            self._finish(target, _status(member))
        finally:
            os.close(target)
        self.size += member.size

    def _content(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> Iterator[bytes]:
        left = member.size
        sparse = archive.extractfile(member) if member.issparse() else None
        if sparse is None:
            self._source.seek(member.offset_data)
        while left:
            data = (sparse or self._source).read(min(left, CHUNK))
            if not data:
                raise corrupt("its archive ends in the middle of a file")
            left -= len(data)
            yield data

    def _take_link(self, here: int, name: bytes, member: tarfile.TarInfo) -> None:
        target = _bytes(member.linkname)
        if not target or b"\0" in target or len(target) > _LONGEST_PATH:
            raise corrupt(f"{shown(name)} in a layer is a link to nothing that could be")
        self._place(here, name, lambda: os.symlink(target, name, dir_fd=here))
        status = _status(member)
        self._give(name, status, here)
        os.utime(name, ns=(status.time, status.time), dir_fd=here, follow_symlinks=False)

    def _take_hard_link(self, here: int, name: bytes, member: tarfile.TarInfo) -> None:
        *above, final = _components(member.linkname) or [b"."]
        with contextlib.ExitStack() as stack:
            here = _kept(here, stack)  # the search for the other directory lets go of this one
            try:
                there = _kept(self._tree.directory(above, create=False)[0], stack)
                status = os.lstat(final, dir_fd=there)
                if stat.S_ISDIR(status.st_mode) or is_whiteout(status):
                    raise FileNotFoundError
                if not _is_same(here, name, status):
                    link = functools.partial(os.link, final, name, src_dir_fd=there, dst_dir_fd=here)
                    self._place(here, name, functools.partial(link, follow_symlinks=False))
            except FileNotFoundError as error:
                raise corrupt(f"{shown(name)} in a layer is a link to a file that the layer does not have") from error

    # -- Places -------------------------------------------------------------------------------------------------------

    def _place(self, here: int, name: bytes, make: Callable[[], _Made]) -> _Made:
        """Make something under a name, in the place of what has the name by then."""
        try:
            return make()
        except FileExistsError:
            self._remove(here, name)
            return make()

    def _remove(self, here: int, name: bytes) -> None:
        remove_tree_at(here, name)
        self._tree.changed()

    def finish(self) -> None:
        """Give directories their modes and times, now that nothing comes into them any more."""
        self._tree.changed()
        self._directories.setdefault(b"", _Status(mode=0o755, time=0, uid=0, gid=0))
        for path in sorted(self._directories, reverse=True):  # what is in a directory comes before it
            parts = path.split(b"/") if path else []
            try:
                directory, real = self._tree.directory(parts, create=False)
            except (FileNotFoundError, Failure):
                continue  # replaced by something else in the meantime
            if real == path:
                self._finish(directory, self._directories[path])

    def _finish(self, target: int, status: _Status) -> None:
        """Give an open file or directory its owner, mode and time."""
        self._give(target, status)
        os.fchmod(target, status.mode)  # after the owner, who is not told who may do what
        os.utime(target, ns=(status.time, status.time))

    def _give(self, target: int | bytes, status: _Status, here: int | None = None) -> None:
        """Give something to its owner, if that can be done here."""
        if not self._gives:
            return
        with contextlib.suppress(PermissionError, OverflowError):
            try:
                if isinstance(target, int):
                    os.fchown(target, status.uid, status.gid)
                else:
                    os.chown(target, status.uid, status.gid, dir_fd=here, follow_symlinks=False)
            except OSError as error:
                if error.errno != errno.EINVAL:  # an id that this user namespace does not have
                    raise


# -- What members say -------------------------------------------------------------------------------------------------


def _components(name: str) -> list[bytes]:
    """Return the components of a name; absolute ones are taken as below the root.

    :raises Failure: ``corrupt``: the name leads outside, or is none that a file could have.
    """
    raw = _bytes(name)
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise corrupt(f"a name in a layer leads outside: {shown(raw)}")
    if b"\0" in raw or len(raw) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in parts):
        raise corrupt(f"a name in a layer is none that a file could have: {shown(raw[:100])}")
    return parts


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _status(member: tarfile.TarInfo) -> _Status:
    mode = member.mode & 0o3777 | 0o700 if member.isdir() else member.mode & 0o777 | 0o400
    return _Status(mode=mode, time=_time(member), uid=member.uid, gid=member.gid)


def _time(member: tarfile.TarInfo) -> int:
    """Return a member's time in nanoseconds; what is none is the beginning of time."""
    try:
        return int(max(-_LATEST, min(_LATEST, member.mtime)) * 1_000_000_000)
    except (ValueError, OverflowError):  # nan
        return 0


def _attributes(member: tarfile.TarInfo) -> Iterator[tuple[bytes, bytes]]:
    """Yield the extended attributes that are kept: the user's own, but none that overlayfs goes by."""
    for key, value in member.pax_headers.items():
        name = key.removeprefix(_XATTR)
        if name != key and name.startswith("user.") and not name.startswith("user.overlay"):
            yield _bytes(name), _bytes(value)


# -- Open files -------------------------------------------------------------------------------------------------------


def _write(target: int, data: bytes) -> None:
    if not data[0] and not data.strip(b"\0"):
        os.lseek(target, len(data), os.SEEK_CUR)  # a hole costs nothing
        return
    left = memoryview(data)
    while left:
        left = left[os.write(target, left) :]


def _kept(directory: int, stack: contextlib.ExitStack) -> int:
    kept = os.dup(directory)
    stack.callback(os.close, kept)
    return kept


def _is_same(here: int, name: bytes, other: os.stat_result) -> bool:
    try:
        status = os.lstat(name, dir_fd=here)
    except FileNotFoundError:
        return False
    return (status.st_dev, status.st_ino) == (other.st_dev, other.st_ino)
