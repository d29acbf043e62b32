"""Just enough HTTP for an engine's socket and for registries on loopback addresses."""

import json
import socket
from collections.abc import Iterator, Mapping
from typing import Any

_CHUNK = 65536


class BrokenAnswerError(OSError):
    """The other side closed the connection before its answer was whole."""


class Answer:
    """An answer whose body has not been read.

    :ivar status: of HTTP. :ivar headers: by their names in lower case. :ivar sock: the connection.
    """

    def __init__(self, sock: socket.socket, method: str) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")
        line = self._file.readline(_CHUNK).split()
        if len(line) < 2 or not line[1].isdigit():
            raise BrokenAnswerError("no answer")
        self.status = int(line[1])
        self.headers: dict[str, str] = {}
        while (header := self._file.readline(_CHUNK)) not in (b"\r\n", b"\n", b""):
            name, _, value = header.decode("latin-1").partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._empty = method == "HEAD" or self.status in (204, 304)

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes, then close the connection."""
        try:
            if self._empty:
                return
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                yield from self._chunked()
            elif "content-length" in self.headers:
                yield from self._exactly(int(self.headers["content-length"]))
            else:
                while chunk := self._file.read1(_CHUNK):
                    yield chunk
        finally:
            self.close()

    def body(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks())

    def buffered(self) -> bytes:
        """Return what has come of a stream that is read from the socket from now on."""
        self.sock.setblocking(False)
        try:
            return self._file.peek() or b""
        except BlockingIOError:
            return b""
        finally:
            self.sock.setblocking(True)

    def close(self) -> None:
        """Close the connection."""
        self._file.close()
        self.sock.close()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            chunk = self._file.read1(min(size, _CHUNK))
            if not chunk:
                raise BrokenAnswerError("the connection was closed early")
            size -= len(chunk)
            yield chunk

    def _chunked(self) -> Iterator[bytes]:
        while True:
            size = self._file.readline(_CHUNK)
            if not size.strip():
                raise BrokenAnswerError("the connection was closed early")
            if int(size.split(b";")[0], 16) == 0:
                return
            yield from self._exactly(int(size.split(b";")[0], 16))
            self._file.readline(_CHUNK)


def request(
    sock: socket.socket,
    method: str,
    path: str,
    *,
    host: str = "localhost",
    body: bytes | Iterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send a request over a fresh connection and return the beginning of the answer."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if isinstance(body, bytes):
        lines.append(f"Content-Length: {len(body)}")
    elif body is not None:
        lines.append("Transfer-Encoding: chunked")
    elif method == "POST":
        lines.append("Content-Length: 0")
    if not headers or "Upgrade" not in headers:
        lines.append("Connection: close")
    sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    if isinstance(body, bytes):
        sock.sendall(body)
    elif body is not None:
        for chunk in body:
            if chunk:
                sock.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        sock.sendall(b"0\r\n\r\n")
    return Answer(sock, method)


class EngineError(Exception):
    """The engine refused a request.

    :ivar status: of HTTP. :ivar text: its words.
    """

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        try:
            self.text = str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            self.text = body.decode("utf-8", "replace")
        super().__init__(f"{status}: {self.text}")


class Engine:
    """The engine that runs the containers.

    :param address: ``unix:///path`` or ``tcp://host:port``.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def connect(self) -> socket.socket:
        """Open a connection."""
        scheme, _, rest = self._address.partition("://")
        if scheme == "unix":
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.connect(rest)
            return sock
        name, _, port = rest.partition(":")
        return socket.create_connection((name, int(port)))

    def open(
        self, method: str, path: str, value: Any = None, *, body: bytes | Iterator[bytes] | None = None, **headers: str
    ) -> Answer:
        """Send a request, with a value as JSON or a body as it is. Raises `EngineError` unless it is done."""
        kind = {"Content-Type": "application/json" if body is None else "application/x-tar"}
        content = json.dumps(value).encode() if value is not None else body
        answer = request(self.connect(), method, path, body=content, headers={**kind, **headers})
        if answer.status >= 400:
            raise EngineError(answer.status, answer.body())
        return answer

    def call(self, method: str, path: str, value: Any = None) -> Any:
        """Send a request and return the decoded answer; None where there is none."""
        body = self.open(method, path, value).body()
        return json.loads(body) if body.strip() else None

    def upgrade(self, path: str, value: Any = None) -> Answer:
        """Send a request whose connection becomes a stream in both directions."""
        return self.open("POST", path, value, Upgrade="tcp", Connection="Upgrade")
