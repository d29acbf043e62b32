"""What an exec and a log send: frames taken apart, output kept up to a limit, bytes moved in both directions."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oubliette_docker._connection import HijackedStream

__all__ = ["CHUNK", "END_OF_TRANSMISSION", "STDERR", "STDOUT", "Demultiplexer", "Dialogue", "Kept", "Wake"]

STDOUT, STDERR = 1, 2
CHUNK = 256 * 1024
END_OF_TRANSMISSION = b"\x04"
"""What ends the input at a terminal (Ctrl-D): there the engine takes half a close for a whole one."""
_HEADER = struct.Struct(">B3sL")
_END = 1024
"""Bytes at either end of an output that tell whether a command ran at all."""
_STRANGE = 4096


class Demultiplexer:
    """Takes a stream apart into standard output and standard error.

    The format is that of the Engine API's "stream format" (``/containers/{id}/attach``): frames with a header of eight
    bytes. With a terminal there are no frames, and all is standard output.

    :ivar strange: what came in place of a frame: an engine that failed while it was answering says so in plain text.
    """

    def __init__(self, *, framed: bool) -> None:
        self.strange = b""
        self._framed = framed
        self._header = bytearray()
        self._channel = STDOUT
        self._left = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, memoryview]]:
        """Yield the parts of ``data`` with the stream that they belong to; they live as long as ``data``."""
        view = memoryview(data)
        if not self._framed:
            if view:
                yield STDOUT, view
            return
        while view:
            if self.strange:
                self.strange = (self.strange + view)[:_STRANGE]
                return
            if self._left:
                part, view = view[: self._left], view[self._left :]
                self._left -= len(part)
                yield self._channel, part
            else:
                view = self._read_header(view)

    @property
    def between_frames(self) -> bool:
        """Whether the part that was yielded last ends its frame."""
        return not self._left

    def _read_header(self, view: memoryview) -> memoryview:
        missing = _HEADER.size - len(self._header)
        self._header += view[:missing]
        if len(self._header) == _HEADER.size:
            channel, padding, self._left = _HEADER.unpack(self._header)
            if channel > STDERR or any(padding):
                self.strange, self._left = bytes(self._header), 0
            self._channel = max(channel, STDOUT)  # 0 is what was typed, echoed
            self._header.clear()
        return view[missing:]


class Kept:
    """The beginning of an output, up to a limit.

    :ivar truncated: something was dropped.
    """

    def __init__(self, limit: int) -> None:
        self.truncated = False
        self._limit = limit
        self._data = bytearray()
        self._head, self._tail = b"", b""

    def add(self, data: memoryview) -> None:
        """Take ``data`` in, as far as there is room."""
        room = self._limit - len(self._data)
        if len(data) > room:
            self.truncated = True
        self._data += data[:room]
        if len(self._head) < _END:
            self._head += data[: _END - len(self._head)]
        self._tail = (self._tail + data[-_END:])[-_END:]

    def whole(self) -> bytes:
        """Return what was kept."""
        return bytes(self._data)

    def ends(self) -> bytes:
        """Return how the output began and how it ended, whatever was kept of it."""
        return self._head if len(self._head) < _END else self._head + self._tail


class Wake:
    """Something for a poll to wait for that another thread can set."""

    def __init__(self) -> None:
        self.descriptor, self._other = socket.socketpair()
        self._other.setblocking(False)

    def set(self) -> None:
        """Wake the poll. Never blocks and never raises, also when closed."""
        with contextlib.suppress(OSError):
            self._other.send(b"!")

    def close(self) -> None:
        """Release the descriptors. Idempotent."""
        self.descriptor.close()
        self._other.close()


class Dialogue:
    """Moves bytes between an exec and this process in one thread: neither direction can block the other.

    :param stdin: given to the command before the end of file; None leaves that direction alone. At a terminal
        (``framed`` is False) it ends as one that is typed does.
    :param take: called with each part of the output. :param wake: ends a wait before its time.
    :ivar moved: bytes that have come so far.
    """

    def __init__(
        self,
        stream: HijackedStream,
        *,
        framed: bool,
        take: Callable[[int, memoryview], None],
        stdin: bytes | None = None,
        wake: Wake | None = None,
    ) -> None:
        self._stream, self._take = stream, take
        self._demultiplexer = Demultiplexer(framed=framed)
        self._half_close = framed
        self._unsent = None if stdin is None else memoryview(stdin if framed else _typed(stdin))
        self._poll = select.poll()
        self.moved = 0
        stream.sock.setblocking(False)
        self._wake = wake
        if wake is not None:
            self._poll.register(wake.descriptor, select.POLLIN)
        self._feed(stream.buffered)
        self._send()

    @property
    def strange(self) -> bytes:
        """What the engine said outside of any frame."""
        return self._demultiplexer.strange

    def step(self, timeout: float) -> bool:
        """Move what can be moved, waiting for it up to ``timeout`` seconds. False once the engine has hung up."""
        sock = self._stream.sock
        self._poll.register(sock, select.POLLIN if self._unsent is None else select.POLLIN | select.POLLOUT)
        events = dict(self._poll.poll(max(timeout, 0) * 1000))
        if self._wake is not None and self._wake.descriptor.fileno() in events:
            self._poll.unregister(self._wake.descriptor)  # once is enough: later waits are for the output
            self._wake = None
        ready = events.get(sock.fileno(), 0)
        if ready & select.POLLOUT:
            self._send()
        return self._receive() if ready & ~select.POLLOUT else True

    def _receive(self) -> bool:
        try:
            data = self._stream.sock.recv(CHUNK)
        except BlockingIOError:
            return True
        except OSError:  # reset: what that means, only the exit code can tell
            return False
        self._feed(data)
        return bool(data)

    def _feed(self, data: bytes) -> None:
        self.moved += len(data)
        for channel, part in self._demultiplexer.feed(data):
            self._take(channel, part)

    def _send(self) -> None:
        if self._unsent is None:
            return
        try:
            self._unsent = self._unsent[self._stream.sock.send(self._unsent[:CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # the command has ended, or closed its standard input
            self._unsent = None
            return
        if not self._unsent:
            self._unsent = None
            if self._half_close:
                self._stream.close_write()


def _typed(data: bytes) -> bytes:
    """End an input as at a terminal: within a line the first Ctrl-D ends the line only."""
    at_line_start = not data or data.endswith(b"\n")
    return data + END_OF_TRANSMISSION * (1 if at_line_start else 2)
