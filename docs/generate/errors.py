"""The reference of the errors, from their classes."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, get_args

from docs.generate.words import MADE, Doc, code, document, paragraphs, prose, table
from oubliette_core import errors
from oubliette_core.cli import boundary

if TYPE_CHECKING:
    from collections.abc import Iterator

LINKS = {name: f"#{name.lower()}" for name in errors.__all__ if name.endswith("Error")}

_HEAD = f"""\
# Errors

{MADE}

Every error that Oubliette raises on purpose is one of `oubliette_core.errors`, and all have one base. A command of the
command line ends with the exit code that is given here; the MCP server answers with the error's text and hint.
"""


def page() -> str:
    """Return the page."""
    text = inspect.cleandoc(errors.__doc__ or "")
    tree = "\n".join(line.removeprefix("    ") for line in text.splitlines() if re.match(" {4}", line))
    last = text.rpartition("\n\n")[2]
    lines = [_HEAD, "```text", tree, "```", "", *paragraphs([" ".join(last.split())])]
    lines += _with_children(errors.OublietteError)
    lines += ["## Why a pull failed", "", "`ImagePullError.reason` is one of these:", ""]
    lines += [", ".join(code(reason) for reason in get_args(errors.PullFailure)) + ".", ""]
    return document(lines)


def _with_children(kind: type[errors.OublietteError]) -> Iterator[str]:
    yield from _described(kind)
    for inner in kind.__subclasses__():
        if inner.__module__ == errors.__name__:
            yield from _with_children(inner)


def _described(kind: type[errors.OublietteError]) -> Iterator[str]:
    doc = Doc.of(kind)
    yield f"## {kind.__name__}"
    yield ""
    yield from paragraphs(doc.text, LINKS)
    inherited: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if issubclass(base, errors.OublietteError):
            inherited |= Doc.of(base).parameters
    yield from table(
        ["attribute", "what it is"], ([code(name), prose(said, LINKS)] for name, said in inherited.items())
    )
    base = kind.__mro__[1]
    above = (
        f"A kind of [{base.__name__}](#{base.__name__.lower()}). " if issubclass(base, errors.OublietteError) else ""
    )
    yield f"{above}Exit code {boundary.exit_code(kind(''))}."
    yield ""
