"""Standard input and output for the protocol, without handing every line to a thread and back, as the SDK's own do.

Descriptors 0 and 1 are taken over meanwhile: what else reads gets nothing, and what else prints goes to standard error,
never between two messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import AsyncGenerator, Iterator
from typing import Any, cast

import anyio
import anyio.to_thread

_CHUNK = 64 * 1024
_ABOVE_STANDARD = 3


@contextlib.contextmanager
def taken_over() -> Iterator[tuple[anyio.AsyncFile[str], anyio.AsyncFile[str]]]:
    """Give what `mcp.server.stdio.stdio_server` uses of two files: lines to read, and where to write."""
    kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD) for descriptor in (0, 1)]
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    try:
        yield cast("Any", Lines(kept[0])), cast("Any", Output(kept[1]))
    finally:
        # Not closed: a thread may be writing still.
        for descriptor, own in enumerate(kept):
            os.dup2(own, descriptor)


class Lines:
    """The lines that come in on a descriptor. UTF-8; what is none is replaced."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._can_wait = True

    async def __aiter__(self) -> AsyncGenerator[str, None]:
        """Yield the lines, without their ends, until the other side closes its end."""
        rest = b""
        while chunk := await self._read():
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode(errors="replace")
        if rest:
            yield rest.decode(errors="replace")

    async def _read(self) -> bytes:
        while self._can_wait:
            try:
                await anyio.wait_readable(self._descriptor)
                return os.read(self._descriptor, _CHUNK)
            except BlockingIOError:
                continue  # somebody else has it, too, and was faster
            except OSError:
                self._can_wait = False  # of a file, for example, nobody can tell when it is ready
        return await anyio.to_thread.run_sync(os.read, self._descriptor, _CHUNK, abandon_on_cancel=True)


class Output:
    """Writes to a descriptor; in a thread only what could have everybody wait, since the other side reads slowly."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def write(self, text: str) -> None:
        """Write all of it."""
        data = memoryview(text.encode())
        while data:
            try:
                # A pipe that is ready takes this much at once.
                if len(data) <= select.PIPE_BUF and self._poll.poll(0):
                    count = os.write(self._descriptor, data)
                else:
                    count = await anyio.to_thread.run_sync(os.write, self._descriptor, data)
            except BlockingIOError:
                await anyio.wait_writable(self._descriptor)
            else:
                data = data[count:]

    async def flush(self) -> None:
        """Do nothing: nothing is kept back."""
