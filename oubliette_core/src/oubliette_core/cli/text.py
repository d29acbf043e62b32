"""How values look to people and to programs. Nothing here prints."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs


def printable(text: str) -> str:
    """Return ``text`` as one line that no terminal acts on: control, format and unpaired characters are escaped.

    Names and messages come from containers, registries and engines, and an escape sequence in them could rewrite
    the screen or the title of the window.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def last_lines(output: bytes | str, count: int = 20) -> list[str]:
    """Return the last lines of what a process printed, each made `printable`."""
    text = output.decode(errors="backslashreplace") if isinstance(output, bytes) else output
    return [printable(line.expandtabs()) for line in text.splitlines()[-count:]]


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table."""
    cells = [list(headings), *([cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["   ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


def cell(value: object) -> str:
    """Return a value as it stands in a table; None and nothing are a dash."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return age(value)
    return "-" if value is None or value == "" else printable(str(value))


def size(count: float) -> str:
    """Return a number of bytes as people read it: ``34.1 MB``, in steps of 1000 as registries and disks count."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.95:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def age(moment: datetime, now: datetime | None = None) -> str:
    """Return how long ago ``moment`` was, in its largest unit: ``3 minutes ago``."""
    seconds = max(0, int(((now or datetime.now(UTC)) - moment).total_seconds()))
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now" if seconds < 5 else f"{seconds} seconds ago"


def plural(count: int, noun: str) -> str:
    """Return ``1 project`` or ``2 projects``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def plain(value: Any) -> Any:
    """Return ``value`` as JSON has it: attrs classes and mappings as objects, times in ISO 8601, the rest as text."""
    if attrs.has(type(value)):
        value = {field.name: getattr(value, field.name) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = [plain(item) for item in value]
        return items if isinstance(value, list | tuple) else sorted(items)
    return _scalar(value)


def _scalar(value: object) -> object:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if value is None or isinstance(value, bool | int | float) else str(value)
