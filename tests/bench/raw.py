"""The floor: the Engine's HTTP API over its unix socket with nothing in between.

One kept connection, the fewest calls there are, no checks beyond the status. What a client adds is what it costs.
"""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any

_VERSION = "/v1.41"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class RawEngine:
    """The calls that the benches compare with.

    :param path: of the Engine's socket.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection = _UnixConnection(path)

    def close(self) -> None:
        """Close the kept connection."""
        self._connection.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Do one call and return the decoded answer."""
        text = None if body is None else json.dumps(body)
        self._connection.request(method, _VERSION + path, text, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {content[:200]!r}")
        return json.loads(content) if content else None

    def exec(self, container: str, *command: str) -> bytes:
        """Run a command: create, start with a hijacked socket, read to the end, inspect."""
        made = self.call(
            "POST",
            f"/containers/{container}/exec",
            {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command)},
        )
        output = self._start(made["Id"])
        if self.call("GET", f"/exec/{made['Id']}/json")["ExitCode"] != 0:
            raise RuntimeError("the command failed")
        return output

    def _start(self, exec_id: str) -> bytes:
        with self._socket() as sock:
            body = b'{"Detach":false,"Tty":false}'
            head = f"POST {_VERSION}/exec/{exec_id}/start HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            head += f"Upgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            received = b""
            while chunk := sock.recv(65536):
                received += chunk
        frames, output = received.partition(b"\r\n\r\n")[2], b""
        while frames:
            size = int.from_bytes(frames[4:8], "big")
            output += frames[8 : 8 + size]
            frames = frames[8 + size :]
        return output

    @contextlib.contextmanager
    def _socket(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(60)
            sock.connect(self._path)
            yield sock
