"""Locks of projects: one at a time, across threads and processes, and never for longer than their holder lives."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import BusyError, OperationCancelledError, StoreError
from oubliette_core.models import Cancel
from oubliette_core.services.locks import ProjectLocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.config import Home

HOLDER = """
import sys
from pathlib import Path
from oubliette_core.services.locks import ProjectLocks

with ProjectLocks(Path(sys.argv[1])).hold("proj_a"):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held_elsewhere(home: Home) -> Iterator[subprocess.Popen[str]]:
    """Have another process hold the lock of ``proj_a``."""
    argv = [sys.executable, "-c", HOLDER, str(home.locks_dir)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_is_shut_out_until_the_first_dies(home: Home, locks: ProjectLocks) -> None:
    """A killed process holds nothing."""
    with held_elsewhere(home) as process:
        with pytest.raises(BusyError) as caught, locks.hold("proj_a", timeout=0.1):
            pass
        with locks.attempt("proj_a") as free_before:
            pass
        with locks.attempt("proj_b") as other:
            pass
        process.kill()
        process.wait()
        with locks.attempt("proj_a") as free_after:
            pass

    assert "another process works on project proj_a" in caught.value.message
    assert (False, True, True) == (free_before, other, free_after)


def test_threads_of_one_process_shut_each_other_out(locks: ProjectLocks) -> None:
    """The server works on one project in many threads."""
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with locks.hold("proj_a"):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [1] * 8 == most


def test_waiting_ends_when_cancelled(home: Home, locks: ProjectLocks) -> None:
    """Ctrl-C works while another process is at it."""
    cancel = Cancel()
    timer = threading.Timer(0.2, cancel.cancel)
    with held_elsewhere(home):
        timer.start()
        with pytest.raises(OperationCancelledError), locks.hold("proj_a", cancel=cancel):
            pass
    timer.join()

    assert cancel.cancelled


def test_an_error_while_held_is_not_taken_for_a_lock_that_is_busy(locks: ProjectLocks) -> None:
    """What is done under an attempted lock may raise what it likes."""
    with pytest.raises(BusyError, match="mine"), locks.attempt("proj_a") as held:
        raise BusyError(f"mine {held}")
    with locks.attempt("proj_a") as again:
        pass

    assert again


def test_where_no_lock_can_be_made_that_is_told(home: Home) -> None:
    """Whatever is in the way."""
    file = home.locks_dir / "file"
    file.touch()
    with pytest.raises(StoreError) as caught, ProjectLocks(file).hold("proj_a"):
        pass

    assert caught.value.message.startswith(f"{file / 'proj_a.lock'} cannot be used: ")
