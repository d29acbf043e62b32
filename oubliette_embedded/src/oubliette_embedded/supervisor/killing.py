"""Killing all processes of one command, and being sure of it.

They are known by their control group namespace (see `commands`). Killing those that a scan of ``/proc`` finds is not
enough where processes make others faster than they are found. So when a few rounds did not do, every process of the
container but its first is stopped at one stroke: ``kill(-1, SIGSTOP)`` from inside reaches all of them while none can
fork. Then what is found is complete; it is killed, and the others go on.
"""

from __future__ import annotations

import os
import time

from oubliette_embedded.supervisor import kernel
from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.inside import Namespaces, apart

__all__ = ["kill_all"]

_SIGCONT = 18
_SIGSTOP = 19
_ROUNDS = 8
"""How often what is found is killed before everything is stopped."""
_SECONDS = 8.0
_PAUSE = 0.001


class _Scan:
    """What one look through ``/proc`` found.

    :ivar found: processes of the command that may still run. :ivar ended: those that are over, or were never there
        long enough to tell whose they were.
    """

    def __init__(self, mark: int) -> None:
        self.found: list[int] = []
        self.ended: set[str] = set()
        for name in os.listdir("/proc"):
            if name.isdigit():
                self._look(name, mark)

    def _look(self, name: str, mark: int) -> None:
        try:
            number = os.stat(f"/proc/{name}/ns/cgroup").st_ino
        except PermissionError:
            return  # somebody else's
        except OSError:
            number = _of_a_thread(name)
            if number == 0:
                self.ended.add(name)
        if number == mark:
            self.found.append(int(name))


def _of_a_thread(name: str) -> int:
    """Look at the other threads of a process whose first one has ended; 0 when there are none that live."""
    with ignored(OSError):
        for thread in os.listdir(f"/proc/{name}/task"):
            with ignored(OSError):
                return os.stat(f"/proc/{name}/task/{thread}/ns/cgroup").st_ino
    return 0


def kill_all(mark: int, namespaces: Namespaces) -> bool:
    """Kill every process of a command; True when it is certain that none is left.

    A scan is certain when it found nothing and could tell of each process whose it was, but for those that were known
    to be at their end before it began: what ends while it is looked for may have left a child that was not seen.

    :param mark: number of its control group namespace.
    """
    deadline = time.monotonic() + _SECONDS
    ended: set[str] = set()
    for _ in range(_ROUNDS):
        scan = _kill_found(mark)
        if not scan.found and scan.ended <= ended:
            return True
        ended = scan.ended.union(map(str, scan.found))
        time.sleep(_PAUSE)  # for what was killed to end
    return _kill_stopped(mark, namespaces, deadline)


def _kill_found(mark: int) -> _Scan:
    scan = _Scan(mark)
    for pid in scan.found:
        with ignored(ProcessLookupError):
            os.kill(pid, kernel.SIGKILL)
    return scan


def _kill_stopped(mark: int, namespaces: Namespaces, deadline: float) -> bool:
    """Kill what belongs to the command while the whole container stands still."""
    resting = _stopped(namespaces)
    try:
        while time.monotonic() < deadline:
            _signal_everything(namespaces, _SIGSTOP)
            if not _kill_found(mark).found:
                return True
            time.sleep(_PAUSE)
        return False
    finally:
        # Those that stood still before go on doing so.
        for pid in _stopped(namespaces) - resting:
            with ignored(OSError):
                os.kill(pid, _SIGCONT)


def _signal_everything(namespaces: Namespaces, number: int) -> None:
    """Send a signal to all processes of the container but its first, as only a process in there can."""

    def inside() -> None:
        with ignored(ProcessLookupError):
            os.kill(-1, number)

    def enter() -> None:
        kernel.hide()
        namespaces.enter()
        os.waitpid(apart(inside), 0)

    os.waitpid(apart(enter), 0)


def _stopped(namespaces: Namespaces) -> set[int]:
    """Find the processes of the container that were stopped."""
    found = set()
    for name in os.listdir("/proc"):
        with ignored(OSError, IndexError):
            if name.isdigit() and _state(name) == b"T" and namespaces.holds(name):
                found.add(int(name))
    return found


def _state(name: str) -> bytes:
    with open(f"/proc/{name}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0]
