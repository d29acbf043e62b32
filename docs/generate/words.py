"""From docstrings and help texts to Markdown."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MADE = "<!-- Made by python -m docs.generate. Change the source, not this page. -->"
_FIELD = re.compile(r":(param|returns?|raises) ?([\w.]*):\s*")
_CODE = re.compile(r"``([^`]+)``|`([^`]+)`")


@attrs.frozen(kw_only=True)
class Doc:
    """A docstring, taken apart.

    :param text: its paragraphs. :param parameters: what it says of each. :param raises: of each error, by its name.
    """

    text: tuple[str, ...]
    parameters: Mapping[str, str]
    raises: Mapping[str, str]

    @classmethod
    def of(cls, described: object) -> Self:
        """Take apart the docstring of a class or a function."""
        text, *fields = _FIELD.split(inspect.getdoc(described) or "")
        found: dict[str, dict[str, str]] = {"param": {}, "raises": {}, "return": {}, "returns": {}}
        for kind, name, words in zip(fields[::3], fields[1::3], fields[2::3], strict=True):
            found[kind][name] = _one_line(words)
        paragraphs = tuple(_one_line(part) for part in text.split("\n\n") if part.strip())
        result = tuple(f"Returns {words}" for kind in ("return", "returns") for words in found[kind].values())
        return cls(text=paragraphs + result, parameters=found["param"], raises=found["raises"])


def prose(text: str, links: Mapping[str, str] | None = None) -> str:
    """Return a sentence of a docstring as Markdown; names in ``links`` become links to where they are described."""
    parts = []
    end = 0
    for code in _CODE.finditer(text):
        name = code[1] or code[2]
        target = (links or {}).get(name)
        shown = f"[`{name}`]({target})" if target and code[2] else f"`{name}`"
        parts += [_plain(text[end : code.start()]), shown]
        end = code.end()
    return "".join([*parts, _plain(text[end:])])


def code(text: object) -> str:
    """Return text as code, also where it has backticks in it."""
    words = str(text)
    return f"`` {words} ``" if "`" in words else f"`{words}`"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, or nothing where there are no rows."""
    lines = [row(cells) for cells in rows]
    if lines:
        names = list(headings)
        yield row(names)
        yield row(["---"] * len(names))
        yield from lines
        yield ""


def row(cells: Iterable[str]) -> str:
    """Return a row of a table; in it a bar ends a cell, in code too."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def paragraphs(texts: Iterable[str], links: Mapping[str, str] | None = None) -> Iterator[str]:
    """Yield paragraphs with what stands between them."""
    for text in texts:
        yield prose(text, links)
        yield ""


def document(lines: Iterable[str]) -> str:
    """Return lines as a file, with one line end at its end."""
    return "\n".join(lines).rstrip("\n") + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(text: str) -> str:
    return re.sub(r"([<*\\])", r"\\\1", text)
