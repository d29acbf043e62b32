"""Locks between processes: one that works on a project, and one that lives.

A lock is a file held with ``flock``, so the kernel lets go of it when its holder dies, in whatever way.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import BusyError, OperationCancelledError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oubliette_core.models import Cancel

__all__ = ["ProjectLocks", "hold_file"]

_POLL = 0.05
_PROJECT_WAIT = 60.0
"""Seconds to wait for a project: what is done under its lock (create, start, remove) takes less."""


@contextlib.contextmanager
def hold_file(path: Path, what: str, *, timeout: float, cancel: Cancel | None = None) -> Iterator[None]:
    """Hold the lock at ``path``, shutting out other threads and processes.

    :param what: what is locked, for the error's text.
    :raises BusyError: not free within ``timeout`` seconds. :raises OperationCancelledError: cancelled while waiting.
    :raises StoreError: there can be no lock here.
    """
    # It imports asyncio, which commands that take no lock should not pay for.
    from filelock import FileLock, Timeout  # noqa: PLC0415

    lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
    deadline = time.monotonic() + timeout
    while True:
        try:
            lock.acquire()
            break
        except Timeout:
            pass
        except OSError as error:
            raise StoreError(
                f"{path} cannot be used: {error.strerror}",
                subject=what,
                hint="See to it that the directory exists, is yours and can be written to.",
            ) from error
        if time.monotonic() >= deadline:
            raise BusyError(
                f"another process works on {what} and did not end within {timeout:g} s", subject=what, hint="Try again."
            )
        if cancel is None:
            time.sleep(_POLL)
        elif cancel.wait(_POLL):
            raise OperationCancelledError(f"cancelled while another process works on {what}", subject=what)
    try:
        yield
    finally:
        lock.release()


class ProjectLocks:
    """One lock for each project. Not reentrant.

    :param directory: where the lock files are. :param wait: seconds to wait for a project, unless told otherwise.
    """

    def __init__(self, directory: Path, *, wait: float = _PROJECT_WAIT) -> None:
        self._directory = directory
        self._wait = wait

    @contextlib.contextmanager
    def hold(self, project_id: str, *, cancel: Cancel | None = None, timeout: float | None = None) -> Iterator[None]:
        """Hold a project's lock.

        :param timeout: seconds to wait for it; 0 for not at all, None for as long as was set.
        :raises BusyError: not free within that time.
        :raises OperationCancelledError: cancelled while waiting.
        """
        wait = self._wait if timeout is None else timeout
        with hold_file(self._path(project_id), f"project {project_id}", timeout=wait, cancel=cancel):
            yield

    @contextlib.contextmanager
    def attempt(self, project_id: str) -> Iterator[bool]:
        """Hold a project's lock if it is free now; tells whether it was."""
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(self.hold(project_id, timeout=0.0))
                held = stack.pop_all()
        except BusyError:
            yield False
            return
        with held:
            yield True

    def forget(self, project_id: str) -> None:
        """Remove the lock file of a project that no longer exists; its holder calls this."""
        self._path(project_id).unlink(missing_ok=True)

    def _path(self, project_id: str) -> Path:
        return self._directory / f"{project_id}.lock"
