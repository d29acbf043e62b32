"""What each tool does, and how it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Generator

import pytest

from oubliette_core.errors import ImagePullError
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import ContainerInfo, ContainerStatus
from oubliette_core.server.serving import Parts
from tests.core.server.conftest import Tools, data_of, error_of, text_of

DEMO = {"project_id": "demo"}


def test_a_project_is_made_with_its_container_and_its_image_is_pulled(tools: Tools) -> None:
    """One call from nothing to a place to work in."""
    assert not tools.bench.app.runtime.exists("registry.example.com/base:1")
    made = data_of(tools("project_create", {"name": "demo", "container_type": "base"}))
    ran = data_of(tools("container_exec", {**DEMO, "command": ["sh", "-c", "echo out; echo err >&2; exit 3"]}))

    assert ("demo", "base", "running") == (made["project"]["name"], made["project"]["container_type"], made["state"])
    assert (3, "out\n", "err\n") == (ran["exit_code"], ran["stdout"], ran["stderr"])


def test_people_read_the_ending_and_the_output(tools: Tools) -> None:
    """Many clients show models the text alone."""
    tools.bench.start("demo")
    result = tools("container_exec", {**DEMO, "command": ["sh", "-c", "echo out; echo err >&2; exit 3"]})

    assert "exit code 3\nout\n\n--- stderr ---\nerr\n" == text_of(result)


def test_a_project_can_begin_as_a_git_repository(tools: Tools) -> None:
    """Without any hooks."""
    made = data_of(tools("project_create", {"name": "demo", "git_init": True, "start": False}))
    workspace = made["project"]["workspace"]
    git = ["git", "-c", "safe.directory=*", "-C", workspace, "rev-parse", "--show-toplevel"]

    assert workspace == subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    assert "absent" == made["state"]


def test_a_clone_is_a_repository_already(tools: Tools) -> None:
    """Both at once is a mistake of the caller's."""
    both = {"name": "demo", "git_init": True, "repository": "https://example.com/x"}

    assert "ConflictError" == error_of(tools("project_create", both))


def test_nothing_is_left_of_a_project_whose_image_cannot_be_pulled(tools: Tools) -> None:
    """Its name can be used again at once."""
    tools.bench.registry.withdraw("registry.example.com/base:1")
    result = tools("project_create", {"name": "demo", "container_type": "base"})

    assert "ImagePullError" == error_of(result)
    assert () == tools.bench.app.projects.list()


class _NoStart:
    """A wrapper that keeps containers from being started."""

    @hookimpl(wrapper=True)
    def start(self, container: str) -> Generator[None, ContainerInfo, ContainerInfo]:
        """Fail."""
        yield
        raise ImagePullError("not today", reason="other", subject=container)


def test_nothing_is_left_of_a_project_whose_container_cannot_be_started(tools: Tools) -> None:
    """Not even when everything else had been made."""
    failing = Tools(bench=tools.bench, parts=Parts.of(tools.bench.open(wrapper=_NoStart())))
    result = failing("project_create", {"name": "demo"})

    assert "not today" in text_of(result)
    assert () == tools.bench.app.projects.list()
    assert () == tools.bench.app.runtime.list_containers()


def test_to_create_a_project_again_makes_no_second_one(tools: Tools) -> None:
    """A client that lost the answer may repeat its call: the name is what tells the two apart."""
    first = data_of(tools("project_create", {"name": "demo"}))
    again = tools("project_create", {"name": "demo"})

    assert "ConflictError" == error_of(again)
    assert first["project"]["id"] == data_of(tools("project_get", DEMO))["project"]["id"]
    assert 1 == len(tools.bench.app.runtime.list_containers())


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": "taken"}, "ConflictError"),
        ({"name": "new", "repository": "https://user:geheimnis@example.com/x"}, "InvalidValueError"),
        ({"name": "new", "git_init": True, "repository": "https://example.com/x"}, "ConflictError"),
    ],
)
def test_no_image_is_pulled_for_a_project_that_cannot_be_made(
    tools: Tools, arguments: dict[str, object], error: str
) -> None:
    """Gigabytes later its caller would hear that the name is taken."""
    tools.bench.app.projects.create("taken")
    result = tools("project_create", arguments)

    assert error == error_of(result)
    assert not tools.bench.app.runtime.exists("registry.example.com/base:1")


def test_options_say_what_there_is_to_choose_from(tools: Tools) -> None:
    """Types with their images and whether these are here, limits, and what the runtime can do."""
    options = data_of(tools("project_options"))
    types = {each["name"]: (each["image"], each["present"], each["default"]) for each in options["types"]}

    assert {"base": ("registry.example.com/base:1", False, True), "dev": ("dev:latest", True, False)} == types
    assert ("fake", True) == (options["runtime"]["name"], options["runtime"]["available"])
    assert "user" in options["runtime"]["capabilities"]
    assert "add_capabilities" in options["runtime"]["not_enforced"]
    assert 600.0 == options["limits"]["exec_time"]


def test_options_and_projects_are_told_without_an_engine(tools: Tools) -> None:
    """One that is down hides nothing that needs none, and is named as the problem."""
    tools.bench.start("demo")
    tools.bench.engine.go_away()
    options = data_of(tools("project_options"))
    project = data_of(tools("project_get", DEMO))

    assert (False, None) == (options["runtime"]["available"], options["types"][0]["present"])
    assert options["runtime"]["problem"]
    assert ["demo"] == [each["name"] for each in data_of(tools("project_list"))["projects"]]
    assert ("unknown", "demo") == (project["state"], project["project"]["name"])
    assert project["problem"]


def test_a_container_is_stopped_and_started_again(tools: Tools) -> None:
    """Twice is as good as once."""
    tools.bench.start("demo")
    stopped = [data_of(tools("container_stop", DEMO))["state"] for _ in range(2)]
    started = [data_of(tools("container_start", DEMO))["state"] for _ in range(2)]

    assert ["exited", "exited"] == stopped
    assert ["running", "running"] == started


def test_a_list_can_leave_out_what_does_not_run(tools: Tools) -> None:
    """Every project is in the whole list, with or without a container."""
    tools.bench.start("demo")
    tools.bench.app.projects.create("idle")
    states = {each["project"]["name"]: each["state"] for each in data_of(tools("container_list"))["containers"]}
    running = data_of(tools("container_list", {"running_only": True}))["containers"]

    assert {"demo": "running", "idle": "absent"} == states
    assert ["demo"] == [each["project"]["name"] for each in running]


def test_a_refresh_takes_the_newest_image(tools: Tools) -> None:
    """By project, and by type."""
    tools.bench.start("demo")
    tools.bench.registry.publish("registry.example.com/base:1", "2")
    (first,) = data_of(tools("container_refresh", DEMO))["projects"]
    (again,) = data_of(tools("container_refresh", {"container_type": "base", "if_changed": True}))["projects"]

    assert (True, True) == (first["refreshed"], first["image_changed"])
    assert (False, False) == (again["refreshed"], again["image_changed"])
    assert first["image_id"] == again["image_id"]


@pytest.mark.parametrize("arguments", [{}, {**DEMO, "container_type": "base"}])
def test_a_refresh_is_of_a_project_or_of_a_type(tools: Tools, arguments: dict[str, str]) -> None:
    """Neither and both are mistakes."""
    tools.bench.start("demo")

    assert "InvalidSpecError" == error_of(tools("container_refresh", arguments))


def test_a_refresh_of_a_type_reports_each_project(tools: Tools) -> None:
    """One that is at work keeps its container, and does not keep the others from theirs."""
    for name in ("busy", "free"):
        tools.bench.start(name)
    command = {"project_id": "busy", "command": ["sleep", "60"], "background": True}
    exec_id = data_of(tools("container_exec", command))["exec_id"]
    outcomes = data_of(tools("container_refresh", {"container_type": "base"}))["projects"]

    assert {"busy": (False, [exec_id]), "free": (True, [])} == {
        each["project_name"]: (each["refreshed"], each["sessions"]) for each in outcomes
    }
    assert exec_id in text_of(tools("container_refresh", {"project_id": "busy"}))


def test_logs_are_the_last_lines(tools: Tools) -> None:
    """Of the main process."""
    tools.bench.start("demo")
    output = data_of(tools("container_logs", {**DEMO, "tail": 5}))

    assert ("", False) == (output["output"], output["truncated"])
    assert "InvalidSpecError" == error_of(tools("container_logs", {**DEMO, "since": "yesterday"}))


def test_a_command_gets_what_it_was_given(tools: Tools) -> None:
    """Input, variables and directory; and output past the limit is said to be dropped."""
    tools.bench.start("demo")
    script = "cat; echo $WHO; pwd"
    given = {"command": ["sh", "-c", script], "stdin": "in\n", "env": {"WHO": "me"}, "workdir": "/tmp"}  # noqa: S108
    whole = data_of(tools("container_exec", {**DEMO, **given}))
    short = data_of(tools("container_exec", {**DEMO, **given, "output_limit": 4}))

    assert ("in\nme\n/tmp\n", False) == (whole["stdout"], whole["truncated"])
    assert ("in\nm", True) == (short["stdout"], short["truncated"])


def test_a_command_past_its_deadline_is_killed(tools: Tools) -> None:
    """That is a result, with what it printed."""
    tools.bench.start("demo")
    arguments = {**DEMO, "command": ["sh", "-c", "echo begun; sleep 60"], "timeout": 0.3}
    result = data_of(tools("container_exec", arguments))

    assert (None, True, True, "begun\n") == (
        result["exit_code"],
        result["timed_out"],
        result["killed"],
        result["stdout"],
    )


def test_a_command_that_is_not_there_is_an_error(tools: Tools) -> None:
    """In the foreground and in the background: its caller hears of it at once."""
    tools.bench.start("demo")
    for background in (False, True):
        arguments = {**DEMO, "command": ["no-such-program"], "background": background}
        assert "CommandNotFoundError" == error_of(tools("container_exec", arguments))

    assert () == tools.bench.app.sessions.active()


def test_nothing_is_run_where_nothing_runs(tools: Tools) -> None:
    """The hint names the tool that helps."""
    tools.bench.app.projects.create("demo")
    result = tools("container_exec", {**DEMO, "command": ["true"]})

    assert "ContainerNotFoundError" == error_of(result)
    assert "Hint: Start it: container_start demo" in text_of(result)


def test_a_background_command_is_watched_and_cancelled(tools: Tools) -> None:
    """It counts as active, so that its container stays, until it is over."""
    tools.bench.start("demo")
    command = {**DEMO, "command": ["sh", "-c", "echo begun; sleep 60"], "background": True}
    exec_id = data_of(tools("container_exec", command))["exec_id"]
    state = data_of(tools("exec_get", {"exec_id": exec_id}))["state"]
    refusals = [error_of(tools(name, DEMO)) for name in ("container_stop", "container_refresh", "project_delete")]
    cancelled = data_of(tools("exec_cancel", {"exec_id": exec_id}))

    assert "running" == state
    assert ["ActiveSessionsError"] * 3 == refusals
    assert ("ended", True, True, "begun\n") == (
        cancelled["state"],
        cancelled["cancelled"],
        cancelled["killed"],
        cancelled["stdout"],
    )
    assert "exited" == data_of(tools("container_stop", DEMO))["state"]


def test_a_refusal_says_with_which_tool_to_end_what_is_at_work(tools: Tools) -> None:
    """The hints of the services name commands, which a client of tools does not have."""
    tools.bench.start("demo")
    tools("container_exec", {**DEMO, "command": ["sleep", "60"], "background": True})

    assert text_of(tools("container_stop", DEMO)).endswith("Hint: End them first: exec_cancel")


def test_a_background_command_that_ends_has_its_result(tools: Tools) -> None:
    """As one in the foreground has."""
    tools.bench.start("demo")
    command = {**DEMO, "command": ["sh", "-c", "echo done; exit 7"], "background": True}
    exec_id = data_of(tools("container_exec", command))["exec_id"]
    result = data_of(tools("exec_cancel", {"exec_id": exec_id}))

    assert ("ended", 7, "done\n") == (result["state"], result["exit_code"], result["stdout"])
    assert result == data_of(tools("exec_get", {"exec_id": exec_id}))


def test_a_token_is_made_listed_and_revoked(tools: Tools) -> None:
    """Its secret is shown once."""
    made = data_of(tools("token_create", {"name": "ci", "scopes": ["admin:ro"], "expires_in_days": 1}))
    listed = tools("token_list")
    works = data_of(tools("project_list", token=made["secret"]))
    revoked = data_of(tools("token_revoke", {"token": "ci"}))

    assert {"projects": []} == works
    assert made["secret"] not in text_of(listed) + str(listed.structured_content)
    assert made["token"]["id"] == revoked["token"]["id"]
    assert {"tokens": []} == data_of(tools("token_list"))


def test_a_deleted_project_is_gone_with_its_container(tools: Tools) -> None:
    """The workspace can be kept."""
    workspace = tools.bench.start("demo").project.workspace
    (workspace / "kept").touch()
    deleted = data_of(tools("project_delete", {**DEMO, "keep_workspace": True}))

    assert str(workspace) == deleted["workspace_kept_at"]
    assert (workspace / "kept").exists()
    assert "ProjectNotFoundError" == error_of(tools("project_get", DEMO))
    assert () == tools.bench.app.runtime.list_containers()


class _Bug:
    """A wrapper with a bug in it."""

    @hookimpl(wrapper=True)
    def list_containers(self, labels: object) -> Generator[None, object, object]:
        """Fail as no backend should."""
        yield
        raise ZeroDivisionError(f"secret path /root/x {labels}")


def test_a_bug_is_masked(tools: Tools, caplog: pytest.LogCaptureFixture) -> None:
    """Its text is in the log, and not with the client."""
    buggy = Tools(bench=tools.bench, parts=Parts.of(tools.bench.open(wrapper=_Bug())))
    result = buggy("container_list")

    assert "container_list failed by an internal error; the server's log has the details" == text_of(result)
    assert "secret" not in str(result.meta)
    assert "secret path /root/x" in caplog.text


def test_the_command_line_and_the_server_see_what_the_other_does(tools: Tools) -> None:
    """They share records, locks and sessions: here are two programs with one home."""
    other = tools.bench.open()
    data_of(tools("project_create", {"name": "demo"}))
    other.containers.stop("demo")
    state = data_of(tools("project_get", DEMO))["state"]
    data_of(tools("container_start", DEMO))
    command = {**DEMO, "command": ["sleep", "60"], "background": True}
    exec_id = data_of(tools("container_exec", command))["exec_id"]

    assert ContainerStatus.EXITED.value == state
    assert (exec_id,) == other.containers.get("demo").sessions
