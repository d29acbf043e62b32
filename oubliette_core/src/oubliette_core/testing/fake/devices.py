"""What is in ``/dev`` and ``/proc`` of a fake container."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.nodes import Device, Directory, File, Identity, Link, Node, fail

if TYPE_CHECKING:
    from oubliette_core.testing.fake.kernel import Kernel, Task

__all__ = ["Processes", "make_devices"]

_ALL_CAPABILITIES = 0x00000000A80425FB
"""What engines leave to a container by default."""


def make_devices() -> Directory:
    """Return ``/dev``."""
    devices = Directory()
    for name in ("null", "zero", "full", "random", "urandom"):
        devices.put(name, Device(name))
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        devices.put(name, Link(f"/proc/self/fd/{number}"))
    devices.put("shm", Directory(0o1777))
    return devices


class Processes(Directory):
    """``/proc``: a directory for each process, made when it is looked at."""

    def __init__(self, *, mounts: bytes = b"", no_new_privileges: bool = False) -> None:
        super().__init__(0o555)
        self.kernel: Kernel | None = None
        self._mounts = mounts
        self._no_new_privileges = no_new_privileges

    def names(self) -> list[str]:
        """List the processes and the few other files."""
        return [*map(str, self._tasks()), "self", "uptime", "mounts"]

    def get(self, name: str) -> Node | None:
        """Return one entry as it is now."""
        if name.isdigit():
            task = self._tasks().get(int(name))
            return self._process(task) if task else None
        if name == "self":
            return self._self()
        if name == "uptime" and self.kernel is not None:
            return File(f"{time.monotonic() - self.kernel.started:.2f} 0.00\n".encode(), 0o444)
        return File(self._mounts, 0o444) if name == "mounts" else None

    def make_file(self, name: str, permissions: int, owner: Identity) -> Node:
        """Nothing can be made here."""
        del permissions, owner
        raise fail(errno.EACCES, name)

    def make_directory(self, name: str, permissions: int, owner: Identity) -> Node:
        """Nothing can be made here."""
        del permissions, owner
        raise fail(errno.EACCES, name)

    def _tasks(self) -> dict[int, Task]:
        if self.kernel is None:
            return {}
        with self.kernel.lock:
            return dict(self.kernel.tasks)

    def _self(self) -> Node | None:
        task = self.kernel.current() if self.kernel is not None else None
        return Link(str(task.pid)) if task is not None else None

    def _process(self, task: Task) -> Directory:
        directory = Directory(0o555, task.who)
        name = task.argv[0].rpartition("/")[2][:15]
        parent = task.parent.pid if task.parent else 0
        status = (
            f"Name:\t{name}\nState:\tS (sleeping)\nTgid:\t{task.pid}\nPid:\t{task.pid}\nPPid:\t{parent}\n"
            f"Uid:\t{task.who.uid}\t{task.who.uid}\t{task.who.uid}\t{task.who.uid}\n"
            f"Gid:\t{task.who.gid}\t{task.who.gid}\t{task.who.gid}\t{task.who.gid}\n"
            f"CapEff:\t{_ALL_CAPABILITIES if task.who.uid == 0 else 0:016x}\n"
            f"NoNewPrivs:\t{int(self._no_new_privileges)}\n"
        )
        directory.put("cmdline", File(b"".join(_zero(word) for word in task.argv), 0o444, task.who))
        directory.put("comm", File(f"{name}\n".encode(), 0o444, task.who))
        directory.put("environ", File(b"".join(_zero(f"{k}={v}") for k, v in task.env.items()), 0o400, task.who))
        directory.put("stat", File(f"{task.pid} ({name}) S {parent} {task.group}\n".encode(), 0o444, task.who))
        directory.put("status", File(status.encode(), 0o444, task.who))
        directory.put("cwd", Link(task.cwd))
        return directory


def _zero(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape") + b"\0"
