"""How the runtime and the supervisors talk: lists of byte strings, which cannot contain NUL, as one message."""

from __future__ import annotations

import os

__all__ = ["pack", "read_all", "unpack"]

_LONGEST = 64 * 1024 * 1024


def pack(*lists: list[bytes]) -> bytes:
    """Write lists as one message: the length of each, and its words, each ended by NUL."""
    words = [word for each in lists for word in (b"%d" % len(each), *each)]
    return b"".join(word + b"\0" for word in words)


def unpack(message: bytes) -> list[list[bytes]]:
    """Read what `pack` wrote. :raises ValueError: it is something else."""
    words = iter(message.split(b"\0")[:-1])
    lists = [[next(words) for _ in range(int(length))] for length in words]
    if pack(*lists) != message:
        raise ValueError("not a message")
    return lists


def read_all(descriptor: int) -> bytes:
    """Read a file in memory from its beginning. :raises ValueError: it is too long."""
    size = os.fstat(descriptor).st_size
    if size > _LONGEST:
        raise ValueError("the message is too long")
    return os.pread(descriptor, size, 0)
