"""Where each key of a JSON5 text stands: what the parser does not tell, and problems are to be found by.

This only looks at pieces, and stops at the first that it does not know: whether the text is JSON5 is for the parser to
say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import attrs

from oubliette_core.config.keypath import KeyPath

# Possessive quantifiers: no text makes this go back over what it has seen. (Not for comments: Python 3.11.2, that of
# Debian 12, gets wrong what they would need.)
_TOKEN = re.compile(
    r"""
      (?P<skip> [\s\ufeff]++ | //[^\n\r\u2028\u2029]*+ | /\*.*?\*/ )
    | (?P<string> "[^"\\]*+(?:\\.[^"\\]*+)*+" | '[^'\\]*+(?:\\.[^'\\]*+)*+' )
    | (?P<mark> [{}\[\]:,] )
    | (?P<word> [^\s{}\[\]:,"'/]++ )
    """,
    re.VERBOSE | re.DOTALL,
)


@attrs.frozen(kw_only=True)
class Positions:
    """What one look over a text tells.

    :param lines: the line, from 1, of each key and each list element.
    :param repeated: ``(path, line)`` of each key that its object has already.
    :param depth: how deep objects and lists are nested.
    """

    lines: dict[KeyPath, int]
    repeated: tuple[tuple[KeyPath, int], ...]
    depth: int

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, or of the nearest thing around it that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)


def find_positions(text: str, *, deepest: int) -> Positions:
    """Look over ``text`` until it ends, is nested deeper than ``deepest``, or makes no sense."""
    walk = _Walk()
    for kind, piece, line in _pieces(text):
        if kind != "mark":
            walk.value(kind, piece, line)
        elif piece in "{[":
            walk.open(piece, line)
            if walk.depth > deepest:
                break
        elif not walk.stack:
            break
        else:
            walk.mark(piece)
    return Positions(lines=walk.lines, repeated=tuple(walk.repeated), depth=walk.depth)


class _Walk:
    """Where a walk over the pieces is.

    The stack has one entry for each object or list around the place: the index in a list, the key in an object, or
    None in an object before its next key.
    """

    def __init__(self) -> None:
        self.stack: list[str | int | None] = []
        self.lines: dict[KeyPath, int] = {}
        self.repeated: list[tuple[KeyPath, int]] = []
        self.depth = 0

    def open(self, piece: str, line: int) -> None:
        self._element(line)
        self.stack.append(None if piece == "{" else 0)
        self.depth = max(self.depth, len(self.stack))

    def mark(self, piece: str) -> None:
        if piece in "}]":
            self.stack.pop()
        elif piece == ",":
            self.stack[-1] = self.stack[-1] + 1 if isinstance(self.stack[-1], int) else None

    def value(self, kind: str, piece: str, line: int) -> None:
        if self.stack and self.stack[-1] is None:
            self.stack[-1] = _key(kind, piece)
            path = self._path()
            if path in self.lines:
                self.repeated.append((path, line))
            self.lines[path] = line
        else:
            self._element(line)

    def _element(self, line: int) -> None:
        if self.stack and isinstance(self.stack[-1], int):
            self.lines[self._path()] = line

    def _path(self) -> KeyPath:
        return tuple(key for key in self.stack if key is not None)


def _pieces(text: str) -> Iterator[tuple[str, str, int]]:
    """Yield kind, text and line of each piece that is not space or comment."""
    line, position = 1, 0
    while match := _TOKEN.match(text, position):
        kind, piece = match.lastgroup or "skip", match[0]
        if kind != "skip":
            yield kind, piece, line
        line += piece.count("\n")
        position = match.end()


def _key(kind: str, piece: str) -> str:
    if kind == "word":
        return piece
    if piece.startswith('"'):
        try:
            return str(json.loads(piece))
        except ValueError:
            pass  # JSON5 knows more escapes than JSON; a key that uses them keeps them in its name here
    return piece[1:-1]
