"""Copying tar streams in and out, by the container's own ``tar``.

``container copy`` exists since 1.0 only, takes single paths, loses owners, and has wedged containers when a path was
missing.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from typing import IO, TYPE_CHECKING, BinaryIO

from oubliette_apple import _errors
from oubliette_apple._cli import Cli, end
from oubliette_core.errors import InvalidSpecError, UnsupportedError
from oubliette_core.models import ExecSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_apple._exec import Execs

_CHUNK = 65536
_KEPT = 4096
_IN = 'cd -- "$1" && exec tar -x -p -f -'
_OUT = 'cd -- "${1%/*}/" && exec tar -c -f - -- "${1##*/}"'
_TIMEOUT = 3600.0


class Archives:
    """The copy hooks.

    :param cli: the command.
    """

    def __init__(self, cli: Cli, execs: Execs) -> None:
        self._cli = cli
        self._execs = execs

    def copy_in(self, container: str, path: str, archive: BinaryIO) -> bool:
        """Unpack a tar stream into a directory."""
        self._check(container, path, "-d")
        child = self._cli.spawn(
            "exec", "--interactive", "--user=0", container, *_shell(_IN, path), stdin=subprocess.PIPE
        )
        feeder = threading.Thread(target=_feed, args=(child, archive), daemon=True)
        feeder.start()
        said = _Collected(child.stdout), _Collected(child.stderr)
        try:
            code = self._wait(child, container)
        finally:
            end(child)
        if code:
            raise self._failure(container, path, code, said[1].content())
        return True

    def copy_out(self, container: str, path: str) -> Iterator[bytes]:
        """Return a file or directory as a tar stream."""
        self._check(container, path, "-e")
        return self._read(container, path)

    def _read(self, container: str, path: str) -> Iterator[bytes]:
        child = self._cli.spawn("exec", "--user=0", container, *_shell(_OUT, path.rstrip("/") or "/."))
        said = _Collected(child.stderr)
        try:
            while child.stdout and (chunk := child.stdout.read(_CHUNK)):
                yield chunk
            if code := self._wait(child, container):
                raise self._failure(container, path, code, said.content())
        finally:
            end(child)

    def _wait(self, child: subprocess.Popen[bytes], container: str) -> int:
        try:
            return child.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise _errors.late("copy", container, _TIMEOUT) from None

    def _check(self, container: str, path: str, test: str) -> None:
        """See that the path is there and that there is a ``tar``, before a stream is opened."""
        script = f'[ {test} "$1" ] || exit 3; command -v tar >/dev/null || exit 4'
        result = self._execs.run(
            container, ExecSpec(command=_shell(script, path), user="0", timeout=self._cli.options.timeout), None
        )
        if result.timed_out:
            raise _errors.late("copy", container, self._cli.options.timeout)
        if result.exit_code == 3:
            raise InvalidSpecError(
                f"there is no {'directory' if test == '-d' else 'path'} {path} in {container}", value=path
            )
        if result.exit_code == 4:
            raise UnsupportedError(
                f"container {container} has no tar, which copying needs with this runtime",
                capability="copy-in",
                runtime=_errors.NAME,
                subject=container,
                hint="Use an image with tar (or busybox) in it.",
            )

    def _failure(self, container: str, path: str, code: int, stderr: bytes) -> Exception:
        text = stderr.decode("utf-8", "replace")
        error = self._execs.failure(container, code, stderr)
        words = " ".join(text.split())[-300:]
        return error or InvalidSpecError(f"tar failed for {path} in {container}: {words}", value=path)


class _Collected:
    """Reads a stream from the start, so that nobody waits for it to be read, and keeps its end."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._kept = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while self._stream and (chunk := self._stream.read(_CHUNK)):
                self._kept = (self._kept + chunk)[-_KEPT:]

    def content(self) -> bytes:
        """Return the end of the stream."""
        self._thread.join(1)
        return self._kept


def _shell(script: str, path: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", script, "oubliette-copy", path)


def _feed(child: subprocess.Popen[bytes], archive: BinaryIO) -> None:
    if child.stdin is None:
        return
    with contextlib.suppress(OSError, ValueError):
        while chunk := archive.read(_CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[child.stdin.write(view) or 0 :]
    with contextlib.suppress(OSError):
        child.stdin.close()
