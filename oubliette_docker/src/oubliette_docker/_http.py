"""One HTTP exchange with an engine, with deadlines and cancelling on every read and write.

The parser is the standard library's. It reads from a stream of ours that wakes once a second, and that gives back
what was read past the header: the first output of an exec often arrives together with it.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

import attrs

from oubliette_core.errors import (
    OperationCancelledError,
    OperationTimeoutError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from oubliette_docker._errors import RUNTIME, EngineError, one_line

if TYPE_CHECKING:
    import socket
    from types import TracebackType

    from oubliette_core.models import Cancel
    from oubliette_docker._transports import Link

__all__ = ["Body", "ByteStream", "Exchange", "HijackedStream", "Patience", "Request", "Response"]

TICK = 1.0
"""Every blocking read and write wakes this often, in seconds, to look at its deadline and at a cancel."""
_CHUNK = 64 * 1024

Body = bytes | Iterable[bytes] | Mapping[str, Any] | None


@attrs.frozen(kw_only=True)
class Request:
    """What is sent. A mapping as body is sent as JSON, an iterable of bytes in chunks."""

    method: str
    target: str
    host: str
    headers: Mapping[str, str]
    body: Body

    def parts(self) -> Iterator[bytes]:
        """Yield the bytes of the request."""
        fields = {"Host": self.host, "User-Agent": "oubliette-docker", **self.headers}
        body: bytes | Iterable[bytes] | None
        if isinstance(self.body, Mapping):
            fields["Content-Type"] = "application/json"
            body = json.dumps(self.body).encode()
        else:
            body = self.body
        if isinstance(body, bytes):
            fields["Content-Length"] = str(len(body))
        elif body is not None:
            fields["Transfer-Encoding"] = "chunked"
        elif self.method in ("POST", "PUT"):
            fields["Content-Length"] = "0"
        lines = [f"{self.method} {self.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if body is None or isinstance(body, bytes):
            yield head + (body or b"")
            return
        yield head
        for chunk in body:
            if chunk:  # an empty chunk would end the body
                yield b"%x\r\n%b\r\n" % (len(chunk), chunk)
        yield b"0\r\n\r\n"


@attrs.frozen(kw_only=True)
class Response:
    """A complete answer. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded body.

        :raises RuntimeLostError: it is not JSON: whatever answered is not a Docker Engine.
        """
        try:
            return json.loads(self.body)
        except ValueError as error:
            shown = self.body[:200].decode(errors="replace")
            raise RuntimeLostError(f"the engine answered with something else than JSON: {shown!r}") from error


class Patience:
    """How long one exchange may take.

    :param operation: for people. :param timeout: seconds for everything. :param idle: seconds without any progress.
    """

    def __init__(self, operation: str, timeout: float | None, idle: float | None, cancel: Cancel | None) -> None:
        self._operation, self._timeout, self._idle, self._cancel = operation, timeout, idle, cancel
        self._began = self._active = time.monotonic()

    def relax(self, total: float | None, idle: float | None) -> None:
        """Once the answer has begun, allow ``total`` seconds since the beginning, and silences of ``idle``."""
        self._timeout, self._idle = total, idle
        self.touch()

    def touch(self) -> None:
        """Note that something was moved."""
        self._active = time.monotonic()

    def left(self) -> float:
        """Return the seconds that are left of the whole, infinity without a limit."""
        return float("inf") if self._timeout is None else self._began + self._timeout - time.monotonic()

    def step(self) -> float:
        """Return the seconds to block for until the next look."""
        idle = float("inf") if self._idle is None else self._active + self._idle - time.monotonic()
        return max(min(TICK, self.left(), idle), 0.001)

    def check(self) -> None:
        """Return while there is reason to wait.

        :raises OperationCancelledError: the caller cancelled. :raises OperationTimeoutError: a deadline has passed.
        """
        if self._cancel is not None and self._cancel.cancelled:
            raise OperationCancelledError(f"{self._operation} was cancelled", runtime=RUNTIME)
        now = time.monotonic()
        for limit, since in ((self._timeout, self._began), (self._idle, self._active)):
            if limit is not None and now - since >= limit:
                raise OperationTimeoutError(
                    f"the engine did not answer {self._operation} within {limit:g} s",
                    operation=self._operation,
                    timeout=limit,
                    runtime=RUNTIME,
                    hint="See whether the engine responds: docker version",
                )


class _Reader(io.RawIOBase):
    """Reads a link with patience."""

    def __init__(self, link: Link, patience: Patience) -> None:
        super().__init__()
        self._link, self._patience = link, patience
        self.received = False
        """Whether anything came at all."""
        self.held = False
        """When set, nothing more is read, so that what is buffered above can be taken over."""

    def readable(self) -> bool:
        return True

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Do for `http.client.HTTPResponse` what a socket does."""
        return io.BufferedReader(self, _CHUNK)

    def readinto(self, buffer: Any) -> int | None:
        if self.held:
            return None
        count = with_patience(self._link.sock, self._patience, lambda sock: sock.recv_into(buffer))
        self.received = self.received or count > 0
        return count


def with_patience(sock: socket.socket, patience: Patience, move: Callable[[socket.socket], int]) -> int:
    """Call ``move`` until it moved something, looking at the deadlines in between."""
    while True:
        try:
            count = move(sock)
        except TimeoutError as error:
            if error.errno is not None:  # the kernel's own, not that of `settimeout`
                raise
            patience.check()
            sock.settimeout(patience.step())
        else:
            patience.check()  # a trickle must not outlast the deadline
            patience.touch()
            return count


class Exchange:
    """One request and its answer on one link.

    :param link: belongs to the exchange until `end`.
    """

    def __init__(self, link: Link, patience: Patience, cancel: Cancel | None) -> None:
        self.closed = False
        """Set by whoever ends the exchange early: what breaks then is no failure."""
        self._link, self._patience, self._cancel = link, patience, cancel
        self._reader = _Reader(link, patience)
        self._forget = cancel.on_cancel(link.abort) if cancel else _nothing
        self._response: http.client.HTTPResponse | None = None
        self._reusable = self._taken = False

    @property
    def received(self) -> bool:
        """Whether the engine answered anything at all."""
        return self._reader.received

    def begin(self, request: Request) -> None:
        """Send the request and read the answer's header. Errors are those of `Connection.request`."""
        self._link.sock.settimeout(self._patience.step())
        try:
            for part in request.parts():
                self._send(part)
        except RuntimeLostError:
            # An engine may refuse a body before it has read it all, and hang up.
            with contextlib.suppress(RuntimeLostError, RuntimeUnavailableError):
                self._read_header(request.method)
            if self._response is None:
                raise
            return
        self._read_header(request.method)

    def whole(self) -> Response:
        """Read the rest of the answer. :raises EngineError: its status is 400 or higher."""
        response = self._answer()
        with self._failures():
            body = response.read()
        self._reusable = not response.will_close
        if response.status >= 400:
            raise EngineError(_refusal(body, response), status=response.status)
        return Response(status=response.status, headers=self.headers(), body=body)

    def refuse_error(self) -> None:
        """Read no further unless the status is that of a success. :raises EngineError: it is not."""
        if self._answer().status >= 400:
            self.whole()

    def headers(self) -> dict[str, str]:
        """Return the answer's headers, names in lower case."""
        return {name.lower(): value for name, value in self._answer().getheaders()}

    def stream(self, total: float | None, idle: float | None) -> ByteStream:
        """Return the body, as it comes, in up to ``total`` seconds with silences of up to ``idle``."""
        self._patience.relax(total, idle)
        self._link.sock.settimeout(self._patience.step())
        return ByteStream(self)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes."""
        response = self._answer()
        left = None if response.chunked else response.length
        while left is None or left > 0:
            try:
                with self._failures():
                    data = response.read1(_CHUNK)
            except RuntimeLostError:
                if self.closed:
                    return
                raise
            if not data:
                if left and not self.closed:
                    raise self._lost("the answer was cut short")
                return
            left = None if left is None else left - len(data)
            yield data

    def hijacked(self) -> HijackedStream:
        """Give the link away as a raw stream, with what has been read of it past the header."""
        self._reader.held = True
        rest = self._answer().fp.peek()
        self._taken = True
        self._link.sock.settimeout(TICK)
        return HijackedStream(self._link, rest, self.headers())

    def abort(self) -> None:
        """End the exchange from any thread."""
        self.closed = True
        self._link.abort()

    def end(self) -> Link | None:
        """Let go of the link: return it if it can be used again, otherwise close it."""
        self._forget()
        if self._response is not None:
            self._response.close()  # of the parser only: what it reads from does not own the socket
        if self.received:
            self._link.explain = None  # it did connect: whatever ends it later is a lost engine
        if self._taken:
            return None
        if self._reusable and not (self._cancel and self._cancel.cancelled):
            return self._link
        self._link.close()
        return None

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        with self._failures():
            while view:
                view = view[with_patience(self._link.sock, self._patience, lambda sock: sock.send(view)) :]  # noqa: B023

    def _read_header(self, method: str) -> None:
        response = http.client.HTTPResponse(cast("socket.socket", self._reader), method=method)
        try:
            with self._failures():
                response.begin()
        except BaseException:
            response.close()
            raise
        self._response = response

    def _answer(self) -> http.client.HTTPResponse:
        if self._response is None:
            raise self._lost("it never answered")
        return self._response

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost(_words(error)) from error

    def _lost(self, why: str) -> RuntimeLostError | RuntimeUnavailableError | OperationCancelledError:
        if self._cancel is not None and self._cancel.cancelled:
            return OperationCancelledError("the operation was cancelled", runtime=RUNTIME)
        if self._link.explain is not None and not self.received:
            said = self._link.explain()
            if said:
                return RuntimeUnavailableError(f"the engine cannot be reached: {said}", runtime=RUNTIME)
        return RuntimeLostError(
            f"the connection to the engine broke: {why}",
            runtime=RUNTIME,
            hint="See whether the engine still runs: docker version",
        )


class ByteStream:
    """The body of an answer, in chunks, as they come. `close` from any thread ends it at once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._chunks = exchange.chunks()
        self.headers: Mapping[str, str] = exchange.headers()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """End the stream: the thread that reads it comes to its end. Idempotent."""
        self._exchange.abort()


class HijackedStream:
    """A connection that has become a raw stream in both directions.

    :ivar sock: the socket. Its timeout is one second: a `TimeoutError` means nothing but that it is time to look up.
    :ivar buffered: what was received of the stream already; it comes before anything the socket will give.
    """

    def __init__(self, link: Link, buffered: bytes, headers: Mapping[str, str]) -> None:
        self._link = link
        self.sock = link.sock
        self.buffered = buffered
        self.headers = headers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close_write(self) -> None:
        """End our direction: the process sees the end of its standard input, and its output still comes."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(1)

    def abort(self) -> None:
        """End both directions from any thread, so that blocked reads return; `close` is still needed."""
        self._link.abort()

    def close(self) -> None:
        """Close the connection. Idempotent."""
        self._link.close()


def _nothing() -> None:
    pass


def _words(error: BaseException) -> str:
    return one_line(str(error), 300) or type(error).__name__


def _refusal(body: bytes, response: http.client.HTTPResponse) -> str:
    """Return what the engine says about its refusal, on one line."""
    try:
        decoded = json.loads(body)
    except ValueError:
        decoded = None
    message = decoded.get("message") or decoded.get("cause") if isinstance(decoded, dict) else None
    text = message if isinstance(message, str) else body[:500].decode(errors="replace")
    return one_line(text) or f"HTTP {response.status} {response.reason}"
