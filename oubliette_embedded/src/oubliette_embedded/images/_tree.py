"""Directories that are filled with what a hostile archive says: every step is taken from an open directory.

Nothing is ever reached by a path: each component is opened from the one before without following links, and a link is
followed by hand, with the directory itself as ``/``, as a container would. So no name leads outside.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_embedded.images._failures import Failure, corrupt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = [
    "OPAQUE",
    "Tree",
    "is_whiteout",
    "make_directory",
    "make_opaque",
    "make_whiteout",
    "remove_tree",
    "remove_tree_at",
    "shown",
]

OPAQUE = "user.overlay.opaque"
"""Attribute of a directory that hides what is below it, as overlayfs has it with ``userxattr``."""
IMPLIED_MODE = 0o755
"""Of directories that an archive does not list, as Docker makes them."""
_ELSEWHERE = "Keep the images on a file system such as ext4, xfs or btrfs: set XDG_DATA_HOME, or the runtime's root."
_DEEPEST = 256
_LINKS = 40
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Tree:
    """A directory that is being filled. The caller is the only one who works in it.

    :param root: an open directory, which stays the caller's.

    :ivar made: how many directories were made that nobody had named.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._last: tuple[tuple[bytes, ...] | None, int, bytes] | None = None
        self.made = 0

    def close(self) -> None:
        """Let go of the directory that was used last."""
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def changed(self) -> None:
        """Note that a directory or a link was replaced: what was found by its name has to be looked for again."""
        if self._last is not None:
            self._last = (None, *self._last[1:])

    def directory(self, parts: Sequence[bytes], *, create: bool = True) -> tuple[int, bytes]:
        """Return an open directory, valid until the next call, and its path as it really is.

        :param parts: components below the root; links among them are followed inside the root.
        :param create: make what is missing. :raises FileNotFoundError: something is missing, and is not to be made.
        :raises Failure: ``corrupt``: a component is no directory, or there is no end to the links.
        """
        key = tuple(parts)
        if self._last is not None and self._last[0] == key:
            return self._last[1:]
        descriptor, path = self._walk(parts, create=create)
        self.close()
        self._last = key, descriptor, path
        return descriptor, path

    def _walk(self, parts: Sequence[bytes], *, create: bool) -> tuple[int, bytes]:
        here, path, left, links = os.dup(self._root), list[bytes](), deque(parts), 0
        try:
            while left:
                name = left.popleft()
                if name in (b"", b"."):
                    continue
                if name == b"..":
                    target: bytes | None = None
                    step = self._up(here, path)
                else:
                    step, target = self._step(here, name, create=create)
                if step is not None:
                    os.close(here)
                    here = step
                    if name != b"..":
                        path.append(name)
                if target is not None:
                    links += 1
                    if target.startswith(b"/"):
                        os.close(here)
                        here, path = os.dup(self._root), []
                    left.extendleft(reversed(target.split(b"/")))
                if links > _LINKS or len(path) > _DEEPEST:
                    raise corrupt(f"{shown(b'/'.join(parts))} leads through too many links or directories")
        except BaseException:
            os.close(here)
            raise
        return here, b"/".join(path)

    def _up(self, here: int, path: list[bytes]) -> int | None:
        if not path:
            return None  # as / is its own parent
        path.pop()
        return os.open("..", _DIRECTORY, dir_fd=here)

    def _step(self, here: int, name: bytes, *, create: bool) -> tuple[int | None, bytes | None]:
        """Open a directory in a directory, or give the target of the link that is in its place."""
        try:
            return os.open(name, _DIRECTORY, dir_fd=here), None
        except FileNotFoundError:
            if not create:
                raise
            self.made += 1
            return make_directory(here, name), None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise corrupt(f"a name is too long: {shown(name[:60])}...") from error
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
        status = os.lstat(name, dir_fd=here)
        if stat.S_ISLNK(status.st_mode):
            return None, os.readlink(name, dir_fd=here)
        if not create:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not is_whiteout(status):
            raise corrupt(f"{shown(name)} is a file in one place and a directory in another")
        os.unlink(name, dir_fd=here)
        self.made += 1
        return make_directory(here, name, opaque=True), None


def make_directory(here: int, name: bytes, *, opaque: bool = False) -> int:
    """Make a directory and return it open."""
    os.mkdir(name, 0o700, dir_fd=here)
    made = os.open(name, _DIRECTORY, dir_fd=here)
    os.fchmod(made, IMPLIED_MODE)  # whatever the umask
    if opaque:
        make_opaque(made)
    return made


def make_opaque(directory: int) -> None:
    """Have an open directory hide what is below it."""
    try:
        os.setxattr(directory, OPAQUE, b"y")
    except OSError as error:
        if error.errno != errno.ENOTSUP:
            raise
        raise Failure("the file system keeps no attributes of users (user.*)", hint=_ELSEWHERE) from error


def make_whiteout(here: int, name: bytes) -> None:
    """Have a name hide what is below it: a character device 0:0, which overlayfs takes for that."""
    try:
        os.mknod(name, stat.S_IFCHR, os.makedev(0, 0), dir_fd=here)
    except PermissionError as error:
        raise Failure("no whiteouts can be made here, which needs Linux 5.8 or newer", hint=_ELSEWHERE) from error


def is_whiteout(status: os.stat_result) -> bool:
    """Tell whether this is such a name."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def shown(name: bytes) -> str:
    """Return a name from an archive as it may be printed."""
    return ascii(os.fsdecode(name))


# -- Removing ---------------------------------------------------------------------------------------------------------


def remove_tree(path: Path) -> None:
    """Remove a directory with all that is in it, whatever its depth and its modes; links are not followed.

    Several processes may do so at once. Nothing happens if there is none.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        remove_tree_at(parent, os.fsencode(path.name))
    finally:
        os.close(parent)


def remove_tree_at(parent: int, name: bytes) -> None:
    """Remove what has a name in an open directory, if there is such a thing."""
    left = [name]
    while left:
        _remove(parent, left.pop(), parent, left, 0)


def _remove(here: int, name: bytes, top: int, left: list[bytes], depth: int) -> None:
    """Remove a file or a directory. A directory that lies too deep is moved to the top and added to ``left``."""
    try:
        os.unlink(name, dir_fd=here)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # either may be said of a directory
    with _opened(here, name) as directory:
        if directory is None:
            return
        if depth == _DEEPEST // 8:
            moved = b".removed-" + secrets.token_hex(8).encode()
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, moved, src_dir_fd=here, dst_dir_fd=top)
                left.append(moved)
            return
        with os.scandir(directory) as entries:
            names = [os.fsencode(entry.name) for entry in entries]
        for inner in names:
            _remove(directory, inner, top, left, depth + 1)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=here)


@contextlib.contextmanager
def _opened(here: int, name: bytes) -> Iterator[int | None]:
    try:
        descriptor = _open_to_empty(here, name)
    except FileNotFoundError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_to_empty(here: int, name: bytes) -> int:
    """Open a directory whose entries can be removed, even if its mode forbids that."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(name, _DIRECTORY, dir_fd=here)
        if os.fstat(descriptor).st_mode & 0o300 != 0o300:
            os.fchmod(descriptor, 0o700)
        return descriptor
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    try:
        Path(f"/proc/self/fd/{handle}").chmod(0o700)
        return os.open(".", _DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
