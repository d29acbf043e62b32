"""The file tree that an overlay of layers shows, looked at without mounting it.

Names inside of it are followed as a process with the tree as its root would: never out of it. What is in the layers
comes from an image, and what is in the upper directory from a container that is not running.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Merged"]

_MOST_LINKS = 40
_OPAQUE = "user.overlay.opaque"


class Merged:
    """A tree of layers. :param layers: directories, top first."""

    def __init__(self, layers: Sequence[Path]) -> None:
        self._layers = tuple(str(layer) for layer in layers)

    def resolve(self, path: str) -> str:
        """Return the same path without symbolic links; what does not exist counts as plain names.

        :raises InvalidSpecError: links lead in circles, or through something that is no directory.
        """
        done: list[str] = []
        left = _parts(path)
        links = 0
        while left:
            name = left.pop(0)
            if name == "..":
                done = done[:-1]
                continue
            found = self._lstat([*done, name])
            if found is None:
                done.append(name)
            elif stat.S_ISLNK(found[0].st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise InvalidSpecError(f"{path} leads in circles in the image", value=path)
                link = str(Path(found[1]).readlink())
                done = [] if link.startswith("/") else done
                left = [*_parts(link), *left]
            elif left and not stat.S_ISDIR(found[0].st_mode):
                raise InvalidSpecError(f"/{'/'.join([*done, name])} is not a directory in the image", value=path)
            else:
                done.append(name)
        return "/" + "/".join(done)

    def read(self, path: str, limit: int) -> bytes:
        """Return the beginning of a regular file; empty when there is none."""
        try:
            found = self._lstat(_parts(self.resolve(path)))
        except InvalidSpecError:
            return b""
        if found is None or not stat.S_ISREG(found[0].st_mode):
            return b""
        with open(found[1], "rb", opener=_without_following) as file:
            return file.read(limit)

    def _lstat(self, parts: Sequence[str]) -> tuple[os.stat_result, str] | None:
        """Look at what is there; parents are directories, or missing."""
        directories: Sequence[str] = self._layers
        found: tuple[os.stat_result, str] | None = None
        for name in parts:
            found, directories = _child(directories, name)
            if found is None:
                return None
        return found


def _child(directories: Sequence[str], name: str) -> tuple[tuple[os.stat_result, str] | None, list[str]]:
    """Look for a name in a merged directory: what is there, and where that is merged of when it is a directory."""
    first: tuple[os.stat_result, str] | None = None
    merged: list[str] = []
    for directory in directories:
        path = os.path.join(directory, name)  # noqa: PTH118 - many of them
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            break  # removed here, whatever is below
        if first is not None and not stat.S_ISDIR(status.st_mode):
            break
        first = first or (status, path)
        if not stat.S_ISDIR(status.st_mode):
            break
        merged.append(path)
        if _is_opaque(path):
            break
    return first, merged


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _parts(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _without_following(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
