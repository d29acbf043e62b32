"""Both directions of one command that runs to its end, with bounded memory."""

from __future__ import annotations

import contextlib
import os
import selectors
import time
from typing import TYPE_CHECKING

from oubliette_core.models import ExecResult, ExecSpec

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

_CHUNK = 65536
_LAST = 4096
_CLOSED = 0.02
"""Seconds between two looks at a process whose streams have ended."""


class Conversation:
    """Gives a process its input, and keeps what it prints up to the limit.

    :param child: started with pipes.
    """

    def __init__(self, child: subprocess.Popen[bytes], spec: ExecSpec) -> None:
        self.stdout, self.stderr = bytearray(), bytearray()
        self.last = bytearray()
        """The end of standard error, whatever the limit is."""
        self._child = child
        self._limit = spec.output_limit
        self._truncated = False
        self._input = memoryview(spec.stdin)
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = os.pipe()
        os.set_blocking(self._waker, False)
        self._register(self._woken, selectors.EVENT_READ, self._hear)
        if child.stdout is not None and child.stderr is not None:
            self._register(child.stdout.fileno(), selectors.EVENT_READ, self._read_stdout)
            self._register(child.stderr.fileno(), selectors.EVENT_READ, self._read_stderr)
        if child.stdin is not None:
            self._register(child.stdin.fileno(), selectors.EVENT_WRITE, self._write)

    def _register(self, number: int, event: int, serve: Callable[[int], None]) -> None:
        os.set_blocking(number, False)
        self._selector.register(number, event, serve)

    def wake(self) -> None:
        """Have `hold` ask at once whether to go on; called from other threads."""
        with contextlib.suppress(OSError):
            os.write(self._waker, b"x")

    def hold(self, deadline: float | None, stop: Callable[[], bool]) -> bool:
        """Carry bytes until the process and both streams have ended; False when something else came first.

        :param deadline: on the monotonic clock. :param stop: asked at every event, and once a second.
        """
        while len(self._selector.get_map()) > 1 or self._child.poll() is None:
            now = time.monotonic()
            if stop() or (deadline is not None and now >= deadline):
                return False
            wait = 1.0 if len(self._selector.get_map()) > 1 else _CLOSED
            for key, _ in self._selector.select(wait if deadline is None else min(wait, deadline - now)):
                key.data(key.fd)
        return True

    def _hear(self, number: int) -> None:
        os.read(number, _CHUNK)

    def _write(self, number: int) -> None:
        try:
            self._input = self._input[os.write(number, self._input[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._input = self._input[:0]  # the command does not want the rest
        if not self._input and self._child.stdin is not None:
            self._selector.unregister(number)
            self._child.stdin.close()

    def _read_stdout(self, number: int) -> None:
        self._read(number, self.stdout)

    def _read_stderr(self, number: int) -> None:
        self.last = (self.last + self._read(number, self.stderr))[-_LAST:]

    def _read(self, number: int, kept: bytearray) -> bytes:
        try:
            chunk = os.read(number, _CHUNK)
        except BlockingIOError:
            return b""
        if not chunk:
            self._selector.unregister(number)
        room = self._limit - len(kept)
        self._truncated = self._truncated or len(chunk) > room
        kept += chunk[: max(0, room)]
        return chunk

    def result(
        self,
        code: int | None,
        duration: float,
        *,
        timed_out: bool = False,
        cancelled: bool = False,
        killed: bool = False,
    ) -> ExecResult:
        """Return what was seen."""
        return ExecResult(
            exit_code=code,
            stdout=bytes(self.stdout),
            stderr=bytes(self.stderr),
            timed_out=timed_out,
            cancelled=cancelled,
            killed=killed,
            truncated=self._truncated,
            duration=duration,
        )

    def close(self) -> None:
        """Release what is not the child's own."""
        self._selector.close()
        os.close(self._woken)
        os.close(self._waker)
