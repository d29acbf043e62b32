"""Wheels of this checkout, for pages that begin with an installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.third_party.environments import build_wheel


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a wheel of each distribution."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in ROOT.glob("oubliette_*/pyproject.toml"):
        build_wheel(project.parent, folder)
    return folder
