"""Blobs from a registry into the store: verified while they come, resumed where they broke off."""

from __future__ import annotations

import contextlib
from typing import IO, TYPE_CHECKING, Any

from oubliette_embedded.images._disk import file_name, finish_file, sync_directory
from oubliette_embedded.images._documents import new_hash
from oubliette_embedded.images._failures import Failure, corrupt
from oubliette_embedded.images._layers import short
from oubliette_embedded.images._transport import BrokenConnection

if TYPE_CHECKING:
    from pathlib import Path

    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._documents import Descriptor
    from oubliette_embedded.images._registry import Repository
    from oubliette_embedded.images._work import Work

__all__ = ["ensure_blob"]

_CHUNK = 1024 * 1024
_MOST_FAILURES = 3
"""Attempts in a row that bring nothing."""
_MOST_ATTEMPTS = 100
_PAUSE = 0.125


def ensure_blob(disk: Disk, repository: Repository, blob: Descriptor, work: Work) -> bool:
    """Have a blob in the store; one thread of one process downloads it, others wait and share.

    :return: whether it had to be downloaded. :raises Failure: it could not be had.
    """
    if disk.has_blob(blob.digest, blob.size):
        return False
    name = short(blob.digest)
    partial = disk.partial / file_name(blob.digest)

    def waiting() -> None:
        work.check()
        with contextlib.suppress(FileNotFoundError):
            # What the other one has got so far is a sign of life for us, too.
            work.tell(name, "waiting", min(partial.stat().st_size, blob.size), blob.size)

    with disk.one(blob.digest, waiting):
        if disk.has_blob(blob.digest, blob.size):
            return False
        _Download(disk, repository, blob, partial, work).run()
    return True


class _Download:
    def __init__(self, disk: Disk, repository: Repository, blob: Descriptor, partial: Path, work: Work) -> None:
        self._disk, self._repository, self._blob, self._partial, self._work = disk, repository, blob, partial, work
        self._name = short(blob.digest)
        self._hash: Any = None
        self._done = 0
        self._resumed = False

    def run(self) -> None:
        """Download, verify, and have it under its name."""
        try:
            with self._partial.open("ab+") as file:
                self._take_up(file)
                self._fetch(file)
                if not self._is_right() and self._resumed:
                    self._begin_anew(file)
                    self._fetch(file)
                if not self._is_right():
                    self._partial.unlink()
                    digest = f"{self._blob.digest.partition(':')[0]}:{self._hash.hexdigest()}"
                    raise corrupt(f"a layer of it has digest {digest}, and not {self._blob.digest}")
                self._work.tell(self._name, "verifying", self._blob.size, self._blob.size)
                self._work.check()
                with self._work.local():
                    finish_file(file)
        except OSError as error:
            if error.errno is not None:
                self._partial.unlink(missing_ok=True)  # perhaps the disk is full
            raise
        target = self._disk.blob(self._blob.digest)
        self._partial.replace(target)
        sync_directory(target.parent)

    def _is_right(self) -> bool:
        return bool(self._hash.hexdigest() == self._blob.digest.partition(":")[2])

    def _take_up(self, file: IO[bytes]) -> None:
        """Go on after what an earlier download left behind."""
        self._hash, self._done = new_hash(self._blob.digest), 0
        file.seek(0)
        while chunk := file.read(_CHUNK):
            self._hash.update(chunk)
            self._done += len(chunk)
            self._work.moved()
        if self._done > self._blob.size:
            self._begin_anew(file)
        self._resumed = self._done > 0

    def _begin_anew(self, file: IO[bytes]) -> None:
        file.truncate(0)
        self._hash, self._done, self._resumed = new_hash(self._blob.digest), 0, False

    def _fetch(self, file: IO[bytes]) -> None:
        """Get what is missing, in as many attempts as it takes while they bring something."""
        failures, attempts = 0, 0
        while self._done < self._blob.size:
            before = self._done
            try:
                self._attempt(file)
                failure = Failure("the registry ends a layer too early", "corrupt", retryable=True)
            except BrokenConnection as broken:
                failure = broken.failure
            if self._done >= self._blob.size:
                return
            attempts += 1
            failures = 0 if self._done > before else failures + 1
            if failures >= _MOST_FAILURES or attempts >= _MOST_ATTEMPTS:
                raise failure
            self._resumed = True
            self._work.tell(self._name, "retrying", self._done, self._blob.size, failure.why)
            if failures and self._work.stop.wait(_PAUSE * 2**failures):
                self._work.check()

    def _attempt(self, file: IO[bytes]) -> None:
        with self._repository.blob(self._blob.digest, self._done) as (begins, chunks):
            if begins != self._done:
                if begins:
                    raise Failure("the registry gives another part than it was asked for", "unreachable")
                self._begin_anew(file)
            for chunk in chunks:
                if self._done + len(chunk) > self._blob.size:
                    raise corrupt(f"a layer of it is larger than the {self._blob.size} bytes that it has to have")
                file.write(chunk)
                self._hash.update(chunk)
                self._done += len(chunk)
                self._work.tell(self._name, "downloading", self._done, self._blob.size)
            file.flush()
