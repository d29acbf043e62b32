"""The pages that are made say what the code says now."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from docs.generate.__main__ import PAGES, ROOT, main
from docs.generate.words import Doc, prose, row
from oubliette_core import errors, hookspecs
from oubliette_core.cli import boundary, root
from oubliette_core.server.tools import TOOLS


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_as_it_would_be_written(name: str) -> None:
    """Whoever changes what a page describes runs ``python -m docs.generate``."""
    assert PAGES[name]() == (ROOT / name).read_text(encoding="utf-8")


def test_a_stale_page_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """And the command that mends it is told."""
    monkeypatch.setitem(PAGES, "docs/reference/errors.md", lambda: "other")

    assert 1 == main(["--check"])
    assert "docs/reference/errors.md" in (said := capsys.readouterr().err)
    assert "python -m docs.generate" in said


def _commands(command: Any, path: str) -> Iterator[str]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(inner, f"{path} {name}")


def test_every_command_tool_hook_and_error_has_a_heading() -> None:
    """Nothing that users can name is left out."""
    pages = {name: PAGES[f"docs/reference/{name}.md"]() for name in ("commands", "tools", "hooks", "errors")}
    wanted = {
        "commands": [path for name in root.COMMANDS for path in _commands(root.load(name), f"oubliette {name}")],
        "tools": list(TOOLS),
        "hooks": [name for name in vars(hookspecs.RuntimeSpec) if not name.startswith("_")],
        "errors": [name for name in errors.__all__ if name.endswith("Error")],
    }
    missing = [
        f"{page}: {name}"
        for page, names in wanted.items()
        for name in names
        if not any(line.strip("# ") == name for line in pages[page].splitlines() if line.startswith("#"))
    ]

    assert [] == missing
    assert "oubliette container exec" in wanted["commands"]


def test_every_exit_code_is_explained() -> None:
    """Scripts go by them."""
    kinds = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
    explained = {line.split(" | ")[0].strip("| ") for line in PAGES["docs/reference/commands.md"]().splitlines()}

    assert set() == {str(boundary.exit_code(kind(""))) for kind in kinds} - explained


def test_docstrings_become_markdown() -> None:
    """Placeholders in angle brackets are not taken for HTML, and bars do not end a cell."""

    def described() -> None:
        """Do ``a|b`` to `Name`.

        More <of> it.

        :param one: the
            first. :raises OSError: not done. :returns: nothing.
        """

    doc = Doc.of(described)

    assert ("Do ``a|b`` to `Name`.", "More <of> it.", "Returns nothing.") == doc.text
    assert ({"one": "the first."}, {"OSError": "not done."}) == (doc.parameters, doc.raises)
    assert "Do `a|b` to [`Name`](#name)." == prose(doc.text[0], {"Name": "#name"})
    assert r"More \<of> it." == prose(doc.text[1])
    assert r"| `a\|b` | c |" == row(["`a|b`", "c"])
