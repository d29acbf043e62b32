"""What a container's main process prints, kept up to a limit.

There are two files, of which the newer is written until it is half of the limit long, with its index, and then takes
the place of the older. An index has the position and the time, in nanoseconds since 1970, of every piece that was
written.
"""

from __future__ import annotations

import os
import time

from oubliette_embedded.supervisor.files import ignored

__all__ = ["ENTRY", "Output"]

ENTRY = 16
"""Bytes of an index entry: position and time, eight each, lowest first."""
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW


class Output:
    """Writes the files ``log`` and ``log.index``, with ``.old`` where they are the older ones.

    :param directory: descriptor of the container's. :param limit: bytes that are kept, at most.
    """

    def __init__(self, directory: int, limit: int) -> None:
        self._directory = directory
        self._half = max(limit // 2, 1)
        self._open()

    def _open(self) -> None:
        self._log = os.open("log", _APPEND, 0o600, dir_fd=self._directory)
        self._index = os.open("log.index", _APPEND, 0o600, dir_fd=self._directory)
        self._size = os.fstat(self._log).st_size
        self._index_size = os.fstat(self._index).st_size

    def add(self, data: bytes) -> None:
        """Write a piece. What there is no room for on the disk is lost."""
        if self._size + self._index_size >= self._half:
            self._turn()
        with ignored(OSError):
            entry = self._size.to_bytes(8, "little") + time.time_ns().to_bytes(8, "little")
            self._index_size += os.write(self._index, entry)
            self._size += os.write(self._log, data)

    def _turn(self) -> None:
        self.close()
        for name in ("log", "log.index"):
            os.rename(name, f"{name}.old", src_dir_fd=self._directory, dst_dir_fd=self._directory)
        self._open()

    def close(self) -> None:
        """Close the files."""
        os.close(self._log)
        os.close(self._index)
