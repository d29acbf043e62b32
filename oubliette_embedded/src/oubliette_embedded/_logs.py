"""Reading what a main process printed (see `supervisor.output` for how it is kept)."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from oubliette_embedded._control import Control
from oubliette_embedded.supervisor.output import ENTRY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oubliette_core.models import LogSpec

__all__ = ["read", "tail"]

_CHUNK = 65536
_WAKE = 1.0


def tail(directory: Path, size: int) -> bytes:
    """Return the last bytes."""
    with contextlib.suppress(OSError), contextlib.closing(_Printed(directory)) as printed:
        return b"".join(printed.chunks(max(0, printed.size - size)))
    return b""


def read(directory: Path, spec: LogSpec) -> Iterator[bytes]:
    """See `RuntimeSpec.logs`; the files are opened at once."""
    control = _follow(directory) if spec.follow else None
    return _chunks(directory, spec, _Printed(directory), control)


def _chunks(directory: Path, spec: LogSpec, printed: _Printed, control: Control | None) -> Iterator[bytes]:
    try:
        start = 0 if spec.since is None else printed.since(int(spec.since.timestamp() * 1e9))
        if spec.tail is not None:
            start = printed.last_lines(spec.tail, start)
        yield from printed.chunks(start)
        goes_on = control is not None
        while control is not None and goes_on:
            if control.ready(_WAKE):
                goes_on = control.hear()[0] not in (b"", b"ended")
            yield from printed.more(directory)
    finally:
        printed.close()
        if control is not None:
            control.close()


def _follow(directory: Path) -> Control | None:
    """Have the supervisor tell of more; None when the container does not run."""
    with contextlib.suppress(OSError):
        return Control(directory, [[b"follow"]])
    return None


class _Printed:
    """Both files, older and newer, as one."""

    def __init__(self, directory: Path) -> None:
        self._files = _open_both(directory)
        self._sizes = [os.fstat(descriptor).st_size for descriptor, _ in self._files]
        self.size = sum(self._sizes)

    def close(self) -> None:
        for descriptors in self._files:
            for descriptor in descriptors:
                os.close(descriptor)
        self._files = []

    def chunks(self, start: int) -> Iterator[bytes]:
        """Give everything from a position on."""
        while data := self._read(start, _CHUNK):
            yield data
            start += len(data)

    def _read(self, start: int, size: int) -> bytes:
        for (descriptor, _), length in zip(self._files, self._sizes, strict=True):
            if start < length:
                return os.pread(descriptor, min(size, length - start), start)
            start -= length
        return b""

    def last_lines(self, lines: int, start: int) -> int:
        """Return where the last so many lines begin, or ``start`` when that is later."""
        at = self.size
        if lines == 0 or at <= start:
            return max(at, start)
        left = lines + (self._read(at - 1, 1) == b"\n")
        while at > start:
            begin = max(start, at - _CHUNK)
            data = b""
            while len(data) < at - begin:  # a piece may lie in both files
                data += self._read(begin + len(data), at - begin - len(data))
            found = len(data)
            while left and (found := data.rfind(b"\n", 0, found)) >= 0:
                left -= 1
                if left == 0:
                    return begin + found + 1
            at = begin
        return start

    def since(self, moment: int) -> int:
        """Return where the first piece begins that was written at a moment (nanoseconds since 1970) or later."""
        before = 0
        for (_, index), size in zip(self._files, self._sizes, strict=True):
            entries = os.pread(index, os.fstat(index).st_size, 0)
            for at in range(0, len(entries) // ENTRY * ENTRY, ENTRY):
                if int.from_bytes(entries[at + 8 : at + ENTRY], "little") >= moment:
                    return before + int.from_bytes(entries[at : at + 8], "little")
            before += size
        return before

    def more(self, directory: Path) -> Iterator[bytes]:
        """Give what was written since the last look, also when the files have changed places."""
        if self._files:
            yield from self._grown()
            if os.fstat(self._files[-1][0]).st_ino == _identity(directory):
                return
            yield from self._grown()  # the last of it was written before the change
        else:
            self._sizes = []
        self.close()
        self._files = _open_both(directory)[-1:]
        self._sizes = [0] * len(self._files)
        yield from self._grown()

    def _grown(self) -> Iterator[bytes]:
        if self._files:
            while data := os.pread(self._files[-1][0], _CHUNK, self._sizes[-1]):
                self._sizes[-1] += len(data)
                yield data


def _open_both(directory: Path) -> list[tuple[int, int]]:
    """Open the older and the newer file, as far as there are such, each with its index."""
    while True:
        newest = _identity(directory)
        files = []
        for end in (".old", ""):
            with contextlib.suppress(FileNotFoundError):
                files.append((_open(directory / f"log{end}"), _open(directory / f"log.index{end}")))
        if newest == _identity(directory):
            return files
        for descriptors in files:  # they changed places meanwhile
            for descriptor in descriptors:
                os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _identity(directory: Path) -> int:
    try:
        return (directory / "log").stat().st_ino
    except FileNotFoundError:
        return 0
