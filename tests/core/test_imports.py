"""Importing the core is cheap: what a front end needs is loaded by that front end only."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRONT_END_ONLY = {"acp", "docker", "json5", "mcp", "pydantic", "pytest", "requests", "rich", "typer"}


def test_importing_core_loads_no_framework_and_no_engine_sdk() -> None:
    """A plugin's author, or a program that embeds the library, pays for the contract and nothing else."""
    program = "import sys, oubliette_core; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()

    assert "oubliette_core" in loaded
    assert set() == FRONT_END_ONLY.intersection(loaded)


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("oubliette_core.cli.session, oubliette_core.cli.chat", {"acp", "asyncio", "mcp", "pydantic"}),
        ("oubliette_core.agents", {"acp", "mcp", "pydantic"}),
    ],
)
def test_agents_cost_nothing_before_the_first_is_started(modules: str, unwanted: set[str]) -> None:
    """The protocol's library takes half a second, which a server or a look at sessions should not pay for."""
    program = f"import sys, {modules}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()

    assert set() == unwanted.intersection(loaded)
