"""An engine whose every byte the test decides: for answers that a real one gives at the wrong moment only."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from oubliette_docker._endpoint import Endpoint

Script = Callable[[socket.socket, bytes], bool]
"""Given a connection and the head of a request, answers it; True if the connection stays open."""

PING = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 2\r\n\r\nOK"


class ScriptedEngine:
    """Answers ``/_ping`` as an engine does, and everything else as the script says.

    :param tls: serve TLS on a TCP port instead of a unix socket.
    :ivar ping: the answer to ``/_ping``.
    :ivar heads: of the requests that came in. :ivar connections: how many were made.
    """

    def __init__(self, path: Path, script: Script, ping: bytes = PING, tls: ssl.SSLContext | None = None) -> None:
        if tls is None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self.endpoint = Endpoint(url=f"unix://{path}")
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.endpoint = Endpoint(url=f"tcp://localhost:{self._listener.getsockname()[1]}")
        self.heads: list[bytes] = []
        self.connections = 0
        self._script, self.ping, self._tls = script, ping, tls
        self._listener.listen(64)
        self._open: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        for thread in self._threads:
            thread.join()

    def hang_up(self) -> None:
        """Close every connection, as an engine that is restarted does."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        with raw, contextlib.suppress(OSError):
            connection = self._tls.wrap_socket(raw, server_side=True) if self._tls else raw
            self._open.add(connection)
            self._talk(connection)
            self._open.discard(connection)

    def _talk(self, connection: socket.socket) -> None:
        with connection:
            for head in _heads(connection):
                self.heads.append(head)
                if b" /_ping " in head:
                    connection.sendall(self.ping)
                elif not self._script(connection, head):
                    return


def _heads(connection: socket.socket) -> Iterator[bytes]:
    """Yield the head of each request. Bodies are left to the script."""
    while True:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return
            head += byte
        yield head


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Put a complete answer together."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def chunk(data: bytes) -> bytes:
    """Put one piece of a chunked body together."""
    return b"%x\r\n%b\r\n" % (len(data), data)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
"""The head of an answer that comes in pieces; `chunk` of nothing ends it."""
