"""The page about writing a runtime shows a runtime that is tested."""

from __future__ import annotations

import re
import textwrap

from tests.third_party.environments import EXAMPLE, ROOT

PAGE = ROOT / "docs" / "how-to" / "write-a-runtime.md"


def test_every_block_is_cut_from_the_example() -> None:
    """Code that nobody runs is wrong before long."""
    blocks = re.findall(r"^```\w*\n(.*?)^```$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
    files = [*EXAMPLE.rglob("*.py"), EXAMPLE / "pyproject.toml"]
    sources = [_without_margin(path.read_text()) for path in files]
    strange = [block for block in blocks if not any(_without_margin(block) in source for source in sources)]

    assert len(blocks) >= 8
    assert [] == strange


def test_a_block_that_differs_would_be_seen() -> None:
    """Only the margin may differ, which a method loses on the page."""
    source = "class A:\n    def b(self) -> None:\n        pass\n"

    assert _without_margin(textwrap.dedent(source[9:])) in _without_margin(source)
    assert _without_margin("def b(self) -> int:\n    pass\n") not in _without_margin(source)


def _without_margin(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
