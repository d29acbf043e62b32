"""Lets any user of this machine reach an engine's socket, for as long as it runs.

    python -m tests.core.services.relay SOCKET TARGET

It listens on SOCKET and passes bytes on to TARGET; it ends when its standard input does.
"""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import sys
import threading


class _Handler(socketserver.BaseRequestHandler):
    target = ""

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(self.target)
            back = threading.Thread(target=_pass_on, args=(other, self.request))
            back.start()
            _pass_on(self.request, other)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main(path: str, target: str) -> None:
    """Serve until standard input ends."""
    _Handler.target = target
    with _Server(path, _Handler) as server:
        os.chmod(path, 0o666)  # noqa: PTH101, S103 - that is what it is for
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
