"""Talking to a container's supervisor."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import TYPE_CHECKING

from oubliette_embedded.supervisor.rights import receive, send
from oubliette_embedded.supervisor.service import SOCKET
from oubliette_embedded.supervisor.words import pack

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Control", "in_memory"]


class Control:
    """A connection to a supervisor, with one request on it.

    :param directory: of the container. :param streams: descriptors that go with the request.
    :raises OSError: nobody is there (`FileNotFoundError`, `ConnectionRefusedError`).
    """

    def __init__(self, directory: Path, request: Sequence[Sequence[bytes]], streams: Sequence[int] = ()) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            _connect(self._socket, directory)
            body = in_memory("request", pack(*map(list, request)))
            try:
                send(self._socket, b"request", body, *streams)
            finally:
                os.close(body)
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, to be waited for."""
        return self._socket.fileno()

    def say(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message; a supervisor that is gone misses it."""
        with contextlib.suppress(OSError):
            send(self._socket, message, *descriptors)

    def hear(self) -> tuple[bytes, int]:
        """Wait for a message and return it, with the descriptor that came with it or -1; empty when nobody is there."""
        try:
            message, descriptors = receive(self._socket)
        except OSError:
            return b"", -1
        return message, descriptors[0] if descriptors else -1

    def ready(self, seconds: float) -> bool:
        """Wait until there is something to hear; False when there was not in time."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return bool(waiting.poll(max(0.0, seconds) * 1000))

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._socket.close()


def _connect(client: socket.socket, directory: Path) -> None:
    """Connect by a short path, because a socket's has at most 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        client.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.close(descriptor)


def in_memory(name: str, data: bytes) -> int:
    """Return the descriptor of a file in memory, at its beginning."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
