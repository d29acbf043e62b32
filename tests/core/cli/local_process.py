"""A `Process` on this machine, which speaks as one in a container does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

from oubliette_core.models import ByteSink, ByteSource


class LocalProcess:
    """A command with pipes. :param command: argv."""

    def __init__(self, command: Sequence[str]) -> None:
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        self.stdin = cast(ByteSink, self._child.stdin)
        self.stdout = cast(ByteSource, self._child.stdout)
        self.stderr = cast(ByteSource, self._child.stderr)
        self.sizes: list[tuple[int, int]] = []

    def wait(self, timeout: float | None = None) -> int | None:
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return code if code >= 0 else 128 - code

    def kill(self) -> bool:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        return True

    def resize(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def close(self) -> None:
        if self._child.poll() is None:
            self.kill()
        self._child.wait()
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def python(program: str) -> LocalProcess:
    """Run a Python program."""
    return LocalProcess([sys.executable, "-Ic", program])
