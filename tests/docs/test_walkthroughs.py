"""What the pages tell their readers to type works as it is written, from top to bottom, on a fresh machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.docs import machine
from tests.docs.blocks import ROOT, Block, blocks, tracked
from tests.docs.console import Shell, Step, matches, steps, walk
from tests.docs.machine import Machine
from tests.images import Enter

PAGES = {
    str(page.relative_to(ROOT)): page
    for page in tracked("*.md")
    if any(block.language == "console" for block in blocks(page))
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_followed(name: str, wheels: Path, enter: Enter, tmp_path: Path) -> None:
    """A tutorial begins with nothing, any other page where Oubliette is set up and no image has been pulled."""
    make = machine.mac if name.endswith("macos.md") else machine.linux
    there: Machine = enter(make(tmp_path))
    found = os.environ.get("PIP_FIND_LINKS", "")
    with Shell(there.environ | {"PIP_FIND_LINKS": f"{found} {wheels}"}, tmp_path) as shell:
        if "tutorial" not in name:
            said, code = shell.run("oubliette init --no-pull")
            assert 0 == code, said
        walk(blocks(PAGES[name]), shell)


def _block(text: str) -> Block:
    return Block(page=ROOT / "README.md", line=1, language="console", text=text)


def test_a_block_is_taken_apart() -> None:
    """A command may have several lines, and may show nothing."""
    text = "$ one\n$ for a in b; do\n>   two\n> done\nthree\n\nfour\n"

    assert [
        Step(command="one", shown=None),
        Step(command="for a in b; do\n  two\ndone", shown="three\n\nfour"),
    ] == list(steps(_block(text)))


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("one", "one\n", True),
        ("one", "one\ntwo\n", False),
        ("one ... three", "one two three\n", True),
        ("...\nthree", "one\ntwo\nthree\n", True),
        ("...\nthree", "three\n", True),
        ("one\n...", "one\n", True),
        ("one\n...", "two\n", False),
        ("a.c", "abc\n", False),
        ("A   B", "A      B\n", True),
        ("A B", "A  B\n", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, printed: str, same: bool) -> None:
    """Anything may stand where three dots stand, and nowhere else."""
    assert same is matches(shown, printed)


def test_a_page_that_is_wrong_fails(tmp_path: Path) -> None:
    """With the place and what came instead; files are written, and directories and variables last."""
    with Shell(dict(os.environ), tmp_path) as shell:
        walk(
            [_block("# sub/file\nhello\n"), _block("$ cd sub; A=1\n$ cat file; echo $A\n# sub/file\nhello\n1\n")], shell
        )
        with pytest.raises(AssertionError, match=r"README.md:1: \$ echo other\nprinted:\nother"):
            walk([_block("$ echo other\nsomething\n")], shell)
        with pytest.raises(AssertionError, match=r"README.md:1: \$ false\nended with 1"):
            walk([_block("$ false\n")], shell)
