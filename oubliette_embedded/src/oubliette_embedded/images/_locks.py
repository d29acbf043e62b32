"""Locks between processes, held with ``flock``: the kernel lets go of them when the holder dies, in whatever way.

Not the library that core takes its locks from: that one has no shared locks.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["hold", "try_hold"]

_POLL = 0.02


@contextlib.contextmanager
def hold(path: Path, *, shared: bool = False, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock at ``path`` against other threads and processes; when shared, against those that want it alone.

    :param waiting: called again and again while somebody else holds it; what it raises ends the waiting.
    """
    while (descriptor := _try(path, shared=shared)) is None:
        if waiting is not None:
            waiting()
        time.sleep(_POLL)
    try:
        yield
    finally:
        _let_go(descriptor)


@contextlib.contextmanager
def try_hold(path: Path) -> Iterator[bool]:
    """Hold the lock alone if nobody else has it now; gives whether it is held."""
    descriptor = _try(path, shared=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _let_go(descriptor)


def _try(path: Path, *, shared: bool) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    held = False
    try:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            # Lock files of content that is gone are deleted: what we hold must still be what others find.
            held = os.fstat(descriptor).st_nlink > 0
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None


def _let_go(descriptor: int) -> None:
    # A child that was forked meanwhile may have the descriptor, too: closing ours would leave the lock with it.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)
