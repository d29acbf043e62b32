"""Calls to the Linux kernel for which Python 3.11 has no function."""

from __future__ import annotations

import ctypes
import os
from _socket import AF_INET, SOCK_DGRAM, socket

__all__ = [
    "CLONE_NEWCGROUP",
    "CLONE_NEWNET",
    "CLONE_NEWNS",
    "CLONE_NEWUSER",
    "MS_BIND",
    "MS_NODEV",
    "MS_NOEXEC",
    "MS_NOSUID",
    "MS_RDONLY",
    "MS_REC",
    "MS_REMOUNT",
    "SIGKILL",
    "ancestor_namespaces",
    "become",
    "die_with_parent",
    "drop_capabilities",
    "filter_system_calls",
    "forbid_new_privileges",
    "hide",
    "mount",
    "open_terminal",
    "reap_orphans",
    "reset_signals",
    "seal",
    "send_signal",
    "setns",
    "start_loopback",
    "unshare",
]

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
SIGKILL = 9

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63
_NS_GET_PARENT = 0xB702
_TIOCGPTPEER = 0x5441
_TIOCSPTLCK = 0x40045431
_DEVPTS_SUPER_MAGIC = 0x1CD1
_F_ADD_SEALS = 1033
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_SIGNALS = 64
_SIG_SETMASK = 2
_ALL_SEALS = 0x000F
# The same numbers on every architecture.
_SYS_PIDFD_SEND_SIGNAL = 424
# These are not.
_SYS_CAPSET, _SYS_SECCOMP = {"x86_64": (126, 317), "aarch64": (91, 277)}.get(os.uname().machine, (-1, -1))

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    result: int = getattr(_libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def _prctl(option: int, argument: int = 0) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero)


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies.

    :param parent: the parent's process id. :raises OSError: it has died already.
    """
    _prctl(_PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent:
        raise OSError(3, "the parent has ended")


def hide() -> None:
    """Keep processes of the container from looking into this one while it enters it."""
    _prctl(_PR_SET_DUMPABLE, 0)


def reap_orphans() -> None:
    """Become the parent of descendants whose parents end."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def setns(descriptor: int, kind: int = 0) -> None:
    """Join a namespace; see the manual."""
    _call("setns", descriptor, kind)


def unshare(flags: int) -> None:
    """Leave namespaces for new ones; see the manual."""
    _call("unshare", flags)


def start_loopback() -> None:
    """Let a new network namespace reach itself; the kernel gives the device its addresses when it is up."""
    request = b"lo".ljust(16, b"\0") + _IFF_UP.to_bytes(2, "little") + bytes(22)  # struct ifreq
    device = socket(AF_INET, SOCK_DGRAM)
    _call("ioctl", device.fileno(), ctypes.c_ulong(_SIOCSIFFLAGS), request)
    device.close()


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount a file system; see the manual."""
    words = [os.fsencode(word) for word in (source, target, kind)]
    _call("mount", *words, ctypes.c_ulong(flags), os.fsencode(options) or None)


def ancestor_namespaces(namespace: int, own: int) -> list[int]:
    """Open the user namespaces between this process's own and another, outermost first, that one last.

    :param namespace: descriptor of the other. :param own: inode number of this process's own.
    """
    chain = [namespace]
    while True:
        parent = _call("ioctl", chain[0], ctypes.c_ulong(_NS_GET_PARENT))
        if os.fstat(parent).st_ino == own:
            os.close(parent)
            return chain
        chain.insert(0, parent)


def send_signal(process: int, number: int) -> None:
    """Send a signal to a process.

    :param process: descriptor of it (pidfd), so that it cannot be another by now. :raises OSError: it has ended.
    """
    _call("syscall", ctypes.c_long(_SYS_PIDFD_SEND_SIGNAL), process, number, None, 0)


def drop_capabilities(kept: int) -> None:
    """Keep no capability, for good, but those of a mask; this process has them until it becomes another user."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(_LAST_CAPABILITY + 1):
        if not kept >> number & 1:
            try:
                _prctl(_PR_CAPBSET_DROP, number)
            except OSError:
                break  # the kernel has no more of them


def become(uid: int, gid: int, groups: list[int] | None, capabilities: int) -> None:
    """Become another user, with these capabilities where that is uid 0 and with none otherwise.

    :param groups: supplementary groups; None where the user namespace does not allow to set any.
    """
    if groups is not None:
        os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    mask = capabilities if uid == 0 else 0
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)
    _call("syscall", ctypes.c_long(_SYS_CAPSET), header, sets)


def forbid_new_privileges() -> None:
    """Make setuid bits and file capabilities worthless for this process and whatever it executes."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def filter_system_calls(program: bytes) -> None:
    """Let this process, and whatever it executes, make only the system calls that a program of seccomp(2) allows."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

    whole = Program(len(program) // 8, program)
    _call("syscall", ctypes.c_long(_SYS_SECCOMP), 1, 0, ctypes.byref(whole))


def open_terminal() -> tuple[int, int]:
    """Open a new terminal of the container that this process has entered; its master and its slave.

    What lies at that path is the container's to decide, so the file has to be what it is taken for.

    :raises OSError: there is no such file system.
    """
    master = os.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    device = os.fstat(master).st_rdev
    buffer = (ctypes.c_long * 64)()
    _call("fstatfs", master, buffer)
    if (os.major(device), os.minor(device)) != (5, 2) or buffer[0] != _DEVPTS_SUPER_MAGIC:
        raise OSError(25, "/dev/pts/ptmx is not a terminal")
    os.set_blocking(master, True)
    _call("ioctl", master, ctypes.c_ulong(_TIOCSPTLCK), ctypes.byref(ctypes.c_int(0)))
    slave = _call("ioctl", master, ctypes.c_ulong(_TIOCGPTPEER), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    return master, slave


def reset_signals() -> None:
    """Have every signal do what it does by default, and block none: Python ignores some, and so may its parents."""
    for number in range(1, _SIGNALS + 1):
        _libc.signal(number, None)  # fails for those that cannot be changed
    _call("sigprocmask", _SIG_SETMASK, (ctypes.c_ulong * 16)(), None)


def seal(descriptor: int) -> None:
    """Make a file in memory unchangeable."""
    _call("fcntl", descriptor, _F_ADD_SEALS, _ALL_SEALS)
