"""Where a value stands in the configuration: ``containers.ml.pull``.

In the code a path is a tuple of keys; list elements have their index. In text a key that is more than letters,
digits, ``_`` and ``-`` stands in double quotes, as TOML has it: ``registries.mirrors."docker.io"``.
"""

from __future__ import annotations

import json
import re
from typing import TypeAlias

KeyPath: TypeAlias = "tuple[str | int, ...]"

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_KEY = re.compile(rf"(?P<plain>{_PLAIN.pattern})|(?P<quoted>{_QUOTED})|\[(?P<index>[0-9]{{1,6}})\]")


def format_path(path: KeyPath) -> str:
    """Return ``path`` as text; the empty path is the whole configuration."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            text += "." * bool(text) + (key if _PLAIN.fullmatch(key) else printable(key))
    return text


def printable(value: object) -> str:
    """Return ``value`` as JSON that does nothing to a terminal: what cannot be printed is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value)


def parse_path(text: str) -> KeyPath:
    """Return the path that ``text`` stands for; `format_path` undone.

    :raises ValueError: it is not of that form.
    """
    path: list[str | int] = []
    position = 0
    while position < len(text):
        match = _KEY.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a path such as containers.ml.pull")
        path.append(_key(match))
        position = match.end()
        if text[position : position + 1] == "." and position + 1 < len(text):
            position += 1
        elif position < len(text) and text[position] != "[":
            raise ValueError(f"{text!r} is not a path such as containers.ml.pull")
    return tuple(path)


def _key(match: re.Match[str]) -> str | int:
    if match["index"] is not None:
        return int(match["index"])
    return match["plain"] if match["quoted"] is None else str(json.loads(match["quoted"]))
