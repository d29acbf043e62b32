"""Reading what a container's main process printed."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from oubliette_core.errors import RuntimeOperationError, UnsupportedError
from oubliette_docker._errors import RUNTIME, EngineError, translated
from oubliette_docker._streams import Demultiplexer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from oubliette_core.models import LogSpec
    from oubliette_docker._connection import ByteStream, Connection

__all__ = ["LogReader", "Logs"]

_WATCH_EVERY = 1.0
_PIECE = 16 * 1024
"""The longest message of a logging driver (``defaultBufSize`` of the Engine's log copier)."""


class Logs:
    """The logs of one engine's containers. Safe between threads.

    A container is given by its whole id or name, as `Containers.whole` returns it.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def read(self, container: str, spec: LogSpec) -> LogReader:
        """See `RuntimeSpec.logs`. Nothing is held back: memory does not grow with the log.

        :raises UnsupportedError: the container's logging driver keeps nothing that could be read.
        """
        with translated("logs", container):
            raw = self._connection.request("GET", f"/containers/{container}/json").json()
            _refuse_unreadable(container, raw)
            with contextlib.ExitStack() as stack:
                path = f"/containers/{container}/logs"
                stream = stack.enter_context(self._connection.stream("GET", path, query=_query(spec)))
                if spec.follow and self._connection.is_podman():
                    stack.callback(_Watch(self._connection, container, stream).stop)
                return LogReader(
                    container,
                    stream,
                    framed=not raw["Config"].get("Tty"),
                    in_pieces=_driver(raw) == "local",
                    release=stack.pop_all(),
                )


class _Watch:
    """Ends a follow when its container has ended, which Podman does only where it learns of that by an event."""

    def __init__(self, connection: Connection, container: str, stream: ByteStream) -> None:
        self._connection, self._container, self._stream = connection, container, stream
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="oubliette-docker-logs", daemon=True).start()

    def stop(self) -> None:
        """End the watch."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(_WATCH_EVERY):
            if self._has_ended():
                self._stopped.wait(_WATCH_EVERY)  # for what was printed last
                self._stream.close()
                return

    def _has_ended(self) -> bool:
        try:
            raw = self._connection.request("GET", f"/containers/{self._container}/json").json()
        except EngineError as error:
            return error.status == 404
        except RuntimeOperationError:  # the stream itself will tell
            return False
        return raw["State"].get("Status") in ("exited", "stopped", "dead", "removing")


class _LongLines:
    """Puts back the newline that the logging driver ``local`` drops from a line of more than 16 KiB.

    It keeps such a line in pieces of that size, each a frame, and marks the last piece as one too. A line that long
    whose end was never printed looks the same, and gets one as well.
    """

    def __init__(self) -> None:
        self._size = 0
        self._in_pieces: dict[int, bool] = {}

    def mended(self, channel: int, part: memoryview, *, frame_ends: bool) -> bytes:
        """Return ``part``, with a newline where one was dropped."""
        self._size += len(part)
        if not frame_ends:
            return bytes(part)
        open_ended = bytes(part[-1:]) != b"\n"
        piece = self._size == _PIECE and open_ended
        dropped = self._in_pieces.get(channel, False) and open_ended and not piece
        self._in_pieces[channel], self._size = piece, 0
        return bytes(part) + b"\n" if dropped else bytes(part)


class LogReader(Iterator[bytes]):
    """A log in chunks, as they come. `close` from any thread ends it at once; its end closes it too."""

    def __init__(
        self, container: str, stream: ByteStream, *, framed: bool, in_pieces: bool, release: contextlib.ExitStack
    ) -> None:
        self._container, self._stream, self._release = container, stream, release
        self._demultiplexer = Demultiplexer(framed=framed)
        self._long_lines = _LongLines() if in_pieces and framed else None
        self._reading = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with self._reading, contextlib.ExitStack() as at_end:
            at_end.callback(self._release.close)
            with translated("logs", self._container):
                for data in self._stream:
                    chunk = b"".join(self._parts(data))
                    if chunk:
                        at_end.pop_all()
                        return chunk
            raise StopIteration

    def _parts(self, data: bytes) -> Iterator[bytes | memoryview]:
        for channel, part in self._demultiplexer.feed(data):
            if self._long_lines is None:
                yield part
            else:
                yield self._long_lines.mended(channel, part, frame_ends=self._demultiplexer.between_frames)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """End the log. A thread that waits for more of it comes to its end, and releases the connection."""
        self._stream.close()
        if self._reading.acquire(blocking=False):
            try:
                self._release.close()
            finally:
                self._reading.release()


def _query(spec: LogSpec) -> dict[str, str | int | bool]:
    query: dict[str, str | int | bool] = {"stdout": True, "stderr": True, "follow": spec.follow}
    query["tail"] = "all" if spec.tail is None else spec.tail
    if spec.since is not None:
        query["since"] = _timestamp(spec.since)
    return query


def _timestamp(moment: datetime) -> str:
    """Write a time as the Engine API reads it: seconds since 1970, and nanoseconds after the point."""
    return f"{int(moment.timestamp())}.{moment.microsecond:06}000"


def _driver(raw: Mapping[str, Any]) -> str:
    return str(raw.get("HostConfig", {}).get("LogConfig", {}).get("Type", ""))


def _refuse_unreadable(container: str, raw: Mapping[str, Any]) -> None:
    if _driver(raw) == "none":
        raise UnsupportedError(
            f"container {container} was made with the logging driver none: what it prints is not kept",
            capability="logs",
            runtime=RUNTIME,
            subject=container,
            hint="Make it with another logging driver, such as local.",
        )
