"""The command line: ``oubliette``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from oubliette_core._version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``oubliette`` with the process's own arguments, streams and environment; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words == ["--version"]:
        # Asked by scripts and editors all the time: nothing is loaded for it.
        sys.stdout.write(f"oubliette {__version__}\n")
        return 0
    from oubliette_core.cli.root import run_process  # noqa: PLC0415

    return run_process(words)
