"""Messages over sockets, with descriptors that the receiver gets as its own. See unix(7)."""

from __future__ import annotations

from _socket import CMSG_SPACE, MSG_CMSG_CLOEXEC, SCM_RIGHTS, SOL_SOCKET, socket

__all__ = ["receive", "send"]

_LONGEST = 4096
_MOST = 8


def send(connection: socket, message: bytes, *descriptors: int) -> None:
    """Send a message and descriptors. :raises OSError: nobody is there."""
    rights = b"".join(descriptor.to_bytes(4, "little") for descriptor in descriptors)
    connection.sendmsg([message], [(SOL_SOCKET, SCM_RIGHTS, rights)])


def receive(connection: socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive a message and its descriptors; an empty one when nobody is there. :raises OSError: nothing has come."""
    message, ancillary, _, _ = connection.recvmsg(_LONGEST, CMSG_SPACE(4 * _MOST), flags | MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_SOCKET, SCM_RIGHTS):
            descriptors += [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) // 4 * 4, 4)]
    return message, descriptors
