"""``oubliette container``: what is done to each project, and the streams and codes of commands in it."""

from __future__ import annotations

import json

import pytest

from oubliette_core.errors import ImagePullError
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import BASE, CommandLine


@pytest.fixture
def running(ready: CommandLine) -> CommandLine:
    """The command line with projects ``web`` and ``api`` whose containers run."""
    for name in ("web", "api"):
        assert 0 == ready("project", "create", name).code
    assert 0 == ready("container", "start", "web", "api").code
    return ready


def _states(oubliette: CommandLine) -> dict[str, str]:
    listed = json.loads(oubliette("container", "list", "--all", "--json").stdout)
    return {one["project"]["name"]: one["state"] for one in listed}


def test_starting_makes_a_container_and_pulls_its_image(ready: CommandLine, fake: FakeEngine) -> None:
    """And says what of the defaults this runtime cannot enforce."""
    ready("project", "create", "web")
    result = ready("container", "start", "web")

    assert 0 == result.code
    assert result.stdout.startswith("web: running (oubliette-")
    assert "not enforced here: " in result.stdout
    assert f"base: pulling {BASE}" == result.stderr.splitlines()[0]
    assert {BASE: 1} == dict(fake.registry.requests)


def test_an_image_that_cannot_be_pulled_is_an_error(ready: CommandLine, fake: FakeEngine) -> None:
    """There is no container then."""
    fake.registry.fail(BASE, ImagePullError("no such image", reason="not_found", hint="Look for it."))
    ready("project", "create", "web")
    result = ready("container", "start", "web")

    assert (4, "") == (result.code, result.stdout)
    assert result.stderr.endswith("error: no such image\n  hint: Look for it.\n")
    assert {"web": "absent"} == _states(ready)


def test_only_running_containers_are_listed_unless_all_are_asked_for(running: CommandLine) -> None:
    """With their projects."""
    running("container", "stop", "api")
    rows = running("container", "list").stdout.splitlines()

    assert ["PROJECT", "ID", "TYPE", "STATE", "CREATED", "IMAGE"] == rows[0].split()
    assert ["web"] == [row.split()[0] for row in rows[1:]]
    assert {"api": "exited", "web": "running"} == _states(running)


def test_where_none_runs_that_is_said(running: CommandLine) -> None:
    """And how to see those that do not."""
    running("container", "stop", "--all")

    assert "No containers are running (2 not running: --all shows them).\n" == running("container", "list").stderr
    assert [] == json.loads(running("container", "list", "--json").stdout)


def test_several_are_stopped_and_each_is_reported(running: CommandLine) -> None:
    """One that does not exist does not keep the others; the exit code is that of the failure."""
    result = running("container", "stop", "web", "nope", "api")

    assert (4, "web: stopped\napi: stopped\n") == (result.code, result.stdout)
    assert result.stderr.startswith("error: nope: there is no project 'nope'")
    assert {"api": "exited", "web": "exited"} == _states(running)


def test_programs_get_each_outcome_as_json(running: CommandLine) -> None:
    """In the order in which the projects were named."""
    result = running("container", "stop", "nope", "web", "--json")
    nope, web = json.loads(result.stdout)

    assert (4, False, "nope", "ProjectNotFoundError") == (
        result.code,
        nope["ok"],
        nope["target"],
        nope["error"]["type"],
    )
    assert (True, "exited", "web") == (web["ok"], web["state"], web["project"]["name"])


def test_failures_of_different_kinds_end_with_1(running: CommandLine, fake: FakeEngine) -> None:
    """No single code would be true."""
    running("container", "stop", "--all")
    result = running("container", "stop", "nope", "../x")

    assert 1 == result.code
    assert {"api": "exited", "web": "exited"} == _states(running)


def test_all_are_stopped(running: CommandLine) -> None:
    """Once; then there is nothing to stop, which is no failure."""
    assert "api: stopped\nweb: stopped\n" == running("container", "stop", "--all").stdout
    again = running("container", "stop", "--all")
    assert (0, "", "No containers are running.\n") == (again.code, again.stdout, again.stderr)


@pytest.mark.parametrize("command", ["start", "stop", "refresh"])
def test_nothing_is_done_to_nobody(ready: CommandLine, command: str) -> None:
    """A script with an empty variable must not act on all projects."""
    result = ready("container", command)

    assert (2, "") == (result.code, result.stdout)
    assert "error: no project was named" in result.stderr


@pytest.mark.parametrize("command", ["stop", "refresh"])
def test_all_and_some_contradict_each_other(running: CommandLine, command: str) -> None:
    """Nothing is done."""
    assert 2 == running("container", command, "web", "--all").code
    assert {"api": "running", "web": "running"} == _states(running)


def test_a_refresh_says_what_changed_and_what_is_lost(running: CommandLine, fake: FakeEngine) -> None:
    """The image by its id, before and after."""
    fake.registry.publish(BASE, "2")
    told = json.loads(running("container", "refresh", "web", "--json").stdout)

    assert [(True, True)] == [(one["ok"], one["image_changed"]) for one in told]
    result = running("container", "refresh", "--all").stdout.splitlines()
    assert result[0].startswith("api: new container, of image ")
    assert result[1] == "web: new container, of the same image; what was outside workspace and home is gone"


def test_a_refresh_can_leave_alone_what_is_the_newest(running: CommandLine) -> None:
    """For a timer that runs every night."""
    before = json.loads(running("container", "list", "--json").stdout)
    result = running("container", "refresh", "--all", "--if-changed")

    assert "api: left alone, its image is the newest\nweb: left alone, its image is the newest\n" == result.stdout
    assert before == json.loads(running("container", "list", "--json").stdout)


def test_a_refresh_without_a_container_is_not_found(ready: CommandLine) -> None:
    """There is nothing to refresh; with ``--all`` that is no failure."""
    ready("project", "create", "web")

    assert 4 == ready("container", "refresh", "web").code
    everything = ready("container", "refresh", "--all")
    assert (0, "No project has a container.\n") == (everything.code, everything.stderr)


def test_a_command_prints_and_ends_as_itself(running: CommandLine, capfd: pytest.CaptureFixture[str]) -> None:
    """Both streams, and the exit code."""
    result = running("container", "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert 7 == result.code
    assert ("out\n", "err\n") == capfd.readouterr()


def test_a_command_gets_its_environment_user_and_directory(
    running: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    """A value may have equals signs in it."""
    words = ["-e", "A=1=2", "--env", "B=", "-w", "/tmp", "web", "sh", "-c", 'echo "$A,$B,$(pwd)"']  # noqa: S108

    assert 0 == running("container", "exec", *words).code
    assert "1=2,,/tmp\n" == capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["web", "nonsense"], 127, "nonsense"),
        (["web", "/etc"], 126, "/etc"),
        (["nope", "ls"], 125, "there is no project 'nope'"),
        (["--env", "A", "web", "ls"], 125, "--env takes a name and a value"),
        (["web"], 125, "Missing argument"),
    ],
)
def test_our_own_failures_have_codes_of_their_own(
    running: CommandLine, capfd: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    """As ``env`` and ``timeout`` have them."""
    result = running("container", "exec", *words)

    assert code == result.code
    assert message in result.stderr + capfd.readouterr().err


def test_at_the_deadline_the_code_is_124(running: CommandLine, capfd: pytest.CaptureFixture[str]) -> None:
    """What was printed by then was passed on."""
    result = running("container", "exec", "--timeout", "0.5", "web", "--", "sh", "-c", "echo begun; sleep 100")

    assert (124, "begun\n") == (result.code, capfd.readouterr().out)
    assert result.stderr.startswith("error: web: the command did not end within 0.5 s and was killed\n")


def test_a_stopped_container_runs_no_command(running: CommandLine) -> None:
    """What to do about it is told."""
    running("container", "stop", "web")
    result = running("container", "exec", "web", "ls")

    assert 125 == result.code
    assert "hint: " in result.stderr


def test_a_shell_needs_a_terminal(running: CommandLine) -> None:
    """In a script, ``exec`` is what is meant."""
    result = running("container", "shell", "web")

    assert 125 == result.code
    assert "hint: Run a command instead: oubliette container exec web -- CMD\n" in result.stderr


def test_the_logs_are_printed_as_they_are(ready: CommandLine) -> None:
    """Whatever bytes they are; only the last lines when so asked."""
    types = {"base": {"image": BASE, "command": ["sh", "-c", "echo one; echo two; sleep 99"]}}
    ready.configure(json.dumps({"runtime": "fake", "containers": types}))
    ready("project", "create", "web")
    ready("container", "start", "web")

    assert "one\ntwo\n" == ready("container", "logs", "web").stdout
    assert "two\n" == ready("container", "logs", "web", "--tail", "1").stdout


def test_without_an_engine_there_is_one_message(running: CommandLine, fake: FakeEngine) -> None:
    """And its code, for each command that needs one."""
    fake.go_away()
    for words in (["list"], ["start", "web"], ["stop", "--all"], ["refresh", "--all"], ["logs", "web"]):
        result = running("container", *words)

        assert (3, 1) == (result.code, result.stderr.count("error: ")), words
