"""``oubliette config``: every value has a source, every mistake a line, and no secret is printed."""

from __future__ import annotations

import json

import pytest

from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import CommandLine

FOUR_MISTAKES = """{
  "runtme": "docker",
  "containers": {"ml": {"image": "UPPER CASE", "pull": "sometimes"}},
  "defaults": {"container": {"memory": "many"}},
}"""


def test_every_value_is_shown_with_its_source(oubliette: CommandLine, fake: FakeEngine) -> None:
    """Defaults, file, environment and command line."""
    oubliette.configure('{"defaults": {"hardening": "strict"}}')
    shown = json.loads(oubliette("--runtime", "fake", "config", "show", "--json").stdout)

    assert {"value": "fake", "source": "command line"} == shown["runtime"]
    assert {"value": "strict", "source": "file"} == shown["defaults.hardening"]
    assert {"value": 4, "source": "default"} == shown["defaults.limits.sessions"]
    from_environment = oubliette("config", "show", "runtime", environ={"CONTAINER_RUNTIME": "fake"}).stdout
    assert ["runtime", '"fake"', "environment"] == from_environment.splitlines()[1].split()
    assert {} == dict(fake.calls)


def test_a_secret_is_masked(oubliette: CommandLine) -> None:
    """A terminal is recorded, and looked at by others."""
    oubliette.configure('{"credentials": {"github": {"token": "${MY_TOKEN}"}, "providers": {"a": "sk-hunter2"}}}')
    environ = {"MY_TOKEN": "ghp_hunter2"}
    shown = (
        oubliette("config", "show", environ=environ).stdout
        + oubliette("config", "show", "--json", environ=environ).stdout
    )

    assert "hunter2" not in shown
    assert '"***"' in shown


def test_a_part_can_be_shown(oubliette: CommandLine) -> None:
    """By the path that errors name, too; one that does not exist is a mistake."""
    shown = oubliette("config", "show", "defaults.limits").stdout

    assert ["SETTING", *6 * ["defaults.limits"]] == [
        line.split()[0].rpartition(".")[0] or line.split()[0] for line in shown.splitlines()
    ]
    assert 2 == oubliette("config", "show", "defaults.lim").code


def test_all_mistakes_are_reported_with_their_paths(oubliette: CommandLine) -> None:
    """At once, by ``check`` and by any other command."""
    oubliette.configure(FOUR_MISTAKES)
    for words in (["config", "check"], ["runtime", "list"]):
        result = oubliette(*words)

        assert (1, "") == (result.code, result.stdout)
        assert "error: 4 problems in " in result.stderr
        for path in ("runtme", "containers.ml.image", "containers.ml.pull", "defaults.container.memory"):
            assert f"  {path}: " in result.stderr
        assert "Traceback" not in result.stderr


def test_programs_get_the_mistakes_as_json(oubliette: CommandLine) -> None:
    """And the same exit code."""
    oubliette.configure(FOUR_MISTAKES)
    result = oubliette("config", "check", "--json")
    found = json.loads(result.stdout)

    assert (1, False, 4) == (result.code, found["ok"], len(found["problems"]))


def test_a_correct_configuration_is_said_to_be_so(ready: CommandLine) -> None:
    """The file is named: it may not be the one that was meant."""
    file = ready.home / "config" / "oubliette.jsonc"

    assert f"{file} is correct.\n" == ready("config", "check").stdout
    assert {"file": str(file), "ok": True, "problems": []} == json.loads(ready("config", "check", "--json").stdout)


def test_another_file_can_be_checked(ready: CommandLine) -> None:
    """Before it is put in place; one that is not there is an error."""
    other = ready.home / "other.jsonc"
    assert 1 == ready("config", "check", str(other)).code
    other.write_text('{"runtime": 5}', encoding="utf-8")

    assert "  runtime: " in ready("config", "check", str(other)).stderr


def test_settings_of_a_runtime_that_is_not_installed_are_pointed_out(oubliette: CommandLine) -> None:
    """It may be a misspelt name; it may be that of another machine."""
    oubliette.configure('{"runtimes": {"dokcer": {}}}')
    result = oubliette("config", "check")

    assert (0, "warning: runtimes.dokcer: no runtime of this name is installed\n") == (result.code, result.stderr)


@pytest.mark.parametrize("exists", [True, False])
def test_the_path_is_printed_whether_or_not_the_file_exists(oubliette: CommandLine, exists: bool) -> None:
    """For ``$EDITOR $(oubliette config path)``."""
    if exists:
        oubliette.configure("{}")
    result = oubliette("config", "path")

    assert f"{oubliette.home}/config/oubliette.jsonc\n" == result.stdout
    assert exists is (result.stderr == "")


def test_a_local_home_that_is_passed_over_is_told(oubliette: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cloned repository may have brought it, or the user forgot to close it."""
    directory = oubliette.home.parent
    (directory / "project" / ".oubliette").mkdir(parents=True, mode=0o755)
    monkeypatch.chdir(directory / "project")
    result = oubliette("config", "path", environ={"OUBLIETTE_HOME": ""})

    assert f"{directory}/.oubliette/config/oubliette.jsonc\n" == result.stdout
    assert result.stderr.startswith(f"warning: {directory}/project/.oubliette is passed over: its mode is 0755")
