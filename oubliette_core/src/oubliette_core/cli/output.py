"""The one module of the command line that prints.

Data goes to standard output; what is said about it (notes, warnings, errors, questions, progress) to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from oubliette_core.cli.text import cell, plain, printable, table
from oubliette_core.errors import InvalidValueError

_RED, _YELLOW = "31", "33"


class OutputClosedError(Exception):
    """Whoever read our output has gone, as ``head`` does once it has enough."""


class Output:
    """Standard streams of one command.

    :param environ: the environment; ``NO_COLOR`` and ``TERM`` decide about colour.
    """

    def __init__(self, environ: Mapping[str, str], *, stdin: TextIO, stdout: TextIO, stderr: TextIO) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self.live = stderr.isatty() and environ.get("TERM") != "dumb"
        """Whether progress can be drawn in place."""
        self._colour = self.live and not environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """Print one line of data."""
        self._write(self.stdout, f"{printable(text)}\n")

    def json(self, value: Any) -> None:
        """Print a value as JSON."""
        self._write(self.stdout, json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")

    def record(self, value: Any) -> None:
        """Print a value as one line of JSON."""
        self._write(self.stdout, json.dumps(plain(value), ensure_ascii=False) + "\n")

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print rows under headings."""
        self._write(self.stdout, "".join(f"{line}\n" for line in table(headings, rows)))

    def fields(self, pairs: Sequence[tuple[str, object]]) -> None:
        """Print names and values, one pair a line."""
        width = max(len(name) for name, _ in pairs) + 1
        lines = [f"{f'{name}:':{width}}  {cell(value)}\n" for name, value in pairs]
        self._write(self.stdout, "".join(lines))

    def verbatim(self, text: str) -> None:
        """Print a text of several lines that is our own."""
        self._write(self.stdout, text if text.endswith("\n") else f"{text}\n")

    def stream(self, text: str) -> None:
        """Print a part of a text of several lines, which goes on where the last part ended."""
        self._write(self.stdout, _lines(text))

    def ask(self, prompt: str) -> str | None:
        """Ask for a line, with the keys of a line editor on a terminal; None at the end of input."""
        if self.stdin is sys.stdin and self.stdin.isatty() and self.stdout.isatty():
            import readline  # noqa: F401, PLC0415 - gives input() history and editing

            try:
                return input(prompt)
            except EOFError:
                return None
        self._write(self.stderr, prompt)
        line = self.stdin.readline()
        return line.rstrip("\n") if line else None

    def raw(self, data: bytes) -> None:
        """Print bytes as they are."""
        try:
            self.stdout.buffer.write(data)
            self.stdout.buffer.flush()
        except BrokenPipeError:
            raise OutputClosedError from None

    def note(self, text: str) -> None:
        """Say something about what is going on."""
        self._write(self.stderr, f"{printable(text)}\n")

    def warning(self, text: str, hint: str = "") -> None:
        """Say what is not as it should be, without failing."""
        self._say("warning", _YELLOW, text, hint)

    def error(self, text: str, hint: str = "", details: Sequence[str] = ()) -> None:
        """Say why the command failed, in one line, its details in one line each, and what to do."""
        self._say("error", _RED, text, hint, details)

    def confirm(self, question: str, *, otherwise: str) -> bool:
        """Ask a question whose answer is no unless it is yes.

        :param otherwise: the option that answers it where nobody can be asked.
        :raises InvalidValueError: standard input is not a terminal.
        """
        if not self.stdin.isatty():
            raise InvalidValueError(
                f"standard input is not a terminal, and nobody can be asked: {question}",
                hint=f"Say yes with {otherwise}.",
            )
        self._write(self.stderr, f"{printable(question)} [y/N] ")
        return self.stdin.readline().strip().lower() in ("y", "yes")

    def _say(self, kind: str, colour: str, text: str, hint: str, details: Sequence[str] = ()) -> None:
        label = f"\x1b[1;{colour}m{kind}:\x1b[0m" if self._colour else f"{kind}:"
        lines = [f"{label} {printable(text)}", *(f"  {printable(detail)}" for detail in details)]
        if hint:
            lines.append(f"  hint: {printable(hint)}")
        self._write(self.stderr, "".join(f"{line}\n" for line in lines))

    def _write(self, stream: TextIO, text: str) -> None:
        # Whatever a name contains, and whatever the locale: escape it rather than fail.
        encoding = stream.encoding or "utf-8"
        try:
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except BrokenPipeError:
            raise OutputClosedError from None


def _lines(text: str) -> str:
    """Return a text whose lines are printable, with the ends of its lines."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.replace("\r\n", "\n").split("\n"))


def silence(stream: TextIO) -> None:
    """Let a stream whose reader has gone be flushed at exit without an error."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return  # not a file, in a test
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device, not a path of the user's
        os.dup2(nowhere.fileno(), number)


def standard_output(environ: Mapping[str, str]) -> Output:
    """Return the process's own streams."""
    return Output(environ, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr)
