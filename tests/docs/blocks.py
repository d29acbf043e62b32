"""The code blocks of README and docs, each by what its language promises.

| language | what is done with it |
|---|---|
| console | every command after ``$`` is run on a machine of its page's own, in order, and what it shows is compared |
| sh | commands that no test may run, or cannot: their syntax, and ours among them against our own parsers |
| json5 | loaded as a configuration |
| python | run, or cut from code that is tested |
| text | in pages that are made, and output that is shown on its own |

A block whose first line is a comment with a path is a file: a page's machine has it before the next command is run.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import attrs
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_FILE = re.compile(r"(?:#|//) (~?[\w./-]*/[\w./-]+)\n")


@attrs.frozen(kw_only=True)
class Block:
    """A code block. :param line: where it begins, counted from 1. :param language: empty where none is named."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def file(self) -> str:
        """The path of the file that it is, or nothing."""
        found = _FILE.match(self.text)
        return found[1] if found else ""

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def tracked(pattern: str) -> list[Path]:
    """List the files of the checkout that match, without what tools have left in it."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted({ROOT / name for name in names if (ROOT / name).is_file()})


def blocks(page: Path) -> list[Block]:
    """Return all code blocks of a page, in their order."""
    return [
        Block(page=page, line=token.map[0] + 1, language=token.info.strip(), text=token.content)
        for token in MarkdownIt().parse(page.read_text(encoding="utf-8"))
        if token.type in ("fence", "code_block") and token.map
    ]


def commands_in_text(page: Path) -> list[str]:
    """Return what stands between backticks in the text of a page and begins with our command's name."""
    inline = [token for token in MarkdownIt().parse(page.read_text(encoding="utf-8")) if token.type == "inline"]
    codes = [child.content for token in inline for child in token.children or () if child.type == "code_inline"]
    return [code for code in codes if code.startswith("oubliette ")]
