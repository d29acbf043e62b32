"""The protocol's messages over a process in a container: threads on one side, an event loop on the other.

`Process` blocks, so one thread reads each of its outputs and one writes its input. What comes is from a sandbox: lines
have a longest length, what is no message is dropped, and what nobody takes yet is bounded, so that an agent that talks
faster than it is listened to has to wait.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import OublietteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.models import ByteSource, Process

__all__ = ["ProcessTransport"]

_log = logging.getLogger(__name__)
_CHUNK = 65536
_LONGEST_LINE = 32 * 2**20
_HELD = 256
"""Chunks of output that may wait for the event loop."""
_UNREAD = 256
"""Messages that may wait for the agent to read them."""
_PAUSE = 0.02
_KEPT_ERRORS = 8192


class ProcessTransport:
    """Moves messages to and from an agent; what the protocol's library takes as its transport.

    :param process: the agent. :param on_line: called, in a thread, with each line of standard error.
    :param is_full: tells that no more should come for now.
    :param on_end: called in the event loop at the end of output, once all was taken; maybe twice.
    """

    def __init__(
        self,
        process: Process,
        *,
        on_line: Callable[[str], bool],
        is_full: Callable[[], bool],
        on_end: Callable[[], None],
    ) -> None:
        self._process = process
        self._on_line = on_line
        self._is_full = is_full
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._arrived: collections.deque[dict[str, Any] | None] = collections.deque()
        self._news = asyncio.Event()
        self._room = threading.Semaphore(_HELD)
        self._unread: queue.Queue[bytes | None] = queue.Queue()
        self._ended = self._closed = False
        self._errors = collections.deque[str]()
        self._threads = [
            threading.Thread(target=target, name=f"oubliette-agent-{name}", daemon=True)
            for name, target in (("in", self._read), ("errors", self._read_errors), ("out", self._write))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def last_errors(self) -> str:
        """The last lines of standard error."""
        return "\n".join(self._errors)

    def give(self, data: bytes) -> None:
        """Give the process bytes that are no message."""
        self._unread.put(data)

    # -- What the library calls -----------------------------------------------------------------------------------

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message; returns before the agent has read it.

        :raises ConnectionError: the agent has ended, or reads nothing.
        """
        if self._ended or self._closed:
            raise ConnectionError("Connection closed")
        if self._unread.qsize() >= _UNREAD:
            raise ConnectionError("the agent does not read what it is sent")
        self._unread.put(json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end."""
        while self._is_full() and not self._closed:  # noqa: ASYNC110 - a thread makes room, which sets no event here
            await asyncio.sleep(_PAUSE)
        while True:
            while not self._arrived:
                if self._ended or self._closed:
                    self._on_end()
                    return None
                self._news.clear()
                await self._news.wait()
            message = self._arrived.popleft()
            if message is not None:
                return message
            self._room.release()  # all that came with one chunk was taken

    async def close(self) -> None:
        """Tell the agent that nothing more comes."""
        if not self._closed:
            self._closed = True
            self._news.set()
            self._unread.put(None)
            self._room.release(_HELD)

    # -- Threads --------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        buffer = bytearray()
        try:
            while chunk := self._next(self._process.stdout):
                buffer += chunk
                if b"\n" not in chunk:
                    if len(buffer) > _LONGEST_LINE:
                        self._say(f"[a line of more than {_LONGEST_LINE} bytes: the agent is listened to no more]")
                        break
                    continue
                *lines, rest = bytes(buffer).split(b"\n")
                buffer = bytearray(rest)
                messages = [message for line in lines if (message := self._message(line)) is not None]
                if messages:
                    self._room.acquire()
                    self._tell(self._take, messages)
        finally:
            self._tell(self._end)

    def _read_errors(self) -> None:
        rest = b""
        while chunk := self._next(self._process.stderr):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._say(line.decode(errors="replace"))
            rest = rest[-_KEPT_ERRORS:]
        if rest:
            self._say(rest.decode(errors="replace"))

    def _next(self, source: ByteSource) -> bytes:
        try:
            return source.read(_CHUNK) or b""
        except (OublietteError, OSError, ValueError) as error:
            _log.info("the connection to an agent broke: %s", error)
            return b""

    def _write(self) -> None:
        # An agent that has ended, or does not read, is seen by its output ending or by what piles up.
        with contextlib.suppress(OublietteError, OSError, ValueError):
            while (data := self._unread.get()) is not None:
                while data:
                    written = self._process.stdin.write(data)
                    data = data[len(data) if written is None else written :]
        with contextlib.suppress(OublietteError, OSError, ValueError):
            self._process.stdin.close()

    def _message(self, line: bytes) -> dict[str, Any] | None:
        """Return a line as a message that the library can take; None for anything else."""
        if not line.strip():
            return None
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not _is_sound(message):
            self._say(line[:500].decode(errors="replace"))
            return None
        return message

    def _say(self, line: str) -> None:
        if not self._on_line(line):
            self._errors.append(line[:_KEPT_ERRORS])
            while sum(map(len, self._errors)) > _KEPT_ERRORS and len(self._errors) > 1:
                self._errors.popleft()

    def _tell(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _take(self, messages: list[dict[str, Any]]) -> None:
        self._arrived.extend(messages)
        self._arrived.append(None)
        self._news.set()

    def _end(self) -> None:
        self._ended = True
        self._news.set()
        if not self._arrived:
            self._on_end()


def _is_sound(message: dict[str, Any]) -> bool:
    """Tell whether a message has the shape of JSON-RPC 2.0, which the library takes for granted."""
    method, params, identity = message.get("method"), message.get("params"), message.get("id")
    return (
        (method is None or isinstance(method, str))
        and (params is None or isinstance(params, dict))
        and (identity is None or (isinstance(identity, str | int) and not isinstance(identity, bool)))
        and isinstance(message.get("error") or {}, dict)
    )
