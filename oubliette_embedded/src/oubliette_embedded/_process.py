"""A command that one talks to while it runs."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import termios
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from oubliette_core.models import ByteSink, ByteSource
    from oubliette_embedded._exec import Command

__all__ = ["EmbeddedProcess"]

_WAKE = 1.0
_KILL_WITHIN = 12.0
_DRAIN = 2.0
_END_OF_TRANSMISSION = b"\x04"


class EmbeddedProcess:
    """See `oubliette_core.models.Process`. Safe between threads; there is no thread of its own."""

    def __init__(self, command: Command, *, tty: bool) -> None:
        self._command = command
        self._tty = tty
        self._changed = threading.Condition()
        self._hearing = self._is_closed = False
        self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._ended_at = float("inf")
        self._sink = _Sink(self, command.stdin, tty=tty)
        self._sources = (_Source(self, command.stdout), _Source(self, command.stderr))
        self.stdin: ByteSink = self._sink
        self.stdout: ByteSource = self._sources[0]
        self.stderr: ByteSource = self._sources[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """See `Process.wait`."""
        seconds = float("inf") if timeout is None else timeout
        if not self._hear_until(lambda: self._command.exit_code is not None, seconds) and self._command.lost:
            raise self._command.loss()
        return self._command.exit_code

    def kill(self) -> bool:
        """See `Process.kill`."""
        command = self._command
        if command.killed is not True and not command.lost and not self._is_closed:
            command.killed = None
            command.ask_to_kill()
            self._hear_until(lambda: command.killed is not None, _KILL_WITHIN)
        return command.killed is True or command.is_gone()

    def resize(self, rows: int, columns: int) -> None:
        """See `Process.resize`."""
        if self._tty:
            size = b"".join(number.to_bytes(2, "little") for number in (rows, columns, 0, 0))
            self._sources[0].use(lambda terminal: fcntl.ioctl(terminal, termios.TIOCSWINSZ, size))

    def close(self) -> None:
        """See `Process.close`. A command that has ended by itself leaves its background children running."""
        with self._changed:
            if self._is_closed:
                return
        try:
            if self.has_ended(0.0):
                for source in self._sources:
                    source.use(lambda descriptor: self._command.hand_over([descriptor]))
            else:
                self.kill()
        finally:
            self._close()

    def _close(self) -> None:
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        os.eventfd_write(self._alarm, 1)
        for stream in (self._sink, *self._sources):
            stream.release()
        with self._changed:
            while self._hearing:
                self._changed.wait(_WAKE)
            self._command.stdin = self._command.stdout = self._command.stderr = -1  # they have been closed
            self._command.close()
            os.close(self._alarm)

    def has_ended(self, seconds: float) -> bool:
        """Tell whether the command has ended, or ends within so many seconds."""
        return self._hear_until(lambda: self._command.exit_code is not None or self._command.lost, seconds)

    def drained(self) -> bool:
        """Tell whether the command ended so long ago that what still comes is of what it left running."""
        return self.has_ended(0.0) and time.monotonic() > self._ended_at + _DRAIN

    def pause(self, descriptor: int, events: int) -> bool:
        """Wait for up to a second until a stream is ready; False when the process was closed."""
        waiting = select.poll()
        waiting.register(self._alarm, select.POLLIN)
        waiting.register(descriptor, events)
        return all(ready != self._alarm for ready, _ in waiting.poll(_WAKE * 1000))

    def _hear_until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Take in news until something is so, one thread at a time; False when it was not in time."""
        deadline = time.monotonic() + seconds
        while True:
            with self._changed:
                if done():
                    return True
                left = deadline - time.monotonic()
                if self._is_closed or self._command.lost:
                    return False
                if self._hearing:
                    if left <= 0:
                        return False
                    self._changed.wait(min(left, _WAKE))
                    continue
                self._hearing = True
            try:
                heard = self._command.wait_for_news(min(max(left, 0.0), _WAKE))
            finally:
                with self._changed:
                    self._hearing = False
                    if self._command.exit_code is not None or self._command.lost:
                        self._ended_at = min(self._ended_at, time.monotonic())
                    self._changed.notify_all()
            if not heard and left <= 0:
                return done()


class _Stream:
    """A descriptor that several threads use, until it is closed.

    :param process: whose it is. :param descriptor: -1 where there is none.
    """

    def __init__(self, process: EmbeddedProcess, descriptor: int) -> None:
        self._process = process
        self._lock = threading.Lock()
        self._descriptor = descriptor
        if descriptor >= 0:
            os.set_blocking(descriptor, False)

    def use(self, action: Callable[[int], object]) -> None:
        """Do something with the descriptor, if it is open, whatever comes of it."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                action(self._descriptor)

    def release(self) -> None:
        """Close it when nobody uses it. Idempotent."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


class _Source(_Stream):
    """What a command prints."""

    def read(self, size: int, /) -> bytes:
        """See `ByteSource.read`."""
        with self._lock:
            while self._descriptor >= 0:
                try:
                    return os.read(self._descriptor, size)
                except BlockingIOError:
                    if self._process.drained() or not self._process.pause(self._descriptor, select.POLLIN):
                        break
                except OSError as error:
                    if error.errno != errno.EIO:  # a terminal that nobody has open any more
                        raise
                    break
        return b""


class _Sink(_Stream):
    """What a command reads."""

    def __init__(self, process: EmbeddedProcess, descriptor: int, *, tty: bool) -> None:
        super().__init__(process, descriptor)
        self._tty = tty

    def write(self, data: bytes, /) -> int | None:
        """See `ByteSink.write`. :raises BrokenPipeError: the command has ended, or its input was closed."""
        with self._lock:
            while self._descriptor >= 0:
                try:
                    return os.write(self._descriptor, data)
                except BlockingIOError:
                    if not self._process.pause(self._descriptor, select.POLLOUT):
                        break
                except OSError as error:
                    raise BrokenPipeError("the command has ended, and reads no more") from error
        raise BrokenPipeError("standard input of the command is closed")

    def close(self) -> None:
        """End of file: a terminal is sent the character for it."""
        if self._tty:
            self.use(lambda terminal: os.write(terminal, _END_OF_TRANSMISSION))
        self.release()
