"""The store: nothing that was committed is lost, and nothing is begun anew behind the user's back."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.config import Home
from oubliette_core.errors import BusyError, StoreError
from oubliette_core.services import store as store_module
from oubliette_core.services.schema import MIGRATIONS
from oubliette_core.services.store import Store
from tests.core.services.conftest import MakeProject

INSERT = "INSERT INTO projects (id, name, container_type, created_at) VALUES (?, ?, 'base', '2026-01-01')"


def opened(home: Home, migrations: tuple[str, ...] = MIGRATIONS) -> Store:
    """Open the home's database."""
    return Store(home.database, home.projects_dir, home.locks_dir, migrations=migrations)


def add(store: Store, name: str) -> None:
    """Commit a project."""
    with store.write() as connection:
        connection.execute(INSERT, (f"proj_{name}", name))


def names(store: Store) -> list[str]:
    """Read the projects' names."""
    with store.read() as connection:
        return [row["name"] for row in connection.execute("SELECT name FROM projects ORDER BY name")]


def mode(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


# -- As it should be ----------------------------------------------------------------------------------------------


def test_what_was_committed_is_there_when_opened_again(home: Home) -> None:
    """The store outlives the process."""
    with opened(home) as store:
        add(store, "one")
    with opened(home) as store:
        found = names(store)

    assert ["one"] == found


def test_an_exception_undoes_the_whole_transaction(store: Store) -> None:
    """A transaction is all or nothing, and leaves the connection fit for the next."""

    def fail() -> None:
        with store.write() as connection:
            connection.execute(INSERT, ("proj_a", "a"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    add(store, "b")

    assert ["b"] == names(store)


def test_the_log_is_written_ahead_and_synced_in_full(store: Store) -> None:
    """A power cut after a commit takes nothing back."""
    with store.read() as connection:
        settings = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]

    assert ["wal", 2] == settings


def test_all_files_are_private_whatever_the_umask(home: Home) -> None:
    """Tokens and project names are for their owner alone."""
    before = os.umask(0)
    try:
        with opened(home) as store:
            add(store, "a")
            modes = {path.name: mode(path) for path in home.data_dir.glob("oubliette.db*")}
    finally:
        os.umask(before)

    assert {"oubliette.db": 0o600, "oubliette.db-wal": 0o600, "oubliette.db-shm": 0o600} == modes


def test_a_file_that_others_can_read_is_closed_to_them(home: Home) -> None:
    """A restored copy often has the wrong mode."""
    with opened(home) as store:
        add(store, "a")
    home.database.chmod(0o644)
    with opened(home) as store:
        names(store)

    assert 0o600 == mode(home.database)


def test_threads_share_one_store(store: Store) -> None:
    """The server's threads write at the same time, and each sees what was committed."""
    with contextlib.ExitStack() as stack:
        for number in range(16):
            thread = threading.Thread(target=add, args=(store, f"p{number:02}"))
            thread.start()
            stack.callback(thread.join)

    assert [f"p{number:02}" for number in range(16)] == names(store)


# -- Several processes --------------------------------------------------------------------------------------------

WRITER = f"""
import sys
from pathlib import Path
from oubliette_core.config import Home
from oubliette_core.services.store import Store

home, prefix, count = Home(path=Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
with Store(home.database, home.projects_dir, home.locks_dir) as store:
    for number in range(count):
        name = f"{{prefix}}{{number:04}}"
        with store.write() as connection:
            connection.execute({INSERT!r}, (f"proj_{{name}}", name))
        print(name, flush=True)
"""


def writer(home: Home, prefix: str, count: int) -> subprocess.Popen[str]:
    """Start a process that commits one project after the other and says so."""
    argv = [sys.executable, "-c", WRITER, str(home.path), prefix, str(count)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_processes_that_open_a_new_store_at_once_all_write_to_it(home: Home) -> None:
    """The first start of a server and of the command line may fall together."""
    writers = [writer(home, prefix, 20) for prefix in "abcd"]
    codes = []
    for process in writers:
        with process:
            process.communicate()
        codes.append(process.returncode)
    with opened(home) as store:
        found = names(store)

    assert [0, 0, 0, 0] == codes
    assert [f"{prefix}{number:04}" for prefix in "abcd" for number in range(20)] == found


def test_a_second_store_in_one_process_takes_no_locks_away_from_the_first(home: Home) -> None:
    """Closing any descriptor of the file would: another process would then remove the log that the first one uses."""
    log = home.database.with_name("oubliette.db-wal")
    with opened(home) as first:
        add(first, "a")
        before = log.stat().st_ino
        with opened(home) as second:
            names(second)
        with writer(home, "x", 3) as process:
            process.communicate()
        after = log.stat().st_ino
        add(first, "b")
    with opened(home) as store:
        found = names(store)

    assert before == after
    assert ["a", "b", "x0000", "x0001", "x0002"] == found


@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_process_killed_while_it_writes_loses_nothing_that_was_committed(home: Home, after: int) -> None:
    """``kill -9`` at any moment: what the process had been told is committed is there, and the store is whole."""
    with writer(home, "x", 1_000_000) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
    with opened(home) as store:
        found = names(store)
        add(store, "next")
        with store.read() as connection:
            whole = connection.execute("PRAGMA integrity_check").fetchone()[0]

    assert set(told) <= set(found)
    assert "ok" == whole


def test_a_writer_waits_for_another_and_then_says_that_it_is_busy(
    home: Home, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock that another process never lets go of ends in an error, in bounded time."""
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.2)
    names(store)
    with contextlib.closing(sqlite3.connect(home.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with opened(home) as second, pytest.raises(BusyError) as caught:
            add(second, "b")
        readable = names(store)

    assert "another process is writing" in caught.value.message
    assert [] == readable


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")
def test_many_threads_leave_no_more_open_than_a_few(home: Home, store: Store) -> None:
    """SQLite keeps the descriptors of connections that were closed for as long as another is open."""
    begin = threading.Barrier(40)

    def use(number: int) -> None:
        begin.wait(10)
        for _ in range(5):
            names(store)
        add(store, f"{number:02}")

    threads = [threading.Thread(target=use, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]

    assert [f"{number:02}" for number in range(40)] == names(store)
    assert opened.count(str(home.database)) <= 8


def test_threads_take_turns_to_write(home: Home, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waits for its turn for too long says so, and whoever reads does not wait."""
    monkeypatch.setattr(store_module, "_BUSY_SECONDS", 0.2)
    errors: list[BaseException] = []

    def late() -> None:
        try:
            add(store, "late")
        except BusyError as error:
            errors.append(error)

    with store.write() as connection:
        connection.execute(INSERT, ("proj_first", "first"))
        thread = threading.Thread(target=late)
        thread.start()
        thread.join()
        during = names(store)

    assert [] == during
    assert 1 == len(errors)
    assert ["first"] == names(store)


# -- Damage -------------------------------------------------------------------------------------------------------


def _missing(path: Path) -> None:
    path.unlink()


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _no_tables(path: Path) -> None:
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")
        connection.execute("VACUUM")


@pytest.mark.parametrize("harm", [_missing, _emptied, _no_tables])
def test_a_store_that_is_gone_is_not_begun_anew_while_projects_exist(
    home: Home, make_project: MakeProject, store: Store, harm: Callable[[Path], None]
) -> None:
    """An empty list of projects would hide what can still be saved."""
    make_project()
    store.close()
    harm(home.database)
    before = home.database.read_bytes() if home.database.exists() else None
    with opened(home) as again, pytest.raises(StoreError) as caught:
        names(again)

    assert "is gone or empty, but there are projects in" in caught.value.message
    assert before == (home.database.read_bytes() if home.database.exists() else None)


def _no_magic(path: Path) -> None:
    path.write_bytes(b"<html>" + path.read_bytes()[6:])


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwritten(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))


@pytest.mark.parametrize("harm", [_no_magic, _cut, _overwritten])
@pytest.mark.parametrize("rows", [10, 20_000], ids=["small", "large"])
def test_damage_is_told_and_left_as_it_is(home: Home, harm: Callable[[Path], None], rows: int) -> None:
    """Whoever can repair it needs it as it was found."""
    with opened(home) as store, store.write() as connection:
        connection.executemany(INSERT, ((f"proj_{n:06}" + "x" * 60, f"{n:06}" + "y" * 60) for n in range(rows)))
    harm(home.database)
    before = home.database.read_bytes()
    with opened(home) as store, pytest.raises(StoreError, match="is damaged") as caught:
        names(store)

    assert str(home.database) in caught.value.message
    assert "copy" in caught.value.hint
    assert before == home.database.read_bytes()


def test_a_database_of_another_program_is_refused(home: Home) -> None:
    """A file put there by mistake is not written to."""
    with contextlib.closing(sqlite3.connect(home.database)) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    with opened(home) as store, pytest.raises(StoreError, match="of another program"):
        names(store)


def test_a_home_that_cannot_be_written_can_be_read(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that only look work on a file system that is mounted read-only."""
    with opened(home) as store:
        add(store, "a")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with opened(home) as store:
        found = names(store)
        with pytest.raises(StoreError, match="cannot be used: attempt to write a readonly database"):
            add(store, "b")

    assert ["a"] == found


def test_a_missing_data_directory_is_told(home: Home, tmp_path: Path) -> None:
    """The error names the path and what to look at."""
    path = tmp_path / "none" / "oubliette.db"
    with Store(path, home.projects_dir, home.locks_dir) as store, pytest.raises(StoreError) as caught:
        names(store)

    assert f"{path} cannot be used: No such file or directory" == caught.value.message


# -- Migrations ---------------------------------------------------------------------------------------------------

NEXT = (*MIGRATIONS, "ALTER TABLE projects ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey';")


def test_an_older_store_is_backed_up_and_brought_to_the_new_shape(home: Home) -> None:
    """An upgrade keeps every record, and the way back."""
    with opened(home) as store:
        add(store, "old")
    with opened(home, NEXT) as store, store.read() as connection:
        row = connection.execute("SELECT name, colour FROM projects").fetchone()
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    backup = home.database.with_name(f"oubliette.db.v{len(MIGRATIONS)}.bak")
    with contextlib.closing(sqlite3.connect(backup)) as copy:
        kept = (copy.execute("PRAGMA user_version").fetchone()[0], copy.execute("SELECT name FROM projects").fetchall())

    assert (("old", "grey"), len(NEXT)) == (tuple(row), version)
    assert (len(MIGRATIONS), [("old",)]) == kept
    assert 0o600 == mode(backup)


@pytest.mark.parametrize("shape", range(1, len(MIGRATIONS)))
def test_a_store_of_each_earlier_shape_is_brought_to_this_one(home: Home, shape: int) -> None:
    """With what is in it."""
    with opened(home, MIGRATIONS[:shape]) as store:
        add(store, "old")
    with opened(home) as store, store.read() as connection:
        columns = {row["name"] for row in connection.execute("PRAGMA table_info(sessions)")}
        found = names(store)

    assert ["old"] == found
    assert {"agent", "questions", "process"} <= columns


def test_a_migration_that_fails_changes_nothing(home: Home) -> None:
    """Half a migration would fit neither version."""
    with opened(home) as store:
        add(store, "old")
    broken = (*MIGRATIONS, "ALTER TABLE projects ADD COLUMN colour TEXT; INSERT INTO nowhere VALUES (1);")
    with opened(home, broken) as store, pytest.raises(sqlite3.OperationalError, match="nowhere"):
        names(store)
    with opened(home) as store:
        found = names(store)

    assert ["old"] == found


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(home: Home) -> None:
    """A downgrade must not damage what it does not know."""
    with opened(home, NEXT) as store:
        names(store)
    before = home.database.read_bytes()
    with opened(home) as store, pytest.raises(StoreError, match="written by a newer version") as caught:
        names(store)

    assert "Upgrade" in caught.value.hint
    assert before == home.database.read_bytes()
