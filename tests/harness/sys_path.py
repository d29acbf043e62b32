"""Putting distributions of a test's own on ``sys.path``."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def prepend(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find what is in ``directory`` first, until the test ends."""
    monkeypatch.syspath_prepend(str(directory))
    # At the first new file after sys.path has changed, coverage looks its packages up again, and then takes out of
    # sys.modules what came in meanwhile, also what another thread is importing. Here there is no other thread.
    noticed = directory / "noticed.py"
    noticed.touch()
    runpy.run_path(str(noticed))
