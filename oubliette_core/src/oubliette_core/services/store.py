"""`Store`: the database of one Oubliette home, safe for several processes, threads and power cuts.

SQLite with a write-ahead log and ``synchronous=FULL``: what was committed survives anything but a broken disk. A
database that is damaged, gone or of a newer version is an error that says so; none is ever silently begun anew.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Self

from oubliette_core.errors import BusyError, StoreError
from oubliette_core.services.locks import hold_file
from oubliette_core.services.schema import APPLICATION_ID, MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["Store"]

_BUSY_SECONDS = 5.0
_ALWAYS_CHECKED = 1024 * 1024
"""Bytes up to which a database is checked whenever it is opened; that takes about a millisecond."""
_CONNECTIONS = 8
"""Open at a time, at most. SQLite keeps the descriptors of connections that were closed for as long as any is open."""
_DAMAGED = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})
_NOT_USABLE = frozenset({"SQLITE_CANTOPEN", "SQLITE_FULL", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_READONLY"})


class Store:
    """The database of one Oubliette home. A context manager; opened when it is first used.

    :param path: the database's file. :param projects: directory that holds the projects' directories.
    :param locks: directory for lock files. :param migrations: the steps that lead to the shape of this version.

    Every method may raise `StoreError` and, after 5 s of waiting for another process, `BusyError`.
    """

    def __init__(self, path: Path, projects: Path, locks: Path, *, migrations: Sequence[str] = MIGRATIONS) -> None:
        self.path = path
        self.projects = projects
        self.locks = locks
        self._migrations = tuple(migrations)
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_CONNECTIONS)
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._checked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are not in use. Idempotent; a later call opens what it needs."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    @contextlib.contextmanager
    def read(self, *, wait: bool = True) -> Iterator[sqlite3.Connection]:
        """Give a connection for queries; each sees what was committed when it began. Never to be nested.

        :param wait: for a connection, where all are in use; otherwise that is a `BusyError`.
        """
        if not self._free.acquire(blocking=wait):
            raise BusyError(f"all connections to {self.path} are in use", subject=str(self.path), hint="Try again.")
        try:
            with self._translated():
                connection = self._take()
                try:
                    yield connection
                finally:
                    self._give_back(connection)
        finally:
            self._free.release()

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside of a transaction that is committed at the end, or undone by an exception."""
        with self._turn_to_write(), self.read() as connection:
            try:
                # Immediate: a transaction that begins with a query and then writes would fail at once, without waiting,
                # when another process writes in between.
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    @contextlib.contextmanager
    def _turn_to_write(self) -> Iterator[None]:
        """Let one thread write at a time: SQLite would have them poll, and those that only read wait behind them."""
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise self._busy()
        try:
            yield
        finally:
            self._writing.release()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if not self._checked:
                self._prepare()
                self._checked = True
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            self._idle.append(connection)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.absolute().as_uri()}?{self._mode()}",
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _mode(self) -> str:
        """Never create: a file that has gone must not come back empty. Look, at least, where we may not write."""
        if os.access(self.path.parent, os.W_OK):
            return "mode=rw"
        return "mode=ro" if _size(_beside(self.path, "-wal")) else "mode=ro&immutable=1"

    # -- Opening --------------------------------------------------------------------------------------------------
    #
    # The file is looked at through SQLite alone. When a process closes any descriptor of a file, POSIX takes away all
    # locks that the process has on it; another process could then take itself for the last one and remove the log.

    def _prepare(self) -> None:
        """See to it that the file is there, whole, ours, private and of this version's shape."""
        if self._version() != len(self._migrations):
            with hold_file(self.locks / "store.lock", "the database", timeout=_BUSY_SECONDS):
                self._begin_or_migrate()
        if self.path.stat().st_mode & 0o077 and os.access(self.path.parent, os.W_OK):
            self.path.chmod(0o600)
        if _size(self.path) <= _ALWAYS_CHECKED or self._is_cut_off():
            self._check()

    def _version(self) -> int:
        """Return how many steps were taken; 0 where there is nothing yet."""
        if not _size(self.path):
            self._refuse_if_projects_exist()
            return 0
        with contextlib.closing(self._connect()) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables:
            self._refuse_if_projects_exist()
            return 0
        if application != APPLICATION_ID:
            raise StoreError(
                f"{self.path} is a database of another program", subject=str(self.path), hint="Move it away."
            )
        if version > len(self._migrations):
            raise StoreError(
                f"{self.path} was written by a newer version of Oubliette (shape {version}, this one knows "
                f"{len(self._migrations)})",
                subject=str(self.path),
                hint="Upgrade Oubliette, or use another home.",
            )
        return int(version)

    def _begin_or_migrate(self) -> None:
        version = self._version()  # again: another process may have been faster
        if not self.path.exists():
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(self._connect()) as connection:
            if 0 < version < len(self._migrations):
                self._back_up(connection, version)
            connection.execute("PRAGMA journal_mode = WAL")
            for number, script in enumerate(self._migrations[version:], version + 1):
                stamps = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {number};"
                connection.executescript(f"BEGIN IMMEDIATE; {script}; {stamps} COMMIT;")

    def _back_up(self, connection: sqlite3.Connection, version: int) -> None:
        """Keep the database as it was before a migration, beside it; it appears only when it is whole."""
        target = _beside(self.path, f".v{version}.bak")
        partial = _beside(target, ".partial")
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        with contextlib.closing(sqlite3.connect(partial)) as copy:
            connection.backup(copy)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)

    def _refuse_if_projects_exist(self) -> None:
        try:
            found = sorted(entry.name for entry in self.projects.iterdir() if not entry.name.startswith("."))
        except FileNotFoundError:
            return
        if found:
            raise StoreError(
                f"{self.path} is gone or empty, but there are projects in {self.projects} ({len(found)}, the first is "
                f"{found[0]})",
                subject=str(self.path),
                hint=f"Put a copy of the database back, or move {self.projects} away to begin anew.",
            )

    def _is_cut_off(self) -> bool:
        """Tell whether the file is shorter than its header says. With a log beside it, that can be in order."""
        if _size(_beside(self.path, "-wal")):
            return False
        with contextlib.closing(self._connect()) as connection:
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
        return bool(_size(self.path) < page_size * pages)

    def _check(self) -> None:
        with contextlib.closing(self._connect()) as connection:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise self._damage(" ".join(str(found).split()))

    # -- Errors ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn SQLite's errors into ours. A violated constraint is left to the caller, who knows what it means."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            base = "_".join(name.split("_")[:2])
            if base in ("SQLITE_BUSY", "SQLITE_LOCKED"):
                raise self._busy() from error
            if base in _DAMAGED:
                raise self._damage(str(error)) from error
            if base in _NOT_USABLE:
                raise StoreError(
                    f"{self.path} cannot be used: {error}",
                    subject=str(self.path),
                    hint="See to it that the directory is yours, can be written to, and that the disk is not full.",
                ) from error
            raise
        except OSError as error:
            if error.filename is None or not str(error.filename).startswith(str(self.path)):
                raise
            raise StoreError(
                f"{error.filename} cannot be used: {error.strerror}",
                subject=str(self.path),
                hint="See to it that the directory exists, is yours and can be written to.",
            ) from error

    def _busy(self) -> BusyError:
        return BusyError(
            f"another process is writing to {self.path} and did not end within {_BUSY_SECONDS:g} s",
            subject=str(self.path),
            hint="Try again.",
        )

    def _damage(self, detail: str) -> StoreError:
        return StoreError(
            f"{self.path} is damaged ({detail})",
            subject=str(self.path),
            hint=f"It was left as it is. Put a copy of it back; the projects' files are unharmed in {self.projects}.",
        )


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    """Return the size of a file in bytes; 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
