"""Changing one value in a JSON file with comments, and nothing else in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from oubliette_core.errors import InvalidValueError

# Possessive quantifiers: no text makes this go back over what it has seen.
_TOKEN = re.compile(
    r"""
      (?P<skip> [\s\ufeff]++ | //[^\n\r]*+ | /\*(?s:.*?)\*/ )
    | (?P<string> "[^"\\\n]*+(?:\\.[^"\\\n]*+)*+" )
    | (?P<mark> [{}\[\]:,] )
    | (?P<word> [^\s{}\[\]:,"'/]++ )
    """,
    re.VERBOSE,
)
_DEEPEST = 100


@attrs.frozen(kw_only=True)
class _Node:
    """A value: where it begins and ends in the text, and the values in it if it is an object.

    :param last: where the last token before the closing brace ends. :param trailing: it is a comma.
    """

    start: int
    end: int
    is_object: bool = False
    members: Mapping[str, _Node] = attrs.field(factory=dict)
    last: int = 0
    trailing: bool = False


def put(text: str, path: Sequence[str], value: Any) -> str:
    """Return ``text`` with the value at ``path`` set, objects on the way to it made where they are missing.

    :param path: keys, from the outermost object inwards.
    :raises InvalidValueError: the text is not JSON, with or without comments and trailing commas, or something on the
        way is not an object.
    """
    if not text.strip("\ufeff \t\r\n"):
        text = "{}\n"
    node = _Reader(text).read()
    for depth, key in enumerate(path):
        if not node.is_object:
            raise InvalidValueError(f"{'.'.join(path[:depth]) or 'the whole'} is not an object")
        if key not in node.members:
            for inner in reversed(path[depth + 1 :]):
                value = {inner: value}
            return _insert(text, node, key, value)
        node = node.members[key]
    return text[: node.start] + _render(value, text, _indent_at(text, node.start)) + text[node.end :]


def keys_at(text: str, path: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of the object at ``path``; none where there is no such object."""
    if not text.strip("\ufeff \t\r\n"):
        return ()
    node = _Reader(text).read()
    for key in path:
        if key not in node.members:
            return ()
        node = node.members[key]
    return tuple(node.members)


def _insert(text: str, node: _Node, key: str, value: Any) -> str:
    closing = node.end - 1
    outer = _indent_at(text, node.start)
    inner = outer + _unit(text)
    if node.members:
        inner = _indent_at(text, min(member.start for member in node.members.values())) or inner
    before = (
        text[: node.last] + ("," if node.members and not node.trailing else "") + text[node.last : closing].rstrip()
    )
    space = text[closing - (len(text[:closing]) - len(text[:closing].rstrip())) : closing]
    after = space if "\n" in space else f"\n{outer}"
    return f"{before}\n{inner}{json.dumps(key)}: {_render(value, text, inner)}{after}{text[closing:]}"


def _render(value: Any, text: str, indent: str) -> str:
    lines = json.dumps(value, indent=_unit(text), ensure_ascii=False).split("\n")
    return f"\n{indent}".join(lines)


def _unit(text: str) -> str:
    """Return what the text is indented with."""
    match = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return match[1] if match else "  "


def _indent_at(text: str, position: int) -> str:
    """Return the indent of the line that a position is in."""
    line = text[text.rfind("\n", 0, position) + 1 : position]
    return line[: len(line) - len(line.lstrip(" \t"))]


class _Reader:
    """Reads a text into nodes."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._previous_end = 0
        self._depth = 0
        self._advance()

    def read(self) -> _Node:
        """Return the one value of the text."""
        node = self._value()
        if self._kind:
            raise self._wrong()
        return node

    def _advance(self) -> None:
        self._previous_end = self._position
        while True:
            match = _TOKEN.match(self._text, self._position)
            if match is None:
                if self._position < len(self._text):
                    self._kind = "unknown"
                    raise self._wrong()
                self._kind = self._piece = ""
                self._start = self._position
                return
            self._start, self._position = match.start(), match.end()
            if match.lastgroup != "skip":
                self._kind, self._piece = match.lastgroup or "", match[0]
                return

    def _value(self) -> _Node:
        start = self._start
        if self._piece in ("{", "["):
            self._depth += 1
            if self._depth > _DEEPEST:
                raise self._wrong()
            node = self._object(start) if self._piece == "{" else self._list(start)
            self._depth -= 1
            return node
        if self._kind not in ("string", "word"):
            raise self._wrong()
        end = self._position
        self._advance()
        return _Node(start=start, end=end)

    def _object(self, start: int) -> _Node:
        members: dict[str, _Node] = {}
        last, trailing = self._position, False
        self._advance()
        while self._piece != "}":
            if self._kind != "string" or (members and not trailing):
                raise self._wrong()
            try:
                key = json.loads(self._piece)
            except ValueError:
                raise self._wrong() from None
            self._advance()
            self._expect(":")
            members[key] = self._value()
            last, trailing = members[key].end, False
            if self._piece == ",":
                last, trailing = self._position, True
                self._advance()
        end = self._position
        self._advance()
        return _Node(start=start, end=end, is_object=True, members=members, last=last, trailing=trailing)

    def _list(self, start: int) -> _Node:
        self._advance()
        comma = True
        while self._piece != "]":
            if not comma:
                raise self._wrong()
            self._value()
            comma = self._piece == ","
            if comma:
                self._advance()
        end = self._position
        self._advance()
        return _Node(start=start, end=end)

    def _expect(self, mark: str) -> None:
        if self._piece != mark:
            raise self._wrong()
        self._advance()

    def _wrong(self) -> InvalidValueError:
        line = self._text.count("\n", 0, self._position) + 1
        return InvalidValueError(f"it is not JSON: line {line}")
