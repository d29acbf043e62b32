"""``oubliette doctor``: what is in order, what is not, and what to do."""

from __future__ import annotations

import json

from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import CommandLine, Result


def _verdicts(result: Result) -> dict[str, str]:
    """Map what was looked at to the last verdict on it."""
    return {one["subject"]: one["verdict"] for one in json.loads(result.stdout)}


def test_where_all_is_well_each_thing_is_named(ready: CommandLine) -> None:
    """Engine, home, store, disk, configuration and plugins."""
    result = ready("doctor", "--json")
    found = {one["subject"]: one["detail"] for one in json.loads(result.stdout) if one["verdict"] == "ok"}

    assert 0 == result.code
    assert {"version", "home", "disk", "config", "store", "runtime", "chosen"} == set(found)
    assert "fake (by file): in memory, for tests" == found["chosen"]
    assert "0 projects, 0 tokens" == found["store"]


def test_people_get_one_line_for_each(ready: CommandLine, fake: FakeEngine) -> None:
    """And what to do below what needs it."""
    fake.go_away()
    lines = ready("doctor").stdout.splitlines()
    chosen = next(index for index, line in enumerate(lines) if line.startswith("failed   chosen"))

    assert "fake (by file): the fake engine is not running" in lines[chosen]
    assert "engine.come_back()" == lines[chosen + 1].strip()


def test_without_a_home_the_rest_is_looked_at(oubliette: CommandLine, fake: FakeEngine) -> None:
    """One missing thing does not hide the others."""
    result = oubliette("--runtime", "fake", "doctor", "--json")

    assert 1 == result.code
    assert {"home": "failed", "disk": "ok", "config": "ok", "chosen": "ok"}.items() <= _verdicts(result).items()
    assert not oubliette.home.exists()


def test_mistakes_in_the_configuration_are_listed(ready: CommandLine) -> None:
    """Each by itself."""
    ready.configure('{"runtme": "fake", "server": {"port": -1}}')
    result = ready("doctor", "--json")
    details = [one["detail"] for one in json.loads(result.stdout) if one["subject"] == "config"]

    assert 1 == result.code
    assert ["runtme", "server.port"] == sorted(detail.partition(":")[0] for detail in details)


def test_a_damaged_store_is_found(ready: CommandLine) -> None:
    """It is not touched."""
    ready("project", "create", "web")
    database = ready.home / "data" / "oubliette.db"
    database.write_bytes(b"garbage" * 100)
    result = ready("doctor", "--json")

    assert (1, "failed") == (result.code, _verdicts(result)["store"])
    assert b"garbage" * 100 == database.read_bytes()


def test_a_home_that_others_can_look_into_is_a_warning(ready: CommandLine) -> None:
    """There are credentials in it."""
    ready.home.chmod(0o755)
    result = ready("doctor", "--json")

    assert (0, "warning") == (result.code, _verdicts(result)["home"])
