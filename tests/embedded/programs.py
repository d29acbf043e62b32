"""Programs of a few bytes that make one system call and end with the error's number, or 0: what no shell can try."""

from __future__ import annotations

import os
import struct

_BASE = 0x400000
_HEADERS = 64 + 56
_X86_64, _AARCH64 = 62, 183


def system_call(number: int, *arguments: int | bytes) -> bytes:
    """Return such a program for this machine. :param arguments: numbers, or texts that a pointer is given to."""
    words = [*arguments, *[0] * (6 - len(arguments))]
    texts = [word + b"\0" for word in words if isinstance(word, bytes)]
    machine, assemble = (_X86_64, _for_x86_64) if os.uname().machine == "x86_64" else (_AARCH64, _for_aarch64)
    at = _BASE + _HEADERS + len(assemble(number, [0] * 6))
    numbers = []
    for word in words:
        numbers.append(at if isinstance(word, bytes) else word & (2**64 - 1))
        at += len(texts.pop(0)) if isinstance(word, bytes) else 0
    code = assemble(number, numbers) + b"".join(word + b"\0" for word in words if isinstance(word, bytes))
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    return header + struct.pack("<IIQQQQQQ", 1, 7, 0, _BASE, _BASE, size, size, 4096) + code


def _for_x86_64(number: int, arguments: list[int]) -> bytes:
    registers = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")  # movabs to rdi ... r9
    loads = b"".join(code + struct.pack("<Q", word) for code, word in zip(registers, arguments, strict=True))
    # mov number,%eax; syscall; then exit_group with what was negative turned round: neg %eax; mov %eax,%edi
    call = b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"
    # What is positive is a result and no error: test %eax,%eax; js +2; xor %eax,%eax
    return loads + call + b"\x85\xc0\x78\x02\x31\xc0\xf7\xd8\x89\xc7\xb8" + struct.pack("<I", 231) + b"\x0f\x05"


def _for_aarch64(number: int, arguments: list[int]) -> bytes:
    loads = b"".join(_load(register, word) for register, word in enumerate(arguments))
    # svc #0; cmp x0, #0; csneg x0, xzr, x0, ge; mov x8, #94; svc #0
    end = (0xD4000001, 0xF100001F, 0xDA80A7E0, 0xD2800BC8, 0xD4000001)
    return loads + _load(8, number) + b"".join(struct.pack("<I", word) for word in end)


def _load(register: int, word: int) -> bytes:
    """Put a number into a register, 16 bits at a time: movz, and three movk."""
    parts = [word >> shift & 0xFFFF for shift in (0, 16, 32, 48)]
    codes = [0xD2800000, 0xF2A00000, 0xF2C00000, 0xF2E00000]
    return b"".join(struct.pack("<I", code | part << 5 | register) for code, part in zip(codes, parts, strict=True))
