"""Several layers as one directory, for images with more layers than a mount takes.

What overlayfs would show of the layers is made of hard links to their files, so it costs directories and no content.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from oubliette_embedded.images._tree import OPAQUE, is_whiteout, make_directory, remove_tree_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["merge"]


def merge(layers: Sequence[Path], target: Path, step: Callable[[], None]) -> None:
    """Fill an empty directory with what layers show together.

    :param layers: directories on the same file system, lowest first. :param step: called for each directory.
    """
    with _opened(target) as root:
        for layer in layers:
            with _opened(layer) as source:
                _add(source, root, step)


def _add(source: int, target: int, step: Callable[[], None]) -> None:
    """Put one directory of a layer over what the layers below it have."""
    step()
    with os.scandir(source) as entries:
        names = [os.fsencode(entry.name) for entry in entries]
    for name in names:
        status = os.lstat(name, dir_fd=source)
        if stat.S_ISDIR(status.st_mode):
            _add_directory(source, target, name, step)
            continue
        remove_tree_at(target, name)
        if not is_whiteout(status):
            os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    status = os.fstat(source)
    if os.geteuid() == 0:
        os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _add_directory(source: int, target: int, name: bytes, step: Callable[[], None]) -> None:
    with _opened(name, source) as inner:
        if OPAQUE in os.listxattr(inner) or not _is_directory(target, name):
            remove_tree_at(target, name)
            os.close(make_directory(target, name))
        with _opened(name, target) as beneath:
            _add(inner, beneath, step)


def _is_directory(here: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=here).st_mode)
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _opened(path: Path | bytes, here: int | None = None) -> Iterator[int]:
    # The directories of layers are open to their owner.
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
