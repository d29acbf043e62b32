"""Runs what a page tells its readers to type, in one shell, and compares what is printed with what the page shows."""

from __future__ import annotations

import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from tests.docs.blocks import Block


@attrs.frozen(kw_only=True)
class Step:
    """A command of a page. :param shown: what the page shows that it prints; None where it shows nothing."""

    command: str
    shown: str | None


def steps(block: Block) -> Iterator[Step]:
    """Take a ``console`` block apart: commands begin with ``$``, and go on in lines that begin with ``>``."""
    assert block.text.startswith("$ "), f"{block} does not begin with a command"
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines()
        more = 1
        while more < len(lines) and lines[more].startswith("> "):
            more += 1
        command = "\n".join([lines[0], *(line.removeprefix("> ") for line in lines[1:more])])
        yield Step(command=command, shown="\n".join(lines[more:]) or None)


def matches(shown: str, printed: str) -> bool:
    """Compare what a page shows with what was printed: ``...`` stands for anything, alone in a line for any lines.

    Two spaces or more stand for any number of them.
    """
    text = "".join(f"{line.rstrip()}\n" for line in printed.strip("\n").splitlines())
    return re.fullmatch("".join(map(_pattern, shown.strip("\n").splitlines())), text) is not None


def _pattern(line: str) -> str:
    if line.strip() == "...":
        return r"(?:.*\n)*?"
    words = re.escape(line.rstrip()).replace(re.escape("..."), ".*")
    # How wide a column of a table is depends on what stands in it.
    return re.sub(r"(?:\\ ){2,}", r" +", words) + r"\n"


class Shell:
    """One bash for all commands of a page: directories and variables last, as they do for a reader."""

    def __init__(self, environ: Mapping[str, str], folder: Path) -> None:
        self._mark = f"--{secrets.token_hex(8)}--"
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environ),
            cwd=folder,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._bash:
            self._bash.kill()

    def run(self, command: str) -> tuple[str, int]:
        """Run a command without any input; return what it printed and its exit code."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n%s %s\\n' '{self._mark}' $?\n")
        self._bash.stdin.flush()
        printed: list[str] = []
        for line in self._bash.stdout:
            if line.startswith(self._mark):
                return "".join(printed).removesuffix("\n"), int(line.split()[1])
            printed.append(line)
        raise AssertionError(f"the shell ended in: {command}\n{''.join(printed)}")


def walk(blocks: list[Block], shell: Shell) -> None:
    """Do all that a page says: write its files, and run its commands. Fails at the first that comes out otherwise."""
    for block in blocks:
        if block.file:
            end = "end-of-the-file"
            write = f'mkdir -p "$(dirname {block.file})" && cat >{block.file} <<"{end}"\n{block.text}{end}'
            assert ("", 0) == shell.run(write)
        elif block.language == "console":
            for step in steps(block):
                printed, code = shell.run(step.command)
                assert 0 == code, f"{block}: $ {step.command}\nended with {code}:\n{printed}"
                if step.shown is not None:
                    assert matches(step.shown, printed), f"{block}: $ {step.command}\nprinted:\n{printed}"
