"""A transcript that a person reads while it is made: what is typed, what comes back, and whether that is right."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path


class DemoError(Exception):
    """Something did not come out as it has to."""


class Transcript:
    """Runs commands of ``oubliette`` and shows them.

    :param environ: the environment they run in. :param directory: where they run.
    """

    def __init__(self, environ: Mapping[str, str], directory: Path) -> None:
        self._environ = environ
        self._directory = directory
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        self._bold, self._faint, self._plain = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if colour else ("", "", "")

    def chapter(self, title: str) -> None:
        """Begin a new part."""
        print(f"\n{self._bold}{title}{self._plain}\n", flush=True)

    def note(self, text: str) -> None:
        """Say something in between."""
        print(f"{self._faint}# {text}{self._plain}", flush=True)

    def show(self, command: str, text: str) -> None:
        """Show a command that needs not be run, and what it would print."""
        self._typed(command)
        print(text, flush=True)

    def run(self, *words: str, code: int = 0) -> None:
        """Run a command with our own streams. Raises `DemoError` unless it ends with ``code``."""
        self._typed(shlex.join(("oubliette", *words)))
        self._ended(words, self._start(words).returncode, code)

    def read(self, *words: str, expected: str) -> None:
        """Run a command and show what it prints. Raises `DemoError` unless that has ``expected`` in it."""
        self._typed(shlex.join(("oubliette", *words)))
        done = self._start(words, stdout=subprocess.PIPE)
        print(done.stdout, end="", flush=True)
        self._ended(words, done.returncode, 0)
        if expected not in done.stdout:
            raise DemoError(f"oubliette {shlex.join(words)} was to print {expected!r}")

    def _typed(self, command: str) -> None:
        print(f"{self._bold}$ {command}{self._plain}", flush=True)

    def _start(self, words: tuple[str, ...], *, stdout: int | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "oubliette_core", *words]
        # One stream for both, so that what is printed stands in its order wherever the transcript goes.
        return subprocess.run(
            command,
            env=self._environ,
            cwd=self._directory,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def _ended(self, words: tuple[str, ...], code: int, expected: int) -> None:
        if code:
            print(f"{self._faint}(exit code {code}){self._plain}", flush=True)
        if code != expected:
            raise DemoError(f"oubliette {shlex.join(words)} ended with {code} instead of {expected}")
