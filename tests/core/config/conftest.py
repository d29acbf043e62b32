"""A home to configure, and two ways to say what is in its configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.config import Home, LoadedConfig, load_config
from oubliette_core.errors import ConfigError

Load = Callable[..., LoadedConfig]
Problems = Callable[..., list[str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Make a home without a configuration."""
    home = Home(path=tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def load(home: Home) -> Load:
    """Write a text as the home's configuration and load it; other arguments go to `load_config`."""

    def load(text: str, environ: Mapping[str, str] | None = None, *, mode: int = 0o600, **options: Any) -> LoadedConfig:
        home.config_file.write_text(text, encoding="utf-8")
        home.config_file.chmod(mode)
        return load_config(home, environ=environ or {}, **options)

    return load


@pytest.fixture
def problems(load: Load) -> Problems:
    """Write a text as the home's configuration and return what is wrong with it."""

    def problems(text: str, environ: Mapping[str, str] | None = None, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, environ, **options)
        return list(caught.value.problems)

    return problems
