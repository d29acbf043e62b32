"""What is known of a container's run: its processes while it runs, its end when it has ended.

A run is over as soon as its supervisor is: the supervisor holds a lock for life that the kernel lets go of with it.
"""

from __future__ import annotations

import fcntl
import os

__all__ = ["boot_id", "hold_life", "is_held", "start_time", "write_record"]

_WHOLE_FILE = b"\0" * 16
"""l_start and l_len of a ``struct flock``: from the beginning, to whatever end."""


def boot_id() -> str:
    """Return what tells one run of this machine from the next."""
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().strip().decode()


def start_time(pid: int) -> int:
    """Return when a process was started, in clock ticks since the machine was; 0 when there is none of this id.

    A process is known again by both: another that gets the same id was started later.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0


def hold_life(path: str) -> int:
    """Take the lock that says that this container has a supervisor; the descriptor holds it.

    The supervisor of the last run, which has written down its end already, may be about to let go of it. This kind of
    lock belongs to the process alone: what it forks, and may leave behind, does not have it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    fcntl.fcntl(descriptor, fcntl.F_SETLKW, _flock(fcntl.F_WRLCK))
    return descriptor


def is_held(path: str) -> bool:
    """Tell whether a process holds the lock, without touching it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _flock(fcntl.F_WRLCK))
    finally:
        os.close(descriptor)
    return answer[:2] != fcntl.F_UNLCK.to_bytes(2, "little")


def _flock(kind: int) -> bytes:
    """Return a ``struct flock``: l_type, l_whence, l_start, l_len, l_pid, with their padding."""
    return kind.to_bytes(2, "little") + bytes(6) + _WHOLE_FILE + bytes(8)


def write_record(directory: int, fields: dict[str, str | float | list[int]], *, durable: bool) -> None:
    """Replace the record of a container, so that it is the old or the new one at any moment.

    :param directory: descriptor of the container's. :param durable: return when it would survive a loss of power.
    """
    text = "{" + ", ".join(f'"{name}": {_json(value)}' for name, value in fields.items()) + "}\n"
    name = "run.json.new"
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        os.write(file, text.encode("ascii"))
        if durable:
            os.fsync(file)
    finally:
        os.close(file)
    os.rename(name, "run.json", src_dir_fd=directory, dst_dir_fd=directory)
    if durable:
        os.fsync(directory)


def _json(value: str | float | list[int]) -> str:
    """Write one of our own values: texts in here have no character that would need care."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else repr(value)
