"""Where containers are on the disk, and how processes that use them at the same time keep out of each other's way.

    containers/ID/            a container
        container.json        what it was made as (see `_definition`)
        run.json              its last run (see `supervisor.record`)
        alive                 locked by the supervisor for as long as it lives
        lock                  held by whoever starts or removes it
        control               socket of the supervisor
        upper/ work/          what it has written
        log log.old           what its main process printed, with an index each
        etc/                  hosts, hostname and resolv.conf
    names/NAME                link to the id of the container of that name; names.lock guards them
    new/ID/                   being made; whoever makes one shares new.lock
    trash/ID/                 being removed
    volumes/NAME/             a volume

A directory is renamed to where it counts when it is complete, and renamed away before anything of it is removed, so
whatever is killed in between leaves either a container or something to be swept up.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import (
    ContainerNotFoundError,
    NameConflictError,
    OperationTimeoutError,
    RuntimeOperationError,
)
from oubliette_embedded._definition import Definition
from oubliette_embedded._options import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Places", "not_found", "read_run"]

_ID = re.compile(r"[0-9a-f]{32}")
_DEADLINE = 30.0
_LOOK_EVERY = 0.005


class Places:
    """The directories of one root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._containers = root / "containers"
        self._names = root / "names"
        self._new = root / "new"
        self._trash = root / "trash"

    # -- Finding --------------------------------------------------------------------------------------------------

    def find(self, container: str) -> Path:
        """Return the directory of a container, by its id or name. :raises ContainerNotFoundError: there is none."""
        if _ID.fullmatch(container) and (self._containers / container).is_dir():
            return self._containers / container
        with contextlib.suppress(OSError):
            directory = self._containers / (self._names / container).readlink()
            if _ID.fullmatch(directory.name) and directory.is_dir():
                return directory
        raise not_found(container)

    def all(self) -> list[Path]:
        """Return the directories of all containers."""
        try:
            return [Path(entry.path) for entry in os.scandir(self._containers) if _ID.fullmatch(entry.name)]
        except FileNotFoundError:
            return []

    @staticmethod
    def definition(directory: Path) -> Definition:
        """Return what a container was made as. :raises ContainerNotFoundError: it has been removed."""
        try:
            return Definition.from_json((directory / "container.json").read_bytes())
        except (OSError, ValueError) as error:
            raise not_found(directory.name) from error

    # -- Making and removing --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def making(self, identity: str) -> Iterator[Path]:
        """Give an empty directory for a new container; it is swept up later when it is not `put` in place."""
        self._make_directories()
        with self._lock(self.root, "new.lock", shared=True):
            directory = self._new / identity
            directory.mkdir(mode=0o700)
            yield directory

    def _make_directories(self) -> None:
        for directory in (self.root, self._containers, self._names, self._new, self._trash):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.root.stat()
        if status.st_uid != os.geteuid():
            raise RuntimeOperationError(
                f"the directory of the containers, {self.root}, belongs to somebody else",
                runtime=RUNTIME,
                subject=str(self.root),
                hint="Remove it, or set runtimes.embedded.root to a directory of your own.",
            )
        if status.st_mode & 0o077:
            self.root.chmod(0o700)

    def put(self, directory: Path, definition: Definition) -> Path:
        """Let a new container be there. :raises NameConflictError: its name is taken."""
        _write_durably(directory / "container.json", definition.as_json())
        place = self._containers / definition.id
        with self._lock(self.root, "names.lock"):
            link = self._names / definition.name
            with contextlib.suppress(FileNotFoundError):
                other = link.readlink().name
                if (self._containers / other).is_dir():
                    raise NameConflictError(
                        f"there is a container of the name {definition.name} already",
                        runtime=RUNTIME,
                        subject=definition.name,
                        hint=f"Remove container {other[:12]}, or use another name.",
                    )
                link.unlink()
            link.symlink_to(definition.id)
            directory.rename(place)
        _sync(self._containers)
        return place

    def take_away(self, directory: Path, name: str) -> None:
        """Let a container be gone; what is left of it is swept up later."""
        with contextlib.suppress(FileExistsError):
            self._trash.mkdir(mode=0o700)
        directory.rename(self._trash / directory.name)
        with self._lock(self.root, "names.lock"), contextlib.suppress(FileNotFoundError):
            if (self._names / name).readlink().name == directory.name:
                (self._names / name).unlink()

    def leftovers(self) -> Iterator[Path]:
        """Give what has been taken away, and what was never put in place by somebody who is gone."""
        with contextlib.suppress(FileNotFoundError):
            yield from map(Path, os.scandir(self._trash))
        with contextlib.suppress(OSError), self._lock(self.root, "new.lock", wait=False):
            yield from map(Path, os.scandir(self._new))

    # -- Locks ----------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self, directory: Path) -> Iterator[int]:
        """Keep others from starting or removing a container; gives the descriptor that holds the lock.

        :raises ContainerNotFoundError: it has been removed. :raises OperationTimeoutError: others took too long.
        """
        try:
            with self._lock(directory) as descriptor:
                if not (directory / "container.json").exists():
                    raise not_found(directory.name)
                yield descriptor
        except FileNotFoundError as error:
            if directory.exists():
                raise
            raise not_found(directory.name) from error

    @contextlib.contextmanager
    def _lock(self, directory: Path, name: str = "lock", *, shared: bool = False, wait: bool = True) -> Iterator[int]:
        """Hold a lock. :raises BlockingIOError: somebody else does, and it is not to be waited for."""
        descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            if wait:
                _wait_for(descriptor, kind, directory.name)
            else:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            yield descriptor
        finally:
            os.close(descriptor)


def not_found(container: str) -> ContainerNotFoundError:
    """Return the error for a container that is not there."""
    return ContainerNotFoundError(f"there is no container {container}", runtime=RUNTIME, subject=container)


def read_run(directory: Path) -> dict[str, Any]:
    """Return what is written of a container's last run; nothing when there was none."""
    try:
        run: dict[str, Any] = json.loads((directory / "run.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return run


def _wait_for(descriptor: int, kind: int, subject: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                raise
        else:
            return
        if time.monotonic() > deadline:
            raise OperationTimeoutError(
                f"another process did not finish with container {subject} in time",
                operation="lock",
                timeout=_DEADLINE,
                runtime=RUNTIME,
                subject=subject,
            )
        time.sleep(_LOOK_EVERY)


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    _sync(path.parent)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
