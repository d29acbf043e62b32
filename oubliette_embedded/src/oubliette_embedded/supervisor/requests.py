"""What the supervisor is asked over its socket, and what it answers.

A connection begins with one message that carries a file in memory with the request (see `words`), and behind it the
descriptors that belong to it. What comes after is one short message at a time, either way.
"""

from __future__ import annotations

import os
from _socket import MSG_DONTWAIT, SO_PEERCRED, SOL_SOCKET, socket

from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.rights import receive
from oubliette_embedded.supervisor.words import read_all, unpack

__all__ = ["Connection"]


class Connection:
    """One client that is connected.

    :raises PermissionError: it is neither this user nor the superuser.
    """

    def __init__(self, peer: socket) -> None:
        self._peer = peer
        credentials = peer.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
        uid = int.from_bytes(credentials[4:8], "little")
        if uid not in (os.geteuid(), 0):
            peer.close()
            raise PermissionError

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._peer.fileno()

    def receive(self) -> tuple[bytes, list[int]]:
        """Return the next message and its descriptors; empty when the client is gone."""
        try:
            return receive(self._peer, MSG_DONTWAIT)
        except OSError:
            return b"", []

    def request(self) -> tuple[list[list[bytes]], list[int]]:
        """Return the request and its descriptors. :raises ValueError: it is none."""
        _, descriptors = self.receive()
        if not descriptors:
            raise ValueError("no request")
        body, *others = descriptors
        try:
            return unpack(read_all(body)), others
        except (ValueError, OSError, RuntimeError) as error:
            for descriptor in others:
                os.close(descriptor)
            raise ValueError("not a request") from error
        finally:
            os.close(body)

    def say(self, message: bytes) -> None:
        """Answer; a client that is gone, or does not listen, misses it."""
        with ignored(OSError):
            self._peer.send(message, MSG_DONTWAIT)

    def close(self) -> None:
        """Hang up."""
        self._peer.close()
