"""Which system calls the processes of a container can make: a program of seccomp(2), for the kernel to run.

It follows the profile that Docker applies: what reaches into the kernel beyond what a program needs (mounting,
namespaces, keys, tracing, modules, clocks, raw device access) answers "not permitted". What is newer than this list
answers that it does not exist, as does ``clone3``, whose flags cannot be looked at. Programs for another architecture
than the machine's are killed, because numbers mean other calls there.

The bindings of libseccomp need that library on the machine, which is there on few; the program is short enough.
"""

from __future__ import annotations

import errno
import functools
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FORBIDDEN", "seccomp_program"]

FORBIDDEN: dict[str, tuple[int | None, int | None]] = {
    "_sysctl": (156, None),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "set_mempolicy": (238, 237),
    "set_mempolicy_home_node": (450, 450),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "uselib": (134, None),
    "userfaultfd": (323, 282),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
"""By name: the number on x86_64 and on aarch64; None where there is no such call."""

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Place in the table, and the kernel's number of the architecture (``AUDIT_ARCH_*`` in linux/audit.h)."""
_CLONE, _CLONE3, _UNSHARE, _PERSONALITY, _SOCKET, _IOCTL = (
    (56, 220),
    (435, 435),
    (272, 97),
    (135, 92),
    (41, 198),
    (16, 29),
)
_NEWEST = 469
_X32 = 0x40000000
"""Calls with this bit are those of another interface of the same processor."""
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW* of sched.h, without CLONE_NEWTIME's bit in ``clone``, where it is part of the exit signal."""
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""What personality(2) may be asked: Linux, with 32-bit addresses or not, with an old version number or not; nothing."""
_AF_VSOCK = 40
_INTO_TERMINAL = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX: they type into a terminal."""

# linux/bpf_common.h and linux/seccomp.h
_LOAD, _EQUALS, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16


@functools.cache
def seccomp_program(machine: str = "") -> bytes:
    """Return the program for a machine. :param machine: as ``uname -m`` prints it; this one when empty."""
    place, architecture = _MACHINES[machine or os.uname().machine]
    return b"".join(_instructions(place, architecture))


def _instructions(place: int, architecture: int) -> Iterator[bytes]:
    yield _instruction(_LOAD, _ARCHITECTURE)
    yield from _unless(_EQUALS, architecture, _KILL)
    yield _instruction(_LOAD, _NUMBER)
    yield from _when(_AT_LEAST, _X32 if place == 0 else 0x7FFFFFFF, _ERROR | errno.ENOSYS)
    yield from _when(_AT_LEAST, _NEWEST + 1, _ERROR | errno.ENOSYS)
    yield from _when(_EQUALS, _CLONE3[place], _ERROR | errno.ENOSYS)
    for numbers in FORBIDDEN.values():
        number = numbers[place]
        if number is not None:
            yield from _when(_EQUALS, number, _ERROR | errno.EPERM)
    yield from _argument(_CLONE[place], 0, _when(_ANY_OF, _NEW_NAMESPACES & ~0xFF, _ERROR | errno.EPERM))
    yield from _argument(_UNSHARE[place], 0, _when(_ANY_OF, _NEW_NAMESPACES, _ERROR | errno.EPERM))
    yield from _argument(_SOCKET[place], 0, _when(_EQUALS, _AF_VSOCK, _ERROR | errno.EAFNOSUPPORT))
    typing = [part for number in _INTO_TERMINAL for part in _when(_EQUALS, number, _ERROR | errno.EPERM)]
    yield from _argument(_IOCTL[place], 1, typing)
    allowed = [part for number in _PERSONALITIES for part in _when(_EQUALS, number, _ALLOW)]
    refused = [*allowed, _instruction(_RETURN, _ERROR | errno.EPERM)]
    yield from _argument(_PERSONALITY[place], 0, refused)
    yield _instruction(_RETURN, _ALLOW)


def _argument(call: int, position: int, rules: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
    """Look at the lower half of an argument of one call; the number of the call is loaded before and after."""
    body = [_instruction(_LOAD, _ARGUMENTS + 8 * position), *rules, _instruction(_LOAD, _NUMBER)]
    yield _instruction(_EQUALS, call, if_not=len(body))
    yield from body


def _when(test: int, value: int, answer: int) -> Iterator[bytes]:
    yield _instruction(test, value, if_not=1)
    yield _instruction(_RETURN, answer)


def _unless(test: int, value: int, answer: int) -> Iterator[bytes]:
    yield _instruction(test, value, if_so=1)
    yield _instruction(_RETURN, answer)


def _instruction(code: int, value: int, *, if_so: int = 0, if_not: int = 0) -> bytes:
    """Return one ``struct sock_filter``: code, how far to jump either way, and a value."""
    return code.to_bytes(2, "little") + bytes([if_so, if_not]) + value.to_bytes(4, "little")
