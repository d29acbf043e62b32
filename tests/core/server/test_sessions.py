"""What the tools for agent sessions do, and how they fail. What agents do is tested where they are."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from mcp import Client

from oubliette_core.server.serving import Parts
from oubliette_core.services.records import SessionState
from tests.core.server.conftest import Served, Tools, data_of, error_of, text_of

DEMO = {"project_id": "demo"}


@pytest.fixture(autouse=True)
def project(tools: Tools) -> None:
    """The project ``demo``, without a container."""
    tools.bench.app.projects.create("demo")


def _say(tools: Tools, text: str, **arguments: Any) -> dict[str, Any]:
    return data_of(tools("session_message", {**DEMO, "text": text, "wait": 30.0, **arguments}))


def test_a_message_is_all_it_takes(tools: Tools) -> None:
    """Image, container and agent come by themselves, and the answer with its usage."""
    turn = _say(tools, "hello")

    assert ("end_turn", "You said: hello.", True) == (turn["stop_reason"], turn["message"], turn["over"])
    assert 12 == turn["usage"]["total_tokens"]
    assert ("idle", "test") == (turn["session"]["state"], turn["session"]["agent"])


def test_people_read_what_the_agent_said_and_what_comes_next(tools: Tools) -> None:
    """At the end, at a question, and while it goes on."""
    said = text_of(tools("session_message", {**DEMO, "text": "hello"}))
    asked = text_of(tools("session_message", {**DEMO, "text": "ask"}))
    session = data_of(tools("session_list", DEMO))["sessions"][0]
    tools("session_cancel", {"session_id": session["id"]})
    other = text_of(tools("session_message", {**DEMO, "text": "hang", "wait": 0.0, "new_session": True}))

    assert "You said: hello." in said
    assert "end_turn; tokens: 7 in, 5 out" in said
    assert "asks before it goes on (answer with session_permission)" in asked
    assert "execute: rm -rf build" in asked
    assert "is at work; follow it with session_events" in other


def test_a_question_is_answered_and_its_end_waited_for(tools: Tools) -> None:
    """One call each."""
    asked = _say(tools, "ask")
    (question,) = asked["session"]["questions"]
    of = {"session_id": asked["session"]["id"], "question_id": question["id"]}
    wrong = tools("session_permission", {**of, "option_id": "maybe"})
    done = data_of(tools("session_permission", {**of, "option_id": "once"}))
    again = tools("session_permission", {**of, "option_id": "once"})

    assert "there are: always, once, no" in text_of(wrong)
    assert ("end_turn", "It is done.") == (done["stop_reason"], done["message"])
    assert ("ConflictError", asked["turn"]) == (error_of(again), done["turn"])


def test_events_are_read_page_by_page(tools: Tools) -> None:
    """Where one ends, the next begins; a wait without news ends in time."""
    turn = _say(tools, "hello")
    of = {"session_id": turn["session"]["id"]}
    first = data_of(tools("session_events", {**of, "limit": 3}))
    rest = data_of(tools("session_events", {**of, "after": first["next"]}))
    none = data_of(tools("session_events", {**of, "after": rest["next"], "wait": 0.2}))

    assert [1, 2, 3] == [event["number"] for event in first["events"]]
    assert [4, 5, 6, 7] == [event["number"] for event in rest["events"]]
    assert ([], rest["next"], 1) == (none["events"], none["next"], none["first_kept"])


def test_a_session_keeps_its_container(tools: Tools) -> None:
    """The refusal names it, and the tool that ends it."""
    session = _say(tools, "hello")["session"]["id"]
    refused = tools("container_refresh", DEMO)
    data_of(tools("session_end", {"session_id": session}))

    assert "ActiveSessionsError" == error_of(refused)
    assert session in text_of(refused)
    assert "End them first: session_end" in text_of(refused)
    assert data_of(tools("container_refresh", DEMO))["projects"][0]["refreshed"]
    assert session != _say(tools, "hello")["session"]["id"]


def test_a_session_that_is_named_takes_no_settings(tools: Tools) -> None:
    """They are for one that begins."""
    session = _say(tools, "hello")["session"]["id"]
    both = tools("session_message", {**DEMO, "text": "x", "session_id": session, "autonomy": "high"})
    again = _say(tools, "count", session_id=session)

    assert "InvalidSpecError" == error_of(both)
    assert (session, "First you said: hello.") == (again["session"]["id"], again["message"])


def test_an_agent_that_cannot_be_started_is_told_with_what_it_printed(tools: Tools) -> None:
    """And what to do."""
    data_of(tools("project_create", {"name": "other", "container_type": "dev", "start": False}))
    result = tools("session_message", {"project_id": "other", "text": "hello"})

    assert "AgentError" == error_of(result)
    assert "agent test could not be started" in text_of(result)
    assert "Its last output:" in text_of(result)


def test_sessions_are_listed(tools: Tools) -> None:
    """The newest first; those at work alone where that is asked for."""
    first = _say(tools, "hello")["session"]["id"]
    tools("session_end", {"session_id": first})
    second = _say(tools, "hello")["session"]["id"]

    def listed(**arguments: Any) -> list[str]:
        return [each["id"] for each in data_of(tools("session_list", arguments))["sessions"]]

    assert [second, first] == listed()
    assert [second] == listed(active_only=True) == listed(limit=1)
    assert [second, first] == listed(project_id="demo")


def test_who_waits_is_told_what_happens(served: Served) -> None:
    """As progress, in words."""
    served.bench.app.projects.create("told")
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def job(client: Client) -> None:
        arguments = {"project_id": "told", "text": "hello"}
        data_of(await client.call_tool("session_message", arguments, progress_callback=note))

    served.run("auto", job)

    assert "You said: hello." in "\n".join(told)
    assert "[read: Look around] pending" in "\n".join(told)


def test_a_server_that_stops_sets_its_sessions_aside(tools: Tools) -> None:
    """The next one goes on with them, in the middle of a turn too."""
    session = _say(tools, "remember me")["session"]["id"]
    hanging = _say(tools, "hang", wait=0.0)
    anyio.run(tools.parts.drain)
    stopped = tools.bench.app.sessions.get(session)
    parts = Parts.of(tools.bench.app)
    resumed = _say(Tools(bench=tools.bench, parts=parts), "count")
    parts.dispatcher.agents.close()

    assert not hanging["over"]
    assert (SessionState.ENDED, True) == (stopped.state, stopped.resumable)
    assert (session, "First you said: remember me.") == (resumed["session"]["id"], resumed["message"])


def test_the_sessions_of_a_server_are_counted(tools: Tools) -> None:
    """For whoever watches it."""
    _say(tools, "hello")

    assert b"oubliette_agent_sessions 1.0" in tools.parts.metrics.text()
