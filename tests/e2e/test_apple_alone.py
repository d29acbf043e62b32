"""The Apple runtime beside core alone: it leans on nothing that another runtime brings, and tells where it can run."""

import sys

import pytest

from tests.third_party.environments import ROOT, Environment, build_wheel


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "darwin", reason="there it may be available")
def test_it_says_why_it_is_not_available(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Installed as wheels where it cannot run, it is listed with the reason and with what to do."""
    environment = Environment.create(tmp_path_factory.mktemp("apple"))
    wheels = [build_wheel(ROOT / name, environment.folder / name) for name in ("oubliette_core", "oubliette_apple")]
    environment.install(*wheels)
    [listed] = environment.runtimes({"PATH": "/nowhere"}).values()
    said = environment.run("oubliette", "--runtime", "apple", "doctor", code=1)

    assert not environment.distributions() & {"docker", "mcp", "oubliette-docker"}
    assert ("apple", "unavailable") == (listed["name"], listed["state"])
    assert "macOS only" in listed["detail"]
    assert listed["hint"]
    assert "macOS only" in said
