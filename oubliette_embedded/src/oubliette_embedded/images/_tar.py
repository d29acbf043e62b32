"""The tar archive in a layer, read once from start to end, with bounds on what it may cost.

Python's `tarfile` parses it. What it reads it reads from here: a file that only goes forward, takes the digest of all
that passes, and refuses to give more than headers are worth or than the layer may hold.
"""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from oubliette_embedded.images._documents import new_hash
from oubliette_embedded.images._failures import Failure, corrupt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHUNK", "DAMAGE", "Source", "decompressed", "members", "too_large"]

CHUNK = 256 * 1024
_LARGEST_HEADER = 1024 * 1024
"""Bytes that one member may have before its content: names, attributes and a map of holes (Go allows as many)."""


def _zstd() -> Any:
    # In the standard library since Python 3.14; before, the same as a package.
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 - most layers are not compressed with it
    else:
        from backports import zstd  # noqa: PLC0415 - as above
    return zstd


DAMAGE = (tarfile.TarError, zlib.error, EOFError, ValueError, LookupError, TypeError, RecursionError, OverflowError)
"""What reading a damaged archive raises, besides `Failure` and the errors of the operating system."""


def decompressed(file: IO[bytes]) -> IO[bytes]:
    """Return what is in a layer, whatever it is compressed with: the first bytes tell, media types are often wrong."""
    start = file.read(4)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return io.BufferedReader(gzip.GzipFile(fileobj=file, mode="rb"), CHUNK)
    if start == b"\x28\xb5\x2f\xfd":
        return _Zstd(file)  # type: ignore[return-value]
    return file


class _Zstd:
    """What is in a file that is compressed with zstd; its library has an error of its own for damage."""

    def __init__(self, file: IO[bytes]) -> None:
        zstd = _zstd()
        self._file = io.BufferedReader(zstd.ZstdFile(file, "rb"), CHUNK)
        self._damage = zstd.ZstdError

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except self._damage as error:
            raise corrupt(f"its compression is damaged: {error}") from error


class Source:
    """An archive that is read forward only.

    :param digest: one of the algorithm to use. :param allowed: bytes that may be read in all.
    :param step: called now and then while there is reading.
    """

    def __init__(self, file: IO[bytes], digest: str, allowed: int, step: Callable[[], None]) -> None:
        self._file, self._allowed, self._step, self._next_step = file, allowed, step, 0
        self._hash = new_hash(digest)
        self._algorithm = digest.partition(":")[0]
        self._position = 0
        self._header: int | None = None
        self.last = b""

    @property
    def digest(self) -> str:
        """The digest of what has been read."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._position

    def seek(self, position: int) -> None:
        """Go forward."""
        if position < self._position:
            raise corrupt("its archive leads back to where it came from")
        while left := position - self._position:
            if not self._take(min(left, CHUNK)):
                raise corrupt("its archive ends in the middle of a file")

    def read(self, size: int) -> bytes:
        """Return some bytes, fewer only at the end."""
        if self._header is not None:
            self._header -= size
            if size < 0 or self._header < 0:
                raise corrupt("a file in it has a header of more than a mebibyte")
        self.last = self._take(size)
        return self.last

    def drain(self) -> None:
        """Read to the end."""
        while self._take(CHUNK):
            pass

    def header(self, *, begins: bool) -> None:
        """Bound what is read from here on as a header, or no longer."""
        self._header = _LARGEST_HEADER if begins else None

    def _take(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except OSError as error:
            if error.errno is None:  # what gzip and zstd raise for damage
                raise corrupt(f"its compression is damaged: {error}") from error
            raise
        self._position += len(data)
        if self._position > self._allowed:
            raise too_large(self._allowed)
        if self._position >= self._next_step:
            self._next_step = self._position + CHUNK
            self._step()
        self._hash.update(data)
        return data


def too_large(allowed: int) -> Failure:
    """Return the failure for a layer that grows past what it may hold."""
    return corrupt(f"a layer of it unpacks to more than {allowed:,} bytes, which is taken for an attack")


def members(source: Source) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """Yield what an archive holds, and the archive.

    A member's content may be read before the next one is asked for: from ``source``, or through the archive.

    :raises Failure: ``corrupt``. What is in `DAMAGE` may come as well.
    """
    source.header(begins=True)
    try:
        archive = tarfile.TarFile(fileobj=source, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
    except tarfile.ReadError:
        if source.tell() == 0:
            return  # nothing at all is an empty layer
        raise
    while (member := archive.next()) is not None:
        source.header(begins=False)
        vars(archive)["members"].clear()  # it would keep them all
        if member.size < 0:
            raise corrupt("a file in it has a negative size")
        yield member, archive
        source.header(begins=True)
    source.header(begins=False)
    # tarfile takes a damaged header for the end.
    if source.last.strip(b"\0"):
        raise corrupt("its archive has a damaged header")
