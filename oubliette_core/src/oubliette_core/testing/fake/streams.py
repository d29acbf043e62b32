"""What the processes of a fake container read from and write to: pipes, files, devices and a terminal."""

from __future__ import annotations

import errno
import os
import signal
import threading
from typing import TYPE_CHECKING, Protocol

from oubliette_core.testing.fake.nodes import Device, File, HostNode, fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.testing.fake.kernel import Kernel, Task

__all__ = [
    "PIPE_SIZE",
    "FileStream",
    "OpenFile",
    "Pipe",
    "ReadEnd",
    "Recorder",
    "Sink",
    "Terminal",
    "WriteEnd",
    "open_pipe",
]

PIPE_SIZE = 64 * 1024


class OpenFile:
    """An open file: shared by the processes that inherit it, released when the last of them has closed it."""

    terminal: Terminal | None = None

    def __init__(self) -> None:
        self._users = 1
        self._users_lock = threading.Lock()

    def share(self) -> OpenFile:
        """Return the same open file for one more user."""
        with self._users_lock:
            self._users += 1
        return self

    def close(self) -> None:
        """One user less; the last one releases it."""
        with self._users_lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.release()

    def release(self) -> None:
        """Nobody uses it any more."""

    def read(self, size: int, task: Task | None = None) -> bytes:
        """Return at least one byte and at most ``size``; ``b""`` at the end."""
        del size, task
        raise fail(errno.EBADF)

    def read_line(self, task: Task | None = None) -> bytes:
        """Return what comes up to the next newline, and nothing of what follows it."""
        line = bytearray()
        while not line.endswith(b"\n"):
            data = self.read(1, task)
            if not data:
                break
            line += data
        return bytes(line)

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Write all of ``data``."""
        del data, task
        raise fail(errno.EBADF)


class Pipe:
    """A bounded buffer between processes, or between a process and the host."""

    def __init__(self, kernel: Kernel, size: int = PIPE_SIZE) -> None:
        self._kernel = kernel
        self._size = size
        self._buffer = bytearray()
        self._written_to = True
        self._read_from = True

    @property
    def ended(self) -> bool:
        """Whether everything has been read and nothing can follow."""
        return not self._written_to and not self._buffer

    def read(self, size: int, task: Task | None = None, *, timeout: float | None = None) -> bytes | None:
        """Return up to ``size`` bytes as soon as there are any, ``b""`` at the end, None after ``timeout``."""
        kernel = self._kernel
        with kernel.lock:
            if not kernel.wait(lambda: bool(self._buffer) or not self._written_to, timeout=timeout, task=task):
                return None
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            kernel.lock.notify_all()
            return data

    def read_line(self, task: Task | None = None) -> bytes:
        """Return what comes up to the next newline, or up to the end."""
        line = bytearray()
        while not line.endswith(b"\n"):
            with self._kernel.lock:
                self._kernel.wait(lambda: bool(self._buffer) or not self._written_to, task=task)
                newline = self._buffer.find(b"\n")
                data = self.read(newline + 1 if newline >= 0 else PIPE_SIZE, task)
            if not data:
                break
            line += data
        return bytes(line)

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Write all of ``data``, waiting for a reader when it is full; raises EPIPE when nobody reads."""
        kernel = self._kernel
        view = memoryview(data)
        with kernel.lock:
            while view:
                kernel.wait(lambda: len(self._buffer) < self._size or not self._read_from, task=task)
                if not self._read_from:
                    raise fail(errno.EPIPE)
                room = self._size - len(self._buffer)
                self._buffer += view[:room]
                view = view[room:]
                kernel.lock.notify_all()

    def end_writing(self) -> None:
        """Nobody writes any more."""
        with self._kernel.lock:
            self._written_to = False
            self._kernel.lock.notify_all()

    def end_reading(self) -> None:
        """Nobody reads any more."""
        with self._kernel.lock:
            self._read_from = False
            self._kernel.lock.notify_all()


class ReadEnd(OpenFile):
    """The end of a pipe that is read."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def read(self, size: int, task: Task | None = None) -> bytes:
        """Return what is in the pipe, or wait for it."""
        return self._pipe.read(size, task) or b""

    def read_line(self, task: Task | None = None) -> bytes:
        """Return the next line."""
        return self._pipe.read_line(task)

    def release(self) -> None:
        """Tell the writers."""
        self._pipe.end_reading()


class WriteEnd(OpenFile):
    """The end of a pipe that is written to."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self._pipe = pipe

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Put all of ``data`` into the pipe."""
        self._pipe.write(data, task)

    def release(self) -> None:
        """Tell the reader."""
        self._pipe.end_writing()


def open_pipe(kernel: Kernel) -> tuple[ReadEnd, WriteEnd]:
    """Make a pipe; returns the end to read and the end to write."""
    pipe = Pipe(kernel)
    return ReadEnd(pipe), WriteEnd(pipe)


class FileStream(OpenFile):
    """A file or a device, opened with mode ``r``, ``w``, ``a`` or ``rw``."""

    def __init__(self, node: File | HostNode | Device, mode: str) -> None:
        super().__init__()
        self._node = node
        self._mode = mode
        self._offset = 0
        self._lock = threading.Lock()

    def read(self, size: int, task: Task | None = None) -> bytes:
        """Return the next bytes."""
        if task is not None:
            task.check()
        if isinstance(self._node, Device):
            return _device_read(self._node.name, size)
        if "r" not in self._mode:
            raise fail(errno.EBADF)
        with self._lock:
            data = self._node.read(self._offset, size)
            self._offset += len(data)
            return data

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Write at the offset, or at the end with mode ``a``."""
        if task is not None:
            task.check()
        if isinstance(self._node, Device):
            if self._node.name == "full":
                raise fail(errno.ENOSPC)
            return
        if self._mode == "r":
            raise fail(errno.EBADF)
        with self._lock:
            offset = self._node.tail() if self._mode == "a" else self._offset
            self._node.write(offset, data)
            self._offset = offset + len(data)


def _device_read(name: str, size: int) -> bytes:
    if name in ("zero", "full"):
        return bytes(size)
    return os.urandom(size) if name in ("random", "urandom") else b""


class Recorder(Protocol):
    """What keeps bytes that were written."""

    def append(self, data: bytes, /) -> None:
        """Keep ``data``."""


class Sink(OpenFile):
    """Hands everything that is written to a recorder, such as a container's log."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Record ``data``."""
        if task is not None:
            task.check()
        self._recorder.append(data)


class Terminal(OpenFile):
    """A terminal in its usual mode: echoes, reads by lines, ends lines with CR LF, knows ^C and ^D.

    :param screen: where everything that is shown goes. :param interrupt: called with the signal of ^C.
    """

    def __init__(self, kernel: Kernel, screen: OpenFile, interrupt: Callable[[int], None]) -> None:
        super().__init__()
        self.terminal = self
        self.rows, self.columns = 24, 80
        self._screen = screen
        self._input = Pipe(kernel)
        self._line = bytearray()
        self._interrupt = interrupt

    def read(self, size: int, task: Task | None = None) -> bytes:
        """Return the next line, or the part of it that fits."""
        return self._input.read(size, task) or b""

    def write(self, data: bytes, task: Task | None = None) -> None:
        """Show ``data``."""
        self._screen.write(data.replace(b"\n", b"\r\n"), task)

    def type(self, data: bytes) -> None:
        """Press keys."""
        for key in (data[index : index + 1] for index in range(len(data))):
            if key == b"\x03":
                self._line.clear()
                self.write(b"^C\n")
                self._interrupt(signal.SIGINT)
            elif key == b"\x04":
                self._end_of_file()
            elif key in (b"\r", b"\n"):
                self.write(b"\n")
                self._input.write(bytes(self._line) + b"\n")
                self._line.clear()
            else:
                self._line += key
                self.write(key)

    def _end_of_file(self) -> None:
        if self._line:
            self._input.write(bytes(self._line))
            self._line.clear()
        else:
            self._input.end_writing()

    def resize(self, rows: int, columns: int) -> None:
        """Set the size in characters."""
        self.rows, self.columns = rows, columns

    def hang_up(self) -> None:
        """The user has gone: readers get the end of the file, and what is written is lost."""
        self._input.end_writing()

    def release(self) -> None:
        """The last process has closed it."""
        self._screen.close()
