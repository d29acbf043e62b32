"""Programs of the fake container that work on streams of bytes, each with the options that scripts use."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.redirect import open_path
from oubliette_core.testing.fake.streams import PIPE_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.testing.fake.kernel import Program, Task

__all__ = ["TEXT_TOOLS", "encode", "options", "read_lines", "unescape"]

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v", "e": "\x1b", "\\": "\\"}


def options(task: Task, flags: str = "", valued: str = "") -> tuple[dict[str, str], list[str]]:
    """Take the options apart: those in ``flags`` alone, those in ``valued`` with the value that follows.

    :returns: the options (value empty for a flag), and the operands.
    """
    words, found = list(task.argv[1:]), {}
    while words and words[0].startswith("-") and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            break
        letters = word[1:]
        if letters.isdigit() and "n" in valued:
            found["n"] = letters
            continue
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in valued:
                found[letter] = letters or (words.pop(0) if words else "")
                break
            if letter not in flags:
                task.complain(f"unrecognized option: {letter}")
                task.exit(1)
            found[letter] = ""
    return found, words


def unescape(text: str) -> tuple[bytes, bool]:
    r"""Replace backslash escapes; the flag tells that ``\c`` ended the output."""
    out = bytearray()
    position = 0
    for match in re.finditer(r"\\(c|[ntrabfve\\]|x[0-9a-fA-F]{1,2}|0?[0-7]{1,3})", text):
        out += encode(text[position : match.start()])
        position = match.end()
        escape = match[1]
        if escape == "c":
            return bytes(out), True
        if escape[0] == "x":
            out.append(int(escape[1:], 16))
        elif escape[0] in "01234567":
            out.append(int(escape, 8) & 0xFF)
        else:
            out += _ESCAPES[escape].encode()
    return bytes(out + encode(text[position:])), False


def encode(text: str) -> bytes:
    """Turn a word of a command line into the bytes that it is made of."""
    return text.encode("utf-8", "surrogateescape")


def _chunks(task: Task, names: list[str], status: list[int]) -> Iterator[bytes]:
    """Yield the content of files, or of standard input, in pieces; a file that cannot be read sets the status."""
    for name in names or ["-"]:
        if name == "-":
            yield from iter(task.read, b"")
            continue
        try:
            stream = open_path(task, name, "r")
        except OSError as error:
            status[0] = task.complain(f"{name}: {error.strerror}")
            continue
        try:
            yield from iter(lambda stream=stream: stream.read(PIPE_SIZE, task), b"")  # type: ignore[misc]
        finally:
            stream.close()


def read_lines(task: Task, names: list[str], status: list[int]) -> Iterator[bytes]:
    """Yield the lines of files, or of standard input, each with its end; see `_chunks` for ``status``."""
    rest = b""
    for chunk in _chunks(task, names, status):
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest


def _echo(task: Task) -> int:
    words, newline, escapes = list(task.argv[1:]), True, False
    while words and re.fullmatch("-[neE]+", words[0]):
        newline = newline and "n" not in words[0]
        escapes = escapes or "e" in words[0]
        words.pop(0)
    data, stopped = unescape(" ".join(words)) if escapes else (encode(" ".join(words)), False)
    task.write(data + (b"\n" if newline and not stopped else b""))
    return 0


def _printf(task: Task) -> int:
    if len(task.argv) < 2:
        return task.complain("usage: printf FORMAT [ARGUMENT...]")
    form, values = task.argv[1], list(task.argv[2:])
    while True:
        before = len(values)
        task.write(_formatted(form, values))
        if not values or len(values) == before:
            return 0


def _formatted(form: str, values: list[str]) -> bytes:
    out = b""
    for piece in re.split(r"(%[-+ 0#]*[0-9]*(?:\.[0-9]+)?[sdiuxXocfb%])", form):
        if not (piece.startswith("%") and len(piece) > 1):
            out += unescape(piece)[0]
        elif piece[-1] == "%":
            out += b"%"
        else:
            value = values.pop(0) if values else ""
            out += _conversion(piece, value)
    return out


def _conversion(piece: str, value: str) -> bytes:
    kind = piece[-1]
    if kind == "b":
        return unescape(value)[0]
    if kind == "c":
        return encode(value[:1])
    if kind == "s":
        return encode(piece % value)
    number = float(value or 0) if kind == "f" else int(value or "0", 0) if not value.lstrip("0") else int(value, 0)
    return encode(piece.replace("u", "d") % number)


def _cat(task: Task) -> int:
    _, names = options(task, "uv")
    status = [0]
    for chunk in _chunks(task, names, status):
        task.write(chunk)
    return status[0]


def _size(text: str) -> int:
    match = re.fullmatch(r"([+-]?[0-9]+)([bkKmMgG]?)(?:i?B)?", text)
    if match is None:
        raise ValueError(f"invalid number '{text}'")
    return int(match[1]) * {"": 1, "b": 512, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[match[2].lower()]


def _head(task: Task) -> int:
    found, names = options(task, "q", "nc")
    status = [0]
    if "c" in found:
        left = _size(found["c"])
        for chunk in _chunks(task, names, status):
            task.write(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                break
        return status[0]
    left = _size(found.get("n", "10"))
    if left:
        for line in read_lines(task, names, status):
            task.write(line)
            left -= 1
            if left <= 0:
                break
    return status[0]


def _tail(task: Task) -> int:
    found, names = options(task, "fFq", "nc")
    status = [0]
    if "c" in found:
        data = b"".join(_chunks(task, names, status))
        task.write(data[-abs(_size(found["c"])) :])
        return status[0]
    lines = list(read_lines(task, names, status))
    count = found.get("n", "10")
    first = int(count) - 1 if count.startswith("+") else max(0, len(lines) - abs(int(count)))
    task.write(b"".join(lines[first:]))
    while "f" in found or "F" in found:
        task.sleep(3600)
    return status[0]


def _wc(task: Task) -> int:
    found, names = options(task, "lwc")
    status, counts = [0], {"l": 0, "w": 0, "c": 0}
    for line in read_lines(task, names, status):
        counts["l"] += line.endswith(b"\n")
        counts["w"] += len(line.split())
        counts["c"] += len(line)
    wanted = [str(counts[letter]) for letter in "lwc" if letter in found or not found]
    task.write(" ".join(wanted + names) + "\n")
    return status[0]


def _characters(text: str) -> bytes:
    text = text.replace("[:upper:]", "A-Z").replace("[:lower:]", "a-z").replace("[:digit:]", "0-9")
    data, _ = unescape(text)
    out = bytearray()
    index = 0
    while index < len(data):
        if data[index + 1 : index + 2] == b"-" and index + 2 < len(data):
            out += bytes(range(data[index], data[index + 2] + 1))
            index += 3
        else:
            out.append(data[index])
            index += 1
    return bytes(out)


def _tr(task: Task) -> int:
    found, sets = options(task, "dsc")
    first = _characters(sets[0])
    if "c" in found:
        first = bytes(set(range(256)) - set(first))
    second = b"" if "d" in found or len(sets) < 2 else _characters(sets[1])
    table = bytes.maketrans(first, second.ljust(len(first), second[-1:])[: len(first)]) if second else None
    last = b""
    for chunk in iter(task.read, b""):
        data = chunk.translate(table, first if "d" in found else b"")
        if "s" in found:
            squeezed = second or first
            data = re.sub(b"([" + re.escape(squeezed) + b"])\\1+", rb"\1", data)
            data = data[1:] if data[:1] == last and last in squeezed and last else data
            last = data[-1:] or last
        task.write(data)
    return 0


def _seq(task: Task) -> int:
    _, words = options(task, "w")
    numbers = [int(word) for word in words]
    first, last = numbers[0] if len(numbers) > 1 else 1, numbers[-1]
    step = numbers[1] if len(numbers) == 3 else 1
    block: list[str] = []
    for number in range(first, last + (1 if step > 0 else -1), step):
        block.append(f"{number}\n")
        if len(block) == 4096:
            task.write("".join(block))
            block.clear()
    task.write("".join(block))
    return 0


def _yes(task: Task) -> int:
    line = encode(" ".join(task.argv[1:]) or "y") + b"\n"
    block = line * max(1, PIPE_SIZE // len(line))
    while True:
        task.write(block)


def _tee(task: Task) -> int:
    found, names = options(task, "ai")
    files = [open_path(task, name, "a" if "a" in found else "w") for name in names]
    for chunk in iter(task.read, b""):
        task.write(chunk)
        for stream in files:
            stream.write(chunk, task)
    for stream in files:
        stream.close()
    return 0


def _dd(task: Task) -> int:
    given = dict(word.split("=", 1) for word in task.argv[1:] if "=" in word)
    size, count = _size(given.get("bs", "512")), _size(given["count"]) if "count" in given else None
    source = open_path(task, given["if"], "r") if "if" in given else task.streams[0].share()
    target = open_path(task, given["of"], "w") if "of" in given else task.streams[1].share()
    blocks = copied = 0
    while count is None or blocks < count:
        data = source.read(size, task)
        if not data:
            break
        target.write(data, task)
        blocks, copied = blocks + 1, copied + len(data)
    source.close()
    target.close()
    if given.get("status") != "none":
        task.write(f"{blocks}+0 records in\n{blocks}+0 records out\n{copied} bytes copied\n", 2)
    return 0


def _digest(name: str) -> Program:
    def digest(task: Task) -> int:
        status = [0]
        for file in list(task.argv[1:]) or ["-"]:
            state = hashlib.new(name, usedforsecurity=False)
            for chunk in _chunks(task, [file], status):
                state.update(chunk)
            if not status[0]:
                task.write(f"{state.hexdigest()}  {file}\n")
        return status[0]

    return digest


def _base64(task: Task) -> int:
    found, names = options(task, "d", "w")
    status = [0]
    data = b"".join(_chunks(task, names, status))
    task.write(base64.b64decode(data) if "d" in found else base64.encodebytes(data))
    return status[0]


def _od(task: Task) -> int:
    found, names = options(task, "v", "AtN")
    del found
    status = [0]
    data = b"".join(_chunks(task, names, status))
    for start in range(0, len(data), 16):
        task.write("".join(f" {byte:02x}" for byte in data[start : start + 16]) + "\n")
    return status[0]


TEXT_TOOLS: dict[str, Program] = {
    "base64": _base64,
    "cat": _cat,
    "dd": _dd,
    "echo": _echo,
    "head": _head,
    "md5sum": _digest("md5"),
    "od": _od,
    "printf": _printf,
    "seq": _seq,
    "sha256sum": _digest("sha256"),
    "tail": _tail,
    "tee": _tee,
    "tr": _tr,
    "wc": _wc,
    "yes": _yes,
}
