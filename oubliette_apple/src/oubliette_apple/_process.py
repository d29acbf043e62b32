"""A command that runs while we talk to it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import subprocess
import termios
import threading
import time
from typing import TYPE_CHECKING, Self

from oubliette_apple import _environment
from oubliette_apple._cli import end, kill
from oubliette_apple._exec import Execs, Running, argv, exec_options, variables
from oubliette_core.errors import CommandNotFoundError
from oubliette_core.guest import Mark, not_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from oubliette_core.models import ByteSink, ByteSource, ExecSpec

_LAST = 4096
_CHUNK = 65536


class _Sink:
    """Writes to a pipe or a terminal."""

    def __init__(self, number: int, close: Callable[[], None]) -> None:
        self._number = number
        self._close = close
        self._closed = False

    def write(self, data: bytes, /) -> int:
        """Write all of ``data``; block while the command does not read."""
        view = memoryview(data)
        while view and not self._closed:
            view = view[os.write(self._number, view[:_CHUNK]) :]
        return len(data)

    def close(self) -> None:
        """Tell the command that nothing more comes."""
        if not self._closed:
            self._closed = True
            with contextlib.suppress(OSError):
                self._close()


class _Source:
    """Reads from a pipe or a terminal, or is empty."""

    def __init__(self, number: int | None, keep: Callable[[bytes], None] | None = None) -> None:
        self._number = number
        self._keep = keep

    def read(self, size: int, /) -> bytes:
        """Return what there is, at most ``size`` bytes; nothing at the end."""
        if self._number is None:
            return b""
        try:
            chunk = os.read(self._number, size)
        except OSError:  # a terminal whose other side has gone, or closed by us
            return b""
        if self._keep and chunk:
            self._keep(chunk)
        return chunk


class AppleProcess:
    """One ``container exec`` with its pipes, or with a terminal of its own (``--tty`` needs one on standard input)."""

    def __init__(self, execs: Execs, container: str, spec: ExecSpec) -> None:
        self._execs = execs
        self._container = container
        self._mark = execs.mark(container, spec)
        self._started = time.monotonic()
        self._last = b""
        self._killed: bool | None = None
        self._lock = threading.Lock()
        self._terminal: int | None = None
        self._child = self._start(spec, self._mark)
        self._running = Running(container, spec.user, self._mark, self._started, self._child)
        if self._terminal is None:
            pipes = [pipe.fileno() for pipe in (self._child.stdin, self._child.stdout, self._child.stderr) if pipe]
            self._stream(_Sink(pipes[0], self._close_stdin), _Source(pipes[1]), _Source(pipes[2], self._keep))
        else:
            source = _Source(self._terminal, self._keep)
            self._stream(_Sink(self._terminal, self._end_of_file), source, _Source(None))

    def _stream(self, stdin: ByteSink, stdout: ByteSource, stderr: ByteSource) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr

    def _start(self, spec: ExecSpec, mark: Mark | None) -> subprocess.Popen[bytes]:
        # The file of variables is read before the command runs, and has to stay until then: `close` removes it.
        self._variables = contextlib.ExitStack()
        options, env = self._variables.enter_context(_environment.arguments(variables(spec, mark)))
        arguments = ["exec", *exec_options(spec, mark, stdin=True), *options, self._container, *argv(spec, mark)]
        if not spec.tty:
            return self._execs.cli.spawn(*arguments, stdin=subprocess.PIPE, env=env)
        self._terminal, inner = os.openpty()
        try:
            return self._execs.cli.spawn(*arguments, stdin=inner, stdout=inner, stderr=inner, env=env)
        finally:
            os.close(inner)

    def _close_stdin(self) -> None:
        if self._child.stdin:
            self._child.stdin.close()

    def _end_of_file(self) -> None:
        """Type the terminal's sign for the end of input."""
        if self._terminal is not None:
            os.write(self._terminal, b"\x04")

    def _keep(self, chunk: bytes) -> None:
        self._last = (self._last + chunk)[-_LAST:]

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the command; None after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = 1.0 if deadline is None else min(1.0, max(0.0, deadline - time.monotonic()))
            try:
                code = self._child.wait(left)
            except subprocess.TimeoutExpired:
                if deadline is not None and time.monotonic() >= deadline:
                    return None
                continue
            return self._code(code)

    def _code(self, code: int) -> int:
        if self._killed is not None:
            return 137 if code < 0 else code
        if self._mark is not None and not_run(self._mark, code, self._last):
            return code
        error = self._execs.failure(self._container, code, self._last)
        if isinstance(error, CommandNotFoundError):
            return error.exit_code
        if error is not None:
            raise error
        return code

    def kill(self) -> bool:
        """Kill the whole process tree in the guest; True if it was confirmed that nothing is left."""
        with self._lock:
            if self._killed is None:
                self._killed = self._execs.kill(self._running)
                if self._child.poll() is None:
                    kill(self._child)  # the pipes stay: somebody may be reading what is left in them
            return self._killed

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        if self._terminal is None or self._child.poll() is not None:
            return
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        # It is not the command's controlling terminal, so the kernel does not tell it.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._child.pid, signal.SIGWINCH)

    def close(self) -> None:
        """Kill what still runs and release the pipes."""
        if self._child.poll() is None:
            self.kill()
        end(self._child)
        self._variables.close()
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                os.close(self._terminal)
            self._terminal = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
