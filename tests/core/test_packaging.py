"""The distributions carry one version and fit together as their users are told."""

from __future__ import annotations

import tomllib
from email.message import Message
from importlib.metadata import distribution, entry_points
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from oubliette_core._version import __version__

ROOT = Path(__file__).parents[2]
DISTRIBUTIONS = sorted(path.parent.name for path in ROOT.glob("oubliette_*/pyproject.toml"))
PLUGINS = [name for name in DISTRIBUTIONS if name != "oubliette_core"]


def _project(name: str) -> dict[str, Any]:
    with (ROOT / name / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def _requirements(name: str) -> dict[str, Requirement]:
    """Map what a distribution always needs to its requirement."""
    lines = map(Requirement, distribution(name).requires or ())
    return {line.name: line for line in lines if line.marker is None}


def _extra(name: str) -> dict[str, Requirement]:
    """Map what an extra of core adds to its requirement."""
    lines = map(Requirement, distribution("oubliette-core").requires or ())
    return {line.name: line for line in lines if line.marker and line.marker.evaluate({"extra": name})}


def _series() -> str:
    """Return the range that our distributions require of each other: this series, its dev versions too."""
    version = Version(__version__)
    return f"<{version.major}.{version.minor + 1},>={version.major}.{version.minor}.0.dev0"


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_reads_the_one_version(name: str) -> None:
    """A release is one edit of one file, so no distribution can be left behind."""
    settings = _project(name)
    source = (ROOT / name / settings["tool"]["hatch"]["version"]["path"]).resolve()

    assert (ROOT / "oubliette_core/src/oubliette_core/_version.py") == source
    assert ["version"] == settings["project"]["dynamic"]
    assert __version__ == distribution(name).version


@pytest.mark.parametrize("name", PLUGINS)
def test_a_runtime_requires_the_core_of_its_series(name: str) -> None:
    """A plain ``>=0.1`` would refuse the dev version in the same checkout."""
    required = _requirements(name)["oubliette-core"].specifier

    assert _series() == str(required)
    assert required.contains(__version__, prereleases=True)


@pytest.mark.parametrize("runtime", ["apple", "docker", "embedded"])
def test_a_runtime_extra_brings_its_runtime_and_the_server(runtime: str) -> None:
    """One install command gives a complete Oubliette."""
    extra = _extra(runtime)

    assert {f"oubliette-{runtime}", *_extra("server")} == set(extra)
    assert _series() == str(extra[f"oubliette-{runtime}"].specifier)


def test_bare_core_needs_no_server_and_no_engine_sdk() -> None:
    """Those who write a runtime install little."""
    assert {
        "attrs",
        "cattrs",
        "filelock",
        "json5",
        "pluggy",
        "rich",
        "tenacity",
        "typer",
    } == set(_requirements("oubliette-core"))
    assert {
        "agent-client-protocol",
        "anyio",
        "mcp",
        "prometheus-client",
        "pydantic",
        "starlette",
        "uvicorn",
    } == set(_extra("server"))


def test_the_command_is_installed() -> None:
    """Installing core puts ``oubliette`` on PATH."""
    (command,) = entry_points(group="console_scripts", name="oubliette")

    assert "oubliette_core.cli:main" == command.value


@pytest.mark.parametrize("name", PLUGINS)
def test_a_runtime_is_registered_under_its_own_name(name: str) -> None:
    """The name users write is the one after ``oubliette-``."""
    runtime = name.removeprefix("oubliette_")
    registered = distribution(name).entry_points.select(group="oubliette.runtimes")

    assert {runtime: f"{name}:{runtime.title()}Runtime"} == {point.name: point.value for point in registered}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_is_licensed_and_typed(name: str) -> None:
    """Each wheel carries the licence text of the repository and the marker that lets type checkers read it."""
    metadata = distribution(name).metadata
    assert isinstance(metadata, Message)

    assert "MIT" == metadata["License-Expression"]
    assert (ROOT / "LICENSE").read_bytes() == (ROOT / name / "LICENSE").read_bytes()
    assert (ROOT / name / "src" / name / "py.typed").exists()


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_has_a_changelog_with_a_place_for_the_next_release(name: str) -> None:
    """What users will notice is written down where the change is made."""
    assert "## [Unreleased]" in (ROOT / name / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
