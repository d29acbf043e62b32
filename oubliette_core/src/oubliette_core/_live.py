"""What lives while a call goes on, and is no value: a request to stop, and a process that one talks to.

Their documented home is `oubliette_core.models`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

__all__ = ["ByteSink", "ByteSource", "Cancel", "Process"]


class Cancel:
    """A request to stop, that any thread can make and that backends react to at once.

    A backend registers with `on_cancel` what ends its blocking read (closing a socket, killing a process). Not to be
    called from a signal handler, which may interrupt the thread that holds the lock: hand it to another thread.
    """

    __slots__ = ("_callbacks", "_cancelled", "_lock")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._callbacks: dict[object, Callable[[], None]] = {}

    @property
    def cancelled(self) -> bool:
        """True once `cancel` has been called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask to stop. Idempotent; runs every registered function once, in this thread."""
        with self._lock:
            if self._cancelled.is_set():
                return
            self._cancelled.set()
            callbacks = list(self._callbacks.values())
            self._callbacks.clear()
        for callback in callbacks:
            callback()

    def on_cancel(self, function: Callable[[], None]) -> Callable[[], None]:
        """Have ``function`` called when cancelled, at once if that has happened; returns a function that takes it back.

        ``function`` must not raise and must not block.
        """
        key = object()
        with self._lock:
            if not self._cancelled.is_set():
                self._callbacks[key] = function
                return lambda: self._forget(key)
        function()
        return lambda: None

    def _forget(self, key: object) -> None:
        with self._lock:
            self._callbacks.pop(key, None)

    def wait(self, timeout: float) -> bool:
        """Sleep for up to ``timeout`` seconds; True as soon as cancelled."""
        return self._cancelled.wait(timeout)


class ByteSink(Protocol):
    """Where bytes for a process go. A raw pipe fits."""

    def write(self, data: bytes, /) -> int | None:
        """Write ``data``, or the part of it whose length is returned; block while the process does not read."""

    def close(self) -> None:
        """End of file for the process. Idempotent."""


class ByteSource(Protocol):
    """Where bytes of a process come from. A raw pipe fits."""

    def read(self, size: int, /) -> bytes | None:
        """Return at least one byte and at most ``size`` as soon as there are any; ``b""`` at the end."""


class Process(Protocol):
    """A command that runs in a container while we talk to it.

    Both streams have to be read, or the command stops when a pipe is full. With a terminal all output is on stdout.
    """

    @property
    def stdin(self) -> ByteSink:
        """What the command reads."""

    @property
    def stdout(self) -> ByteSource:
        """What the command prints."""

    @property
    def stderr(self) -> ByteSource:
        """What the command prints as errors; at its end at once with a terminal."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the command has ended; its exit code, or None after ``timeout`` seconds.

        :raises RuntimeLostError: the engine went away.
        """

    def kill(self) -> bool:
        """Kill the whole process tree. True if it was confirmed that nothing is left. Idempotent."""

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size in characters; without a terminal nothing happens."""

    def close(self) -> None:
        """Release the connection. A command that still runs is killed first. Idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
