"""Pulling images: progress, the reason of a failure, deadlines."""

from __future__ import annotations

import contextlib
import queue
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from oubliette_core.errors import ImagePullError, OperationTimeoutError, PullFailure
from oubliette_core.models import Cancel, ProgressCallback, ProgressEvent
from oubliette_podman_example._command import NAME, Podman, last_line

_STALLED_AFTER = 120.0

# The first that fits; and whether the same call may succeed a little later.
_REASONS: tuple[tuple[str, PullFailure, bool], ...] = (
    (r"too ?many ?requests|\b429\b", "rate_limited", True),
    (r"no image found in (manifest list|image index)", "no_platform", False),
    (r"no space left on device", "no_space", False),
    (r"certificate has expired or is not yet valid", "clock", False),
    (r"did not match|digest invalid|unexpected EOF|invalid checksum|malformed", "corrupt", True),
    (r"unauthorized|authentication required|denied|forbidden|\b40[13]\b", "unauthorized", False),
    (r"manifest unknown|name unknown|not known to registry|\b404\b", "not_found", False),
    (r"connection refused|no such host|timeout|reset by peer|EOF|\b5\d\d\b", "unreachable", True),
)
_PHASES = (
    ("Trying to pull", "resolving"),
    ("Copying blob", "downloading"),
    ("Copying config", "verifying"),
    ("Writing manifest", "extracting"),
)
_RETRIES = re.compile(r"Too many requests to |Failed, retrying in ")


def pull(  # the hook's arguments, and what they are for Podman
    podman: Podman,
    image: str,
    words: tuple[str, ...],
    *,
    progress: ProgressCallback | None,
    cancel: Cancel | None,
    timeout: float | None,
) -> str:
    """Run ``podman pull`` with ``words``, and give the id of the image.

    Podman repeats what failed, for minutes and without a way to tell it not to. It is ended at the first failure
    instead: whether and when to try again is for those to decide who called.
    """
    watch = _Watch(image, cancel, timeout)
    process = podman.start(("--log-level=debug", "pull", *words), subject=image, stdin=subprocess.DEVNULL)
    with _ended(process), watch.lines(process) as lines:
        said: list[str] = []
        for line in lines:
            if _RETRIES.search(line):
                raise failure(image, line)
            phase = next((phase for text, phase in _PHASES if line.startswith(text)), "")
            if phase and progress is not None:
                layer = line.rpartition("sha256:")[2][:12] if "sha256:" in line else ""
                progress(ProgressEvent(image=image, layer=layer, phase=phase, detail=line))
            if not line.startswith("time="):
                said = [*said[-20:], line]
        if process.wait():
            raise failure(image, last_line("\n".join(said)))
        return said[-1]


def failure(image: str, said: str) -> ImagePullError:
    """Return the error that Podman's words about a pull stand for."""
    cause = said.rpartition("Error: ")[2].rstrip('"').replace('\\"', '"')
    found = (entry for entry in _REASONS if re.search(entry[0], said, re.IGNORECASE))
    _, reason, retryable = next(found, ("", "other", False))
    return ImagePullError(
        f"{image} could not be pulled: {' '.join(cause[:300].split())}",
        reason=reason,
        retryable=retryable,
        runtime=NAME,
        subject=image,
    )


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """See to it that Podman has ended, however the pull does."""
    with process:
        try:
            yield
        finally:
            process.kill()


class _Watch:
    """Waits for what Podman prints, for its end, for the caller's patience and for the caller's change of mind."""

    def __init__(self, image: str, cancel: Cancel | None, timeout: float | None) -> None:
        self._image, self._cancel, self._timeout = image, cancel, timeout
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._until = None if timeout is None else time.monotonic() + timeout

    @contextlib.contextmanager
    def lines(self, process: subprocess.Popen[bytes]) -> Iterator[Iterator[str]]:
        """Give the lines as they are printed, on either stream."""
        pipes = [pipe for pipe in (process.stderr, process.stdout) if pipe]
        readers = [threading.Thread(target=self._read, args=(pipe,), daemon=True) for pipe in pipes]
        forget: Callable[[], None] = (
            self._cancel.on_cancel(lambda: self._news.put("")) if self._cancel else lambda: None
        )
        for reader in readers:
            reader.start()
        try:
            yield self._until_the_end(process.pid, len(pipes))
        finally:
            forget()
            process.kill()
            for reader in readers:
                reader.join()

    def _read(self, pipe: IO[bytes]) -> None:
        pending = b""
        while part := pipe.read(65536):
            *whole, pending = (pending + part).split(b"\n")
            for line in whole:
                self._news.put(line.decode(errors="replace"))
        self._news.put(pending.decode(errors="replace"))
        self._news.put(None)

    def _until_the_end(self, pid: int, pipes: int) -> Iterator[str]:
        moved, moved_at = -1, time.monotonic()
        while pipes:
            self._check(moved_at)
            try:
                line = self._news.get(timeout=self._patience())
            except queue.Empty:
                line = ""
            if line is None:
                pipes -= 1
            elif line:
                yield line
            # While it downloads Podman prints nothing, but the kernel counts what it reads.
            if line or _bytes_read(pid) != moved:
                moved, moved_at = _bytes_read(pid), time.monotonic()

    def _patience(self) -> float:
        return 1.0 if self._until is None else max(min(1.0, self._until - time.monotonic()), 0.0)

    def _check(self, moved_at: float) -> None:
        if self._cancel is not None and self._cancel.cancelled:
            raise self._error("the pull was cancelled", "cancelled")
        if self._timeout is not None and self._until is not None and time.monotonic() >= self._until:
            raise OperationTimeoutError(
                f"{self._image} was not pulled within {self._timeout:g} s",
                operation="pull",
                timeout=self._timeout,
                runtime=NAME,
                subject=self._image,
            )
        if time.monotonic() - moved_at > _STALLED_AFTER:
            raise self._error(f"nothing has moved for {_STALLED_AFTER:g} s", "stalled")

    def _error(self, what: str, reason: PullFailure) -> ImagePullError:
        return ImagePullError(
            f"{self._image} could not be pulled: {what}",
            reason=reason,
            retryable=reason == "stalled",
            runtime=NAME,
            subject=self._image,
        )


def _bytes_read(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/io").read_text(encoding="ascii").split()[1])
    return 0
