"""Entering the sandbox from outside: its namespaces, and what of the machine is covered up in there."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from oubliette_embedded.supervisor import files, kernel
from oubliette_embedded.supervisor.files import ignored

__all__ = ["Namespaces", "apart", "cover", "offer"]

_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_HIDDEN = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
"""What the Open Container Initiative's runtimes hide, and the kernel's page tables, which belong to uid 0."""
_FIRST_TO_GO = b"200"
_HARMLESS = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


class Namespaces:
    """The namespaces of a process, held open so that they are the right ones for as long as this is.

    :param pid: its id. :raises OSError: it has ended, or is none of ours.
    """

    def __init__(self, pid: int) -> None:
        own = _number("self", "user")
        user = _open(pid, "user")
        self._users = kernel.ancestor_namespaces(user, own) if os.fstat(user).st_ino != own else [user]
        # The machine's own network, where a container has it, is one that we are in and may not join.
        kinds = [kind for kind in ("mnt", "pid", "net", "ipc", "uts") if _number(pid, kind) != _number("self", kind)]
        self._others = {kind: _open(pid, kind) for kind in kinds}

    def enter(self) -> None:
        """Join all but the innermost user namespace; this process's children will be in the pid namespace.

        From now on paths are those of the container, so nothing more can be imported: it would be the container's.
        """
        sys.meta_path.clear()
        sys.path.clear()
        kernel.setns(self._users[0])
        for namespace in self._others.values():
            kernel.setns(namespace)

    def descend(self) -> None:
        """Join the innermost user namespace, after `enter`."""
        for namespace in self._users[1:]:
            kernel.setns(namespace)

    def of_network(self) -> tuple[int, int]:
        """Return the descriptors of the network namespace's owner and of that namespace itself."""
        return self._users[0], self._others["net"]

    def holds(self, pid: str) -> bool:
        """Tell whether a process is in the pid namespace. :raises OSError: it has ended, or is somebody else's."""
        return _number(pid, "pid") == os.fstat(self._others["pid"]).st_ino

    def close(self) -> None:
        """Let them go."""
        for namespace in (*self._users, *self._others.values()):
            os.close(namespace)


def _number(process: int | str, kind: str) -> int:
    return os.stat(f"/proc/{process}/ns/{kind}").st_ino


def _open(pid: int, kind: str) -> int:
    return os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)


def apart(work: Callable[[], None]) -> int:
    """Do something in a process of its own and return its id; it ends with 0, or with 1 when the work failed."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
        os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(code)


def offer() -> None:
    """Have this process, and its children, killed before the supervisor when the machine's memory is short."""
    with ignored(OSError):
        files.write("/proc/self/oom_score_adj", _FIRST_TO_GO)


def cover(namespaces: Namespaces, *, own_network: bool) -> None:
    """Cover up what should not be seen or changed, before the first process of the image runs.

    :raises OSError: something could not be covered.
    """
    kernel.hide()
    namespaces.enter()
    with ignored(FileNotFoundError):
        files.write("/proc/sys/user/max_user_namespaces", b"0")
    if own_network:
        _own_sys()
    for path in _READ_ONLY:
        if os.path.lexists(path):
            kernel.mount(path, path, "", kernel.MS_BIND | kernel.MS_REC)
            kernel.mount("", path, "", kernel.MS_BIND | kernel.MS_REMOUNT | kernel.MS_RDONLY | _HARMLESS)
    for path in _HIDDEN:
        if os.path.isdir(path):
            kernel.mount("tmpfs", path, "tmpfs", kernel.MS_RDONLY | _HARMLESS, "size=0")
        elif os.path.lexists(path):
            kernel.mount("/dev/null", path, "", kernel.MS_BIND)


def _own_sys() -> None:
    """Mount a ``/sys`` that shows this network namespace; an empty one where the kernel does not allow that."""
    try:
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_RDONLY | _HARMLESS)
    except OSError:
        kernel.mount("tmpfs", "/sys", "tmpfs", kernel.MS_RDONLY | _HARMLESS, "size=0")
