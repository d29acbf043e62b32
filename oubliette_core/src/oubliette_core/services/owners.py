"""Owners of sessions: processes that other processes can see to be alive.

An owner holds a lock file for as long as it lives. The kernel lets go of it when the process ends, in whatever way,
so nobody has to trust a process id or a heartbeat.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Self

from oubliette_core.services.ids import is_id, new_id

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["Owner", "owner_lives"]

_KIND = "owner"


class Owner:
    """This process, as the owner of sessions. A context manager; `close` ends it.

    :param directory: where the lock files are.
    """

    def __init__(self, directory: Path) -> None:
        _sweep(directory)
        self.id = new_id(_KIND)
        self._path = _lock_file(directory, self.id)
        self._descriptor: int | None = _lock(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cease to be alive in the eyes of others. Idempotent."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(descriptor)


def owner_lives(directory: Path, owner: str) -> bool:
    """Tell whether the process that owns sessions under this id is alive."""
    return is_id(owner, _KIND) and _is_held(_lock_file(directory, owner))


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # A sweep by another process may have come between the two lines above.
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two that look at the same time must not take each other for the owner.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sweep(directory: Path) -> None:
    """Remove what dead owners left behind."""
    for path in directory.glob(f"{_KIND}_*.lock"):
        if not _is_held(path):
            path.unlink(missing_ok=True)


def _lock_file(directory: Path, owner: str) -> Path:
    return directory / f"{owner}.lock"
