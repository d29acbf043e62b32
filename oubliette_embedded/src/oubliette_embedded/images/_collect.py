"""Removing what nothing uses."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from oubliette_embedded.images._disk import file_name, read_json
from oubliette_embedded.images._index import read_images, read_uses
from oubliette_embedded.images._locks import try_hold
from oubliette_embedded.images._tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._index import Record

__all__ = ["collect", "given_up"]

_KEPT = 24 * 3600.0
"""Seconds that the remains of a failed pull are kept, so that the next one goes on with them."""


def given_up(disk: Disk, record: Record) -> None:
    """Note that an image lost a reference or a container: what it alone used is to be removed.

    To be called while the store is shared. What belongs to another image as well stays.
    """
    paths = [disk.blob(digest) for digest in record.blobs]
    paths += [disk.layers / f"{file_name(digest)}.json" for digest in record.diff_ids]
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.utime(path, (0, 0))  # old enough to go
    disk.dirty.touch(mode=0o600)


def collect(disk: Disk) -> None:
    """Remove what no image and no container needs, unless somebody is adding or using now: then they will do it."""
    if not disk.dirty.exists():
        return
    with try_hold(disk.alone) as held:
        if held:
            disk.dirty.unlink(missing_ok=True)
            for path in list(_unused(disk)):
                disk.discard(path)
    if held:
        for path in disk.trash.iterdir():
            remove_tree(path)


def _unused(disk: Disk) -> Iterator[Path]:
    with disk.index(change=False):
        used = [*read_images(disk), *read_uses(disk)]
    blobs = {disk.blob(digest) for record in used for digest in record.blobs}
    records = {disk.layers / f"{file_name(digest)}.json" for record in used for digest in record.diff_ids}
    stacks = [record.diff_ids for record in used]
    yield from _old(path for folder in disk.blobs.iterdir() for path in folder.iterdir() if path not in blobs)
    yield from _old(disk.partial.iterdir())
    yield from disk.locks.iterdir()  # nobody is at work now, or this one would not be
    others = [path for path in disk.layers.iterdir() if path not in records]
    merged = {path: layers for path in others if (layers := _merged(path))}
    gone = set(_old(path for path in others if path not in merged))
    gone |= {path for path, layers in merged.items() if not any(stack[: len(layers)] == layers for stack in stacks)}
    yield from gone
    # A directory that no record speaks of is what a crash left behind.
    kept = {_tree_of(path) for path in disk.layers.iterdir() if path not in gone}
    yield from (path for path in disk.trees.iterdir() if path.name not in kept)


def _merged(record: Path) -> tuple[str, ...]:
    """Return the layers that were merged into one; none if it is one that was unpacked."""
    found = read_json(record)
    return tuple(found.get("merged", ())) if isinstance(found, dict) else ()


def _tree_of(record: Path) -> str:
    found = read_json(record)
    return str(found.get("tree")) if isinstance(found, dict) else ""


def _old(paths: Iterable[Path]) -> Iterator[Path]:
    now = time.time()
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            if abs(now - path.stat().st_mtime) > _KEPT:
                yield path
