"""Programs of the fake container that choose, order and change lines, each with the options that scripts use."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.tools_text import encode, options, read_lines

if TYPE_CHECKING:
    from oubliette_core.testing.fake.kernel import Program, Task

__all__ = ["LINE_TOOLS"]


def _sort(task: Task) -> int:
    found, names = options(task, "nru", "kt")
    status = [0]
    lines = [line.rstrip(b"\n") for line in read_lines(task, names, status)]
    key: Callable[[bytes], object] | None = None
    if "n" in found:
        key = _number
    ordered = sorted(lines, key=key, reverse="r" in found)  # type: ignore[arg-type]
    if "u" in found:
        ordered = list(dict.fromkeys(ordered))
    task.write(b"".join(line + b"\n" for line in ordered))
    return status[0]


def _number(line: bytes) -> tuple[int, bytes]:
    match = re.match(rb"\s*(-?[0-9]+)", line)
    return (int(match[1]) if match else 0, line)


def _uniq(task: Task) -> int:
    found, names = options(task, "c")
    status, last, count = [0], None, 0
    for line in [*read_lines(task, names, status), None]:
        if line == last:
            count += 1
            continue
        if last is not None:
            task.write((b"%7d " % count if "c" in found else b"") + last)
        last, count = line, 1
    return status[0]


def _cut(task: Task) -> int:
    found, names = options(task, "s", "dfc")
    status = [0]
    delimiter = encode(found.get("d", "\t"))
    for line in read_lines(task, names, status):
        text = line.rstrip(b"\n")
        if "c" in found:
            parts = [text[index : index + 1] for index in range(len(text))]
            task.write(b"".join(_ranges(parts, found["c"])) + b"\n")
        elif delimiter in text:
            task.write(delimiter.join(_ranges(text.split(delimiter), found["f"])) + b"\n")
        elif "s" not in found:
            task.write(text + b"\n")
    return status[0]


def _ranges(parts: list[bytes], text: str) -> list[bytes]:
    chosen: set[int] = set()
    for piece in text.split(","):
        first, dash, last = piece.partition("-")
        start = int(first or 1)
        chosen.update(range(start, int(last or len(parts)) + 1 if dash else start + 1))
    return [part for number, part in enumerate(parts, 1) if number in chosen]


def _grep(task: Task) -> int:
    found, words = options(task, "qvciFExlonsah", "em")
    pattern = found["e"] if "e" in found else words.pop(0)
    text = re.escape(pattern) if "F" in found else pattern if "E" in found else _basic(pattern)
    text = f"(?:{text})\\Z" if "x" in found else text
    regex = re.compile(encode(text), re.IGNORECASE if "i" in found else 0)
    status, count = [0], 0
    for number, line in enumerate(read_lines(task, words, status), 1):
        content = line.rstrip(b"\n")
        hit = (regex.match if "x" in found else regex.search)(content)
        if (hit is not None) == ("v" in found):
            continue
        count += 1
        if "q" in found or "l" in found:
            break
        if "c" not in found:
            shown = hit[0] if "o" in found and hit else content
            task.write((b"%d:" % number if "n" in found else b"") + shown + b"\n")
    if "c" in found:
        task.write(f"{count}\n")
    if "l" in found and count:
        task.write(f"{words[0] if words else '(standard input)'}\n")
    return 2 if status[0] and "q" not in found and not count else int(count == 0)


def _basic(pattern: str) -> str:
    """Translate a basic regular expression: there ``+ ? ( ) { } |`` are plain unless escaped."""
    return re.sub(r"\\?[+?(){}|]", lambda match: match[0][1:] if match[0][0] == "\\" else "\\" + match[0], pattern)


def _sed(task: Task) -> int:
    found, words = options(task, "nErs", "e")
    script = found["e"] if "e" in found else words.pop(0)
    extended = "E" in found or "r" in found
    status = [0]
    commands = [_sed_command(each, extended) for each in re.split(r"[;\n]", script) if each.strip()]
    for number, line in enumerate(read_lines(task, words, status), 1):
        content, deleted = line.rstrip(b"\n"), False
        for command in commands:
            content, shown, deleted = command(content, number)
            if shown:
                task.write(content + b"\n")
            if deleted:
                break
        if not deleted and "n" not in found:
            task.write(content + b"\n")
    return status[0]


_SedCommand = Callable[[bytes, int], tuple[bytes, bool, bool]]


def _sed_command(text: str, extended: bool) -> _SedCommand:
    match = re.fullmatch(r"\s*(?:([0-9]+)(?:,([0-9]+))?|/((?:[^/\\]|\\.)*)/)?\s*(s(.).*|p|d)\s*", text)
    if match is None:
        raise ValueError(f"unsupported command '{text}'")
    first, last, address, action, separator = match.groups()
    translate = (lambda pattern: pattern) if extended else _basic
    regex = re.compile(encode(translate(address))) if address else None

    def applies(line: bytes, number: int) -> bool:
        if first:
            return int(first) <= number <= int(last or first)
        return regex is None or regex.search(line) is not None

    if action in ("p", "d"):
        return lambda line, number: (
            line,
            action == "p" and applies(line, number),
            action == "d" and applies(line, number),
        )
    pieces = re.split(rf"(?<!\\){re.escape(separator)}", action)
    wanted = re.compile(encode(translate(pieces[1])))
    replacement = encode(re.sub(r"(?<!\\)&", r"\\g<0>", pieces[2]).replace(r"\&", "&"))

    def substitute(line: bytes, number: int) -> tuple[bytes, bool, bool]:
        if not applies(line, number):
            return line, False, False
        changed, count = wanted.subn(replacement, line, count=0 if "g" in pieces[3] else 1)
        return changed, bool(count) and "p" in pieces[3], False

    return substitute


LINE_TOOLS: dict[str, Program] = {
    "cut": _cut,
    "egrep": _grep,
    "grep": _grep,
    "sed": _sed,
    "sort": _sort,
    "uniq": _uniq,
}
