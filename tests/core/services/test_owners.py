"""Owners: any process sees whether another lives, and a dead one is never taken for alive."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from oubliette_core.services.owners import Owner, owner_lives

if TYPE_CHECKING:
    from oubliette_core.config import Home

OWNER = """
import sys
from pathlib import Path
from oubliette_core.services.owners import Owner

owner = Owner(Path(sys.argv[1]))
print(owner.id, flush=True)
sys.stdin.read()
"""


def test_an_owner_lives_until_it_is_closed(home: Home) -> None:
    """Also seen from its own process, which asks in the same way."""
    with Owner(home.locks_dir) as owner:
        alive = owner_lives(home.locks_dir, owner.id)

    assert alive
    assert not owner_lives(home.locks_dir, owner.id)
    assert [] == list(home.locks_dir.glob("owner_*"))


def test_an_owner_that_is_killed_is_dead_at_once_and_swept_up(home: Home) -> None:
    """No heartbeat has to run out, and no process id can be mistaken."""
    argv = [sys.executable, "-c", OWNER, str(home.locks_dir)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        alive = owner_lives(home.locks_dir, name)
        process.kill()
        process.wait()
        dead = not owner_lives(home.locks_dir, name)
    with Owner(home.locks_dir) as owner:
        left = [path.name for path in home.locks_dir.glob("owner_*")]

    assert (True, True) == (alive, dead)
    assert [f"{owner.id}.lock"] == left


def test_many_that_ask_at_once_never_see_a_dead_one_alive_or_a_live_one_dead(home: Home) -> None:
    """Those who look must not be taken for the owner by others who look."""
    with Owner(home.locks_dir) as alive:
        with Owner(home.locks_dir) as dead:
            path = home.locks_dir / f"{dead.id}.lock"
        path.touch()
        answers: set[tuple[bool, bool]] = set()

        def ask() -> None:
            for _ in range(200):
                answers.add((owner_lives(home.locks_dir, alive.id), owner_lives(home.locks_dir, dead.id)))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert {(True, False)} == answers


def test_what_is_no_owner_does_not_live(home: Home) -> None:
    """An id from a damaged row is not made a path of."""
    assert not owner_lives(home.locks_dir, "../../etc/passwd")
    assert not owner_lives(home.locks_dir, "")
