"""Talking to a process of `Runtime.open_exec` without ever waiting for it in vain."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from oubliette_core.testing.kit.calls import NeverEndedError, bounded, start

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from oubliette_core.models import ByteSource, Process

__all__ = ["Ear", "Talk", "drained"]

_LONGEST = 60.0


class Ear:
    """Reads a stream to its end in the background and keeps what it heard."""

    def __init__(self, source: ByteSource, what: str) -> None:
        self._source = source
        self._what = what
        self._heard = bytearray()
        self._over = False
        self._news = threading.Condition()
        self._reading = start(self._read, f"reading {what}")

    def _read(self) -> None:
        try:
            while data := self._source.read(64 * 1024):
                with self._news:
                    self._heard += data
                    self._news.notify_all()
        finally:
            with self._news:
                self._over = True
                self._news.notify_all()

    @property
    def heard(self) -> bytes:
        """What has come so far."""
        with self._news:
            return bytes(self._heard)

    def wait_for(self, size: int, within: float = _LONGEST) -> bytes:
        """Wait until so many bytes have come in all, or the stream has ended; give all that has come."""
        with self._news:
            if not self._news.wait_for(lambda: self._over or len(self._heard) >= size, within):
                raise NeverEndedError(f"{self._what}: {len(self._heard)} of {size} bytes came within {within:g} s")
            return bytes(self._heard)

    def wait_for_end(self, within: float = _LONGEST) -> bytes:
        """Wait for the end of the stream; give all that has come."""
        self._reading.result(within)
        return self.heard


class Talk:
    """A process whose output is read in the background; closed at the end of the block."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.stdout = Ear(process.stdout, "standard output")
        self.stderr = Ear(process.stderr, "standard error")

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A case that has failed already is not to be hidden by what follows from it.
        with contextlib.suppress(Exception) if error else contextlib.nullcontext():
            self.close()

    def send(self, data: bytes) -> None:
        """Write all of ``data`` to the process."""
        bounded(lambda: self._write(data), _LONGEST, "writing to the process")

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = self.process.stdin.write(bytes(view))
            view = view[len(view) if written is None else written :]

    def finish(self) -> None:
        """Tell the process that nothing more will be sent."""
        bounded(self.process.stdin.close, 10, "closing standard input")

    def wait(self, within: float = 30.0) -> int | None:
        """Wait for the end of the process; its exit code, or None when it has not come."""
        return bounded(lambda: self.process.wait(within), within + 5, "Process.wait")

    def kill(self) -> bool:
        """Kill the process and all that came from it."""
        return bounded(self.process.kill, 15, "Process.kill")

    def close(self) -> None:
        """Release the process."""
        bounded(self.process.close, 15, "Process.close")


def drained(chunks: Iterator[bytes], within: float = 30.0) -> bytes:
    """Read an iterator of bytes to its end."""
    return bounded(lambda: b"".join(chunks), within, "reading to the end")
