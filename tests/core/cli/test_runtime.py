"""``oubliette runtime``: each installed runtime is shown with its state and the reason."""

from __future__ import annotations

import json

from oubliette_core.models import Capability
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import CommandLine


def _listed(result: str) -> dict[str, dict[str, str]]:
    return {one["name"]: one for one in json.loads(result)}


def test_runtimes_are_listed_without_a_home(oubliette: CommandLine, fake: FakeEngine) -> None:
    """It is among the first things that one tries."""
    result = oubliette("runtime", "list", "--json")

    assert 0 == result.code
    listed = _listed(result.stdout)
    assert {"name": "fake", "kind": "runtime", "state": "available", "version": "1"}.items() <= listed["fake"].items()
    assert "oubliette-fake 1.0" == listed["fake"]["distribution"]
    assert not oubliette.home.exists()


def test_one_that_cannot_be_used_is_listed_with_the_reason(oubliette: CommandLine, fake: FakeEngine) -> None:
    """And what to do about it."""
    fake.go_away()
    result = oubliette("runtime", "list")

    assert any(line.split()[:3] == ["fake", "runtime", "unavailable"] for line in result.stdout.splitlines())
    assert "fake: engine.come_back()\n" in result.stderr


def test_one_that_is_disabled_is_listed_as_such(oubliette: CommandLine, fake: FakeEngine) -> None:
    """It was not loaded."""
    result = oubliette("runtime", "list", "--json", environ={"OUBLIETTE_DISABLE_PLUGINS": "fake"})

    assert "disabled" == _listed(result.stdout)["fake"]["state"]
    assert {} == dict(fake.calls)


def test_a_runtime_is_shown_with_what_it_can_and_cannot_do(ready: CommandLine) -> None:
    """And with the settings that it leaves out."""
    shown = json.loads(ready("runtime", "show", "--json").stdout)

    assert ("fake", True, "1", []) == (shown["name"], shown["available"], shown["version"], shown["missing_hooks"])
    assert Capability.TTY.value in shown["capabilities"]
    assert Capability.CAPABILITIES.value not in shown["capabilities"]
    assert "drop_capabilities" in shown["not_enforced"]
    people = ready("runtime", "show", "fake").stdout
    assert "cannot:" in people


def test_a_required_setting_that_cannot_be_enforced_is_shown(ready: CommandLine) -> None:
    """Containers would be refused: better to know beforehand."""
    ready.configure('{"runtime": "fake", "defaults": {"hardening": "strict"}}')
    result = ready("runtime", "show", "--json")

    assert "cannot enforce" in json.loads(result.stdout)["refuses"]


def test_an_unknown_runtime_answers_with_the_known_ones(oubliette: CommandLine, fake: FakeEngine) -> None:
    """By name or by preference, with the code of a missing runtime."""
    for words in (["runtime", "show", "nope"], ["--runtime", "nope", "runtime", "show"]):
        result = oubliette(*words)

        assert 3 == result.code
        assert "error: no runtime is installed under the name 'nope'; installed: " in result.stderr
        assert "fake" in result.stderr
    assert {} == dict(fake.calls)
