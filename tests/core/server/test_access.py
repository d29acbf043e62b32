"""Who may call what: one table over all tools and all scopes, so that no new tool can be forgotten."""

from __future__ import annotations

from typing import Any

import pytest

from oubliette_core.server.tools import TOOLS
from tests.core.server.conftest import Tools, data_of, error_of, text_of

OK = "ok"
DENIED = "AccessDeniedError"
NO_PROJECT = "ProjectNotFoundError"
NO_SESSION = "SessionNotFoundError"
SCOPES = ("admin", "admin:ro", "project:mine", "project:mine:ro", "project:other", "project:other:ro")

READS_ANYTHING = (OK, OK, OK, OK, OK, OK)
ABOVE_READS = (OK, OK, DENIED, DENIED, DENIED, DENIED)
ABOVE_WRITES = (OK, DENIED, DENIED, DENIED, DENIED, DENIED)
READS_MINE = (OK, OK, OK, OK, NO_PROJECT, NO_PROJECT)
WRITES_MINE = (OK, DENIED, OK, DENIED, NO_PROJECT, NO_PROJECT)
READS_SESSION = (OK, OK, OK, OK, NO_SESSION, NO_SESSION)
WRITES_SESSION = (OK, DENIED, OK, DENIED, NO_SESSION, NO_SESSION)

MINE = {"project_id": "mine"}
SESSION = {"session_id": "AT WORK"}
TABLE: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "project_create": ({"name": "new", "start": False}, ABOVE_WRITES),
    "project_list": ({}, READS_ANYTHING),
    "project_get": (MINE, READS_MINE),
    "project_delete": (MINE, WRITES_MINE),
    "project_options": ({}, READS_ANYTHING),
    "container_start": (MINE, WRITES_MINE),
    "container_stop": (MINE, WRITES_MINE),
    "container_list": ({}, READS_ANYTHING),
    "container_logs": (MINE, READS_MINE),
    "container_refresh": (MINE, WRITES_MINE),
    "container_exec": ({**MINE, "command": ["true"]}, WRITES_MINE),
    "exec_get": ({"exec_id": "RUNNING"}, READS_SESSION),
    "exec_cancel": ({"exec_id": "RUNNING"}, WRITES_SESSION),
    "session_spawn": (MINE, WRITES_MINE),
    "session_message": ({**MINE, "text": "hello"}, WRITES_MINE),
    "session_get": (SESSION, READS_SESSION),
    "session_list": ({}, READS_ANYTHING),
    "session_events": (SESSION, READS_SESSION),
    "session_permission": ({**SESSION, "question_id": "ASKED", "option_id": "once"}, WRITES_SESSION),
    "session_cancel": (SESSION, WRITES_SESSION),
    "session_end": (SESSION, WRITES_SESSION),
    "token_create": ({"name": "new", "scopes": ["project:mine:ro"]}, ABOVE_WRITES),
    "token_list": ({}, ABOVE_READS),
    "token_revoke": ({"token": "spare"}, ABOVE_WRITES),
}


def test_the_table_has_every_tool() -> None:
    """A tool that is not in it fails here, and its author has to say who may call it."""
    assert set(TOOLS) == set(TABLE)


def _outcome(tools: Tools, name: str, arguments: dict[str, Any], secret: str) -> str:
    result = tools(name, arguments, token=secret)
    return error_of(result) if result.is_error else OK


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("name", sorted(TABLE))
def test_a_token_reaches_what_its_scope_says_and_nothing_else(tools: Tools, name: str, scope: str) -> None:
    """Each tool with each scope: a token for reading changes nothing, one of a project sees no other."""
    for project in ("mine", "other"):
        tools.bench.start(project)
    tools.bench.app.tokens.create("spare", ["admin"])
    arguments, outcomes = TABLE[name]
    if "exec_id" in arguments:
        command = {**MINE, "command": ["sleep", "60"], "background": True}
        arguments = {"exec_id": data_of(tools("container_exec", command))["exec_id"]}
    if "session_id" in arguments:
        asked = data_of(tools("session_message", {**MINE, "text": "ask"}))["session"]
        arguments = {**arguments, "session_id": asked["id"]}
        if "question_id" in arguments:
            arguments["question_id"] = asked["questions"][0]["id"]
    expected = outcomes[SCOPES.index(scope)]

    assert expected == _outcome(tools, name, arguments, tools.token(scope))


@pytest.mark.parametrize("name", sorted(TABLE))
def test_what_writes_is_what_a_token_for_reading_does_not_do_for(name: str) -> None:
    """The annotations that clients trust are those that the check goes by."""
    outcomes = TABLE[name][1]

    assert (outcomes[SCOPES.index("admin:ro")] == DENIED) == TOOLS[name].writes


@pytest.mark.parametrize("reference", ["ID", "PREFIX", "NAME", "UPPER"])
def test_another_project_looks_like_a_missing_one(tools: Tools, reference: str) -> None:
    """Word for word, whatever it is named by: nobody learns that it exists."""
    tools.bench.start("mine")
    other = tools.bench.start("other").project
    names = {"ID": other.id, "PREFIX": other.id[:12], "NAME": "other", "UPPER": "OTHER"}
    secret, given = tools.token("project:mine"), names[reference]
    hidden = tools("container_exec", {"project_id": given, "command": ["true"]}, token=secret)
    tools("project_delete", {"project_id": other.id})
    missing = tools("container_exec", {"project_id": given, "command": ["true"]}, token=secret)

    assert text_of(missing) == text_of(hidden)
    assert missing.meta == hidden.meta


def test_a_beginning_that_fits_several_names_none_that_is_out_of_reach(tools: Tools) -> None:
    """The list of what a prefix fits would tell of other projects; of its own, a token may hear."""
    mine = tools.bench.start("mine").project
    tools.bench.start("other")
    found = tools("project_get", {"project_id": "proj_"}, token=tools.token("project:mine"))

    assert mine.id == data_of(found)["project"]["id"]
    assert "other" in text_of(tools("project_get", {"project_id": "proj_"}))


def test_lists_show_what_the_token_may_see(tools: Tools) -> None:
    """Projects and containers of others are not in them."""
    for project in ("mine", "other"):
        tools.bench.start(project)
    secret = tools.token("project:mine:ro")
    projects = data_of(tools("project_list", token=secret))["projects"]
    containers = data_of(tools("container_list", token=secret))["containers"]

    assert ["mine"] == [each["name"] for each in projects]
    assert ["mine"] == [each["project"]["name"] for each in containers]


def test_a_refresh_of_a_type_needs_a_token_for_all_projects(tools: Tools) -> None:
    """It reaches whatever project has the type."""
    tools.bench.start("mine")
    by_type = {"container_type": "base"}

    assert DENIED == error_of(tools("container_refresh", by_type, token=tools.token("project:mine")))
    assert DENIED == error_of(tools("container_refresh", by_type, token=tools.token("admin:ro")))
    assert data_of(tools("container_refresh", by_type, token=tools.token("admin")))["projects"]


def test_sessions_of_others_are_not_listed(tools: Tools) -> None:
    """Neither among all, nor when their project is named."""
    for project in ("mine", "other"):
        tools.bench.start(project)
        tools("session_spawn", {"project_id": project})
    secret = tools.token("project:mine:ro")
    listed = data_of(tools("session_list", token=secret))["sessions"]

    assert [tools.bench.app.projects.get("mine").id] == [each["project_id"] for each in listed]
    assert NO_PROJECT == error_of(tools("session_list", {"project_id": "other"}, token=secret))


def test_a_message_cannot_go_to_a_session_of_another_project(tools: Tools) -> None:
    """Not even where the token reaches both: the session would be in the wrong container."""
    for project in ("mine", "other"):
        tools.bench.start(project)
    session = data_of(tools("session_spawn", {"project_id": "other"}))["id"]
    message = {**MINE, "session_id": session, "text": "hello"}

    assert NO_SESSION == error_of(tools("session_message", message))
    assert NO_SESSION == error_of(tools("session_message", message, token=tools.token("project:mine")))


def test_a_command_of_another_kind_of_session_cannot_be_looked_at(tools: Tools) -> None:
    """Only what container_exec started is a command, and what is not there looks the same as what is hidden."""
    tools.bench.start("mine")
    result = tools("exec_get", {"exec_id": "exec_aaaaaaaaaaaa"})

    assert NO_SESSION == error_of(result)
    assert "there is no command 'exec_aaaaaaaaaaaa'" in text_of(result)
