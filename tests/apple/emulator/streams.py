"""Carrying bytes between a process in a container and the command's own streams."""

import contextlib
import os
import select
import signal
import socket
import termios
import time
import tty
from collections.abc import Callable, Iterator

from tests.apple.emulator.context import Context

_CHUNK = 65536
_DRAINING = 3.0
"""Seconds for which the streams of a process are read after its end."""
_HEADER = 8
_REFUSALS = (b"OCI runtime exec failed", b"unable to find user", b"no matching entries in passwd")


class Relay:
    """One conversation.

    :param early: what came with the engine's answer. :param terminal: both streams are one, of a terminal.
    :param ended: tells whether the process has ended. :param resize: tells the engine the terminal's size.
    """

    def __init__(
        self,
        context: Context,
        sock: socket.socket,
        early: bytes,
        *,
        terminal: bool,
        stdin: bool,
        ended: Callable[[], bool],
        resize: Callable[[int, int], None] = lambda rows, columns: None,
    ) -> None:
        self.refusal = b""
        self.interrupted = False
        self._context = context
        self._sock = sock
        self._terminal = terminal
        self._frames = early
        self._reads_stdin = stdin
        self._to_send = b""
        self._ended = ended
        self._resize = resize
        self._heard = False
        self._deaf: float | None = None

    def run(self) -> None:
        """Carry until the process has closed its streams, or for a while after its end."""
        if not self._reads_stdin:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        self._sock.setblocking(False)
        with self._raw():
            self._take(b"")
            pause = 0.05
            while not self.interrupted and (self._deaf is None or time.monotonic() < self._deaf):
                if self._step(pause):
                    if not self._open():
                        break
                    pause = 0.05
                else:
                    pause = min(0.5, pause * 2)
                    if self._deaf is None and self._ended():
                        self._deaf = time.monotonic() + _DRAINING
        self._sock.close()

    def _step(self, pause: float) -> bool:
        """Move what can be moved; False when nothing came from the process."""
        readable: list[socket.socket | int] = (
            [self._sock] if not self._reads_stdin or len(self._to_send) > _CHUNK else [self._sock, 0]
        )
        writable = [self._sock] if self._to_send else []
        ready, free, _ = select.select(readable, writable, [], pause)
        if free:
            self._send()
        if 0 in ready:
            self._read_stdin()
        return self._sock in ready

    def _open(self) -> bool:
        try:
            chunk = self._sock.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if chunk:
            self._take(chunk)
        return bool(chunk)

    def _send(self) -> None:
        try:
            self._to_send = self._to_send[self._sock.send(self._to_send) :]
        except BlockingIOError:
            return
        except OSError:  # the process does not read any more
            self._to_send, self._reads_stdin = b"", False
        self._finish_sending()

    def _read_stdin(self) -> None:
        try:
            chunk = os.read(0, _CHUNK)
        except OSError:
            chunk = b""
        self._to_send += chunk
        if not chunk:
            self._reads_stdin = False
            self._finish_sending()

    def _finish_sending(self) -> None:
        if not self._reads_stdin and not self._to_send:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)

    def _take(self, chunk: bytes) -> None:
        if self._terminal:
            self._put(1, self._frames + chunk)
            self._frames = b""
            return
        self._frames += chunk
        while len(self._frames) >= _HEADER:
            size = int.from_bytes(self._frames[4:_HEADER], "big")
            if len(self._frames) < _HEADER + size:
                return
            stream, data = self._frames[0], self._frames[_HEADER : _HEADER + size]
            self._frames = self._frames[_HEADER + size :]
            self._put(2 if stream == 2 else 1, data)

    def _put(self, number: int, data: bytes) -> None:
        if not data:
            return
        # The engine reports on standard output that it could not start a process.
        if self.refusal or (not self._heard and data.startswith(_REFUSALS)):
            self.refusal += data
            return
        self._heard = True
        if self._context.faults.get("unflushed") or self._context.faults.get("slow-reader"):
            return
        view = memoryview(data)
        while view:
            view = view[os.write(number, view) :]
        if self._context.faults.take("die-mid-exec"):
            self.interrupted = True

    @contextlib.contextmanager
    def _raw(self) -> Iterator[None]:
        """Have a terminal on standard input pass every key on, and follow its size."""
        if not (self._terminal and self._reads_stdin and os.isatty(0)):
            yield
            return
        before = termios.tcgetattr(0)
        tty.setraw(0, termios.TCSANOW)
        signal.signal(signal.SIGWINCH, lambda *_: self._tell_size())
        self._tell_size()
        try:
            yield
        finally:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(0, termios.TCSANOW, before)

    def _tell_size(self) -> None:
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(0)
            if rows and columns:
                self._resize(rows, columns)


class Signals:
    """What becomes of SIGTERM and SIGINT that the command gets while it is attached to a process.

    :param forward: passes a signal on to the process.
    """

    def __init__(self, context: Context, forward: Callable[[int], None], *, escape: bool) -> None:
        self._context = context
        self._forward = forward
        self._escape = escape
        self._count = 0

    def install(self) -> None:
        """Take the signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._take)

    def _take(self, number: int, _frame: object) -> None:
        self._count += 1
        if self._count >= 3 and self._escape:
            stream = 2 if self._context.profile.at_least(1, 0) else 1
            os.write(stream, b"Received 3 SIGINT/SIGTERM's, forcefully exiting.\n")
            os._exit(1)
        if self._context.profile.at_least(1, 0):
            error = 'invalidArgument: "missing signal in xpc message"'
            text = f'failed to send signal: ["error": {error}, "signal": {number}]\n'
            os.write(2, text.encode())
        else:
            self._forward(number)
