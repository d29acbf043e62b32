"""What a container's main process printed.

The command keeps one file for both streams. It trims newlines at both ends, and with ``-n`` it drops blank lines, so
the last lines are counted here. Its follow mode does not end by itself.
"""

from __future__ import annotations

import collections
import contextlib
import io
import queue
import threading
from typing import TYPE_CHECKING

from oubliette_apple import _errors
from oubliette_apple._cli import Cli, end
from oubliette_core.errors import OperationTimeoutError, OublietteError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

_CHUNK = 65536
_DRAINING = 1.0
_KEPT = 4096
_QUEUED = 64


class Logs:
    """Reads logs.

    :param cli: the command. :param running: tells whether a container still runs.
    """

    def __init__(self, cli: Cli, running: Callable[[str], bool]) -> None:
        self._cli = cli
        self._running = running

    def read(self, container: str, tail: int | None, follow: bool) -> Iterator[bytes]:
        """Return the output in chunks. Fails here, not at the first chunk, when there is no such container."""
        self._running(container)
        if follow:
            return self._follow(container, tail)
        chunks = self._all(container)
        return chunks if tail is None else iter(_last_lines(chunks, tail))

    def _all(self, container: str) -> Iterator[bytes]:
        child = self._cli.spawn("logs", container)
        received = False
        try:
            for chunk in _chunks(child, self._cli.options.timeout, "logs", container):
                received = True
                yield chunk
            if not received:
                self._check(child, container)
        finally:
            end(child)

    def _follow(self, container: str, tail: int | None) -> Iterator[bytes]:
        options = [] if tail is None else ["-n", str(tail)]
        child = self._cli.spawn("logs", "--follow", *options, container)
        chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
        threading.Thread(target=_pump, args=(child, chunks), daemon=True).start()
        try:
            yield from self._until_stopped(container, chunks)
            if child.poll():
                self._check(child, container)
        finally:
            end(child)
            with contextlib.suppress(queue.Empty):
                while True:
                    chunks.get_nowait()

    def _until_stopped(self, container: str, chunks: queue.Queue[bytes | None]) -> Iterator[bytes]:
        stopped = False
        while True:
            try:
                chunk = chunks.get(timeout=_DRAINING)
            except queue.Empty:
                if stopped:
                    return
                stopped = not self._running(container)
                continue
            if chunk is None:
                return
            yield chunk

    def _check(self, child: subprocess.Popen[bytes], container: str) -> None:
        """Raise what the command says of its failure; a container that never ran has printed nothing."""
        error_text = (child.stderr.read() or b"").decode("utf-8", "replace") if child.stderr else ""
        if child.wait() and not _errors.NEVER_STARTED.search(error_text):
            raise _errors.translate(error_text, operation="logs", subject=container)


def last(cli: Cli, container: str) -> bytes:
    """Return the last 4 KiB that a container printed; nothing where they cannot be had."""
    try:
        answer = cli.run("logs", container, operation="logs", subject=container)
    except OublietteError:
        return b""
    return answer.stdout[-_KEPT:] if answer.code == 0 else b""


def _pump(child: subprocess.Popen[bytes], chunks: queue.Queue[bytes | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        while child.stdout and (chunk := child.stdout.read(_CHUNK)):
            while child.returncode is None:
                with contextlib.suppress(queue.Full):
                    chunks.put(chunk, timeout=1)
                    break
    with contextlib.suppress(queue.Full):
        chunks.put(None, timeout=1)


def _chunks(child: subprocess.Popen[bytes], timeout: float, operation: str, container: str) -> Iterator[bytes]:
    """Yield what the command prints; each chunk has to come within ``timeout`` seconds."""
    chunks: queue.Queue[bytes | None] = queue.Queue(_QUEUED)
    threading.Thread(target=_pump, args=(child, chunks), daemon=True).start()
    while True:
        try:
            chunk = chunks.get(timeout=timeout)
        except queue.Empty:
            raise OperationTimeoutError(
                f"container {operation} of {container} did not go on within {timeout:g} s",
                operation=operation,
                timeout=timeout,
                runtime=_errors.NAME,
                subject=container,
            ) from None
        if chunk is None:
            return
        yield chunk


def _last_lines(chunks: Iterator[bytes], count: int) -> list[bytes]:
    """Return the last lines; of what came before, only the chunks that may still be needed are kept."""
    kept: collections.deque[tuple[bytes, int]] = collections.deque()
    newlines = 0
    for chunk in chunks:
        kept.append((chunk, chunk.count(b"\n")))
        newlines += kept[-1][1]
        while newlines - kept[0][1] > count:
            newlines -= kept.popleft()[1]
    lines = io.BytesIO(b"".join(chunk for chunk, _ in kept)).readlines()
    return lines[-count:] if count else []
