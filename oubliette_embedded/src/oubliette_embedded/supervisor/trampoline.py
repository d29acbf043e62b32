"""The last step before a command of a container runs: a program of a few hundred bytes that executes it.

Whatever a process executes next can reach, while that happens, the file of the program that it was before, as
``/proc/self/exe``: an image whose ``/bin/sh`` is a link to that name gets hold of it, and may be able to write to it
(CVE-2019-5736). So no program of this machine ever executes a file of an image. What does is this one, which lies in
memory and cannot be changed. It also sees to it that the command inherits no other descriptors than its streams.

Its arguments are the paths at which the command may be, an empty word, and the command's argv. It begins by writing a
zero to descriptor 3, and waits for a byte on descriptor 4 if there is one. Descriptor 3 is closed when the command has
been executed. When it cannot be, the last error that was not "not found" is written there as one byte, or else that,
and the exit code is 127.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from oubliette_embedded.supervisor import kernel

__all__ = ["ABSENT", "DEFAULT_PATH", "GATE", "READY", "STATUS", "call", "trampoline"]

STATUS = 3
"""The descriptor on which it is told that it is there, and whether the command could be executed."""
GATE = 4
"""The descriptor on which it waits to be let go on, where it is open."""
READY = b"\0"
"""What is written to `STATUS` first."""
ABSENT = frozenset({2, 20})
"""Error numbers of a program that is not there, ENOENT and ENOTDIR: shells give 127 for it, and 126 for the others."""
DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where commands are looked for when there is no PATH."""

# close_range(3, ~0, CLOSE_RANGE_CLOEXEC); write(3, "", 1); read(4, ..., 1); find the empty word;
# for each path before it: execve(path, argv, envp); write(3, &error, 1); exit_group(127)
_X86_64 = """
b8b4010000     00: mov      $0x1b4,%eax
bf03000000     05: mov      $0x3,%edi
beffffffff     0a: mov      $0xffffffff,%esi
ba04000000     0f: mov      $0x4,%edx
0f05           14: syscall
4989e6         16: mov      %rsp,%r14
6a00           19: push     $0x0
b801000000     1b: mov      $0x1,%eax
bf03000000     20: mov      $0x3,%edi
4889e6         25: mov      %rsp,%rsi
ba01000000     28: mov      $0x1,%edx
0f05           2d: syscall
31c0           2f: xor      %eax,%eax
bf04000000     31: mov      $0x4,%edi
0f05           36: syscall
498b0e         38: mov      (%r14),%rcx
4d8d64ce10     3b: lea      0x10(%r14,%rcx,8),%r12
498d5e10       40: lea      0x10(%r14),%rbx
4889dd         44: mov      %rbx,%rbp
488b4500       47: mov      0x0(%rbp),%rax
4883c508       4b: add      $0x8,%rbp
803800         4f: cmpb     $0x0,(%rax)
75f3           52: jne      47
41bd02000000   54: mov      $0x2,%r13d
488b3b         5a: mov      (%rbx),%rdi
4883c308       5d: add      $0x8,%rbx
803f00         61: cmpb     $0x0,(%rdi)
741e           64: je       84
4889ee         66: mov      %rbp,%rsi
4c89e2         69: mov      %r12,%rdx
b83b000000     6c: mov      $0x3b,%eax
0f05           71: syscall
f7d8           73: neg      %eax
83f802         75: cmp      $0x2,%eax
74e0           78: je       5a
83f814         7a: cmp      $0x14,%eax
74db           7d: je       5a
4189c5         7f: mov      %eax,%r13d
ebd6           82: jmp      5a
4155           84: push     %r13
b801000000     86: mov      $0x1,%eax
bf03000000     8b: mov      $0x3,%edi
4889e6         90: mov      %rsp,%rsi
ba01000000     93: mov      $0x1,%edx
0f05           98: syscall
b8e7000000     9a: mov      $0xe7,%eax
bf7f000000     9f: mov      $0x7f,%edi
0f05           a4: syscall
"""
_AARCH64 = """
883680d2       00: mov      x8, #0x1b4
600080d2       04: mov      x0, #0x3
01008012       08: mov      w1, #0xffffffff
820080d2       0c: mov      x2, #0x4
010000d4       10: svc      #0x0
f7030091       14: mov      x23, sp
ff0f1ff8       18: str      xzr, [sp, #-16]!
080880d2       1c: mov      x8, #0x40
600080d2       20: mov      x0, #0x3
e1030091       24: mov      x1, sp
220080d2       28: mov      x2, #0x1
010000d4       2c: svc      #0x0
e80780d2       30: mov      x8, #0x3f
800080d2       34: mov      x0, #0x4
010000d4       38: svc      #0x0
e30240f9       3c: ldr      x3, [x23]
f30e038b       40: add      x19, x23, x3, lsl #3
73420091       44: add      x19, x19, #0x10
f4420091       48: add      x20, x23, #0x10
f50314aa       4c: mov      x21, x20
a38640f8       50: ldr      x3, [x21], #8
63004039       54: ldrb     w3, [x3]
c3ffff35       58: cbnz     w3, 50
560080d2       5c: mov      x22, #0x2
808640f8       60: ldr      x0, [x20], #8
03004039       64: ldrb     w3, [x0]
83010034       68: cbz      w3, 98
e10315aa       6c: mov      x1, x21
e20313aa       70: mov      x2, x19
a81b80d2       74: mov      x8, #0xdd
010000d4       78: svc      #0x0
e00300cb       7c: neg      x0, x0
1f0800f1       80: cmp      x0, #0x2
e0feff54       84: b.eq     60
1f5000f1       88: cmp      x0, #0x14
a0feff54       8c: b.eq     60
f60300aa       90: mov      x22, x0
f3ffff17       94: b        60
f60f1ff8       98: str      x22, [sp, #-16]!
080880d2       9c: mov      x8, #0x40
600080d2       a0: mov      x0, #0x3
e1030091       a4: mov      x1, sp
220080d2       a8: mov      x2, #0x1
010000d4       ac: svc      #0x0
c80b80d2       b0: mov      x8, #0x5e
e00f80d2       b4: mov      x0, #0x7f
010000d4       b8: svc      #0x0
"""
_PROGRAMS = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}
"""By machine: its number in an ELF header, and the program as it is printed by a disassembler."""
_ADDRESS = 0x400000


def call(argv: Sequence[bytes], env: Mapping[bytes, bytes]) -> list[bytes]:
    """Return the arguments that have it execute a command, looked for as execvp(3) does."""
    name = argv[0]
    directories = env.get(b"PATH", DEFAULT_PATH).split(b":")
    paths = [name] if b"/" in name else [(directory or b".") + b"/" + name for directory in directories]
    return [*paths, b"", *argv]


def trampoline(machine: str) -> int:
    """Put the program into memory; a descriptor that can be executed, and that nobody can write to.

    :param machine: as ``uname -m`` prints it.
    """
    descriptor = os.memfd_create("oubliette", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, _elf(*_PROGRAMS[machine]))
    kernel.seal(descriptor)
    return descriptor


def _elf(machine: int, listing: str) -> bytes:
    """Return an executable file: an ELF header, one segment that is the whole file, and the program."""
    code = bytes.fromhex("".join(line.split(maxsplit=1)[0] for line in listing.strip().split("\n")))
    start = 64 + 56
    header = [
        b"\x7fELF\x02\x01\x01" + bytes(9),
        *(_number(2, 2), _number(machine, 2), _number(1, 4), _number(_ADDRESS + start, 8)),  # what it is; entry point
        *(_number(64, 8), _number(0, 8), _number(0, 4)),  # where the segments are listed; no sections; flags
        *(_number(size, 2) for size in (64, 56, 1, 64, 0, 0)),
    ]
    size = start + len(code)
    segment = [
        *(_number(1, 4), _number(5, 4), _number(0, 8)),  # load, readable and executable, from the start of the file
        *(_number(number, 8) for number in (_ADDRESS, _ADDRESS, size, size, 4096)),
    ]
    return b"".join([*header, *segment, code])


def _number(value: int, size: int) -> bytes:
    return value.to_bytes(size, "little")
