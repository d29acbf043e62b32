"""``oubliette session`` and ``oubliette chat``, with the agent for tests on an engine in memory."""

from __future__ import annotations

import io
import json
import os
import threading
import time
from collections.abc import Iterator

import pytest

from oubliette_core.agents import AgentHost
from oubliette_core.app import App
from oubliette_core.cli.output import Output
from oubliette_core.cli.root import run
from oubliette_core.config import Home, load_config
from oubliette_core.services.records import EventKind
from oubliette_core.testing.fake import FakeEngine
from tests.core.cli.conftest import BASE, CommandLine
from tests.core.services.conftest import AGENT, AGENT_SCRIPT

CONFIG = {
    "runtime": "fake",
    "containers": {"base": BASE},
    "agents": {"test": {"command": list(AGENT)}},
    "defaults": {"agent": {"name": "test"}},
}


@pytest.fixture
def ready(oubliette: CommandLine, fake: FakeEngine) -> CommandLine:
    """The command line with a project ``demo``, in whose image the agent is."""
    fake.registry.publish(BASE, files={AGENT[1]: AGENT_SCRIPT.read_bytes()})
    oubliette.configure(json.dumps(CONFIG))
    Home(path=oubliette.home).create()
    assert 0 == oubliette("project", "create", "demo").code
    return oubliette


@pytest.fixture
def server(ready: CommandLine) -> Iterator[AgentHost]:
    """The agents of another process."""
    home = Home(path=ready.home)
    with App(home, load_config(home, environ={})) as app, AgentHost(app) as host:
        yield host


def test_a_message_is_worked_on_and_shown(ready: CommandLine) -> None:
    """What the agent says is data; what it does and how it ended is said about it."""
    result = ready("session", "message", "demo", "good", "morning")

    assert (0, "You said: good morning.\n") == (result.code, result.stdout)
    assert "[read: Look around] pending" in result.stderr
    assert "(end_turn; tokens: 7 in, 5 out)" in result.stderr


def test_the_next_message_goes_on_with_the_session(ready: CommandLine) -> None:
    """Although the command that drove it has ended; unless a new one is wanted."""
    first = json.loads(ready("session", "message", "demo", "hello", "--json").stdout)
    second = json.loads(ready("session", "message", "demo", "--json", "count").stdout)
    third = json.loads(ready("session", "message", "demo", "--json", "--new", "count").stdout)

    assert first["session"]["id"] == second["session"]["id"] != third["session"]["id"]
    assert ["First you said: hello.", "First you said: count."] == [second["message"], third["message"]]
    assert ("end_turn", {"total_tokens": 12, "input_tokens": 7, "output_tokens": 5}) == (
        first["stop_reason"],
        first["usage"],
    )


def test_a_message_can_be_piped_in(ready: CommandLine) -> None:
    """Where it is a dash."""
    assert "You said: piped in" in ready("session", "message", "demo", "-", answer="piped in").stdout
    assert 2 == ready("session", "message", "demo", " ").code


@pytest.mark.parametrize(
    ("answer", "said"), [("2\n", "It is done."), ("no\n", "Then not."), ("x\n\n1\n", "It is done.")]
)
def test_what_is_asked_is_asked_on_the_terminal(ready: CommandLine, answer: str, said: str) -> None:
    """By number or by name, until it is an answer."""
    result = ready("session", "message", "demo", "ask", answer=answer)

    assert (0, f"{said}\n") == (result.code, result.stdout)
    assert "execute: rm -rf build" in result.stderr
    assert "1 Always, 2 Once, 3 No: " in result.stderr


def test_where_nobody_can_be_asked_the_work_is_stopped(ready: CommandLine) -> None:
    """With what to do about it."""
    result = ready("session", "message", "demo", "ask")
    allowed = ready("session", "message", "demo", "ask", "--autonomy", "high")

    assert 130 == result.code
    assert "nobody answers what the agent asks (execute: rm -rf build)" in result.stderr
    assert "--autonomy high" in result.stderr
    assert (0, "It is done.\n") == (allowed.code, allowed.stdout)


def test_a_failure_is_one_line_and_a_code(ready: CommandLine) -> None:
    """Of the agent, in its work or at its start; with its last words."""
    crashed = ready("session", "message", "demo", "crash")
    refused = ready("session", "message", "demo", "refuse")
    unknown = ready("session", "message", "demo", "hello", "--agent", "nobody")

    assert 1 == crashed.code
    assert "error: agent test ended in the middle of its work (exit code 3)" in crashed.stderr
    assert "it broke: no such thing" in crashed.stderr
    assert (1, 2) == (refused.code, unknown.code)
    assert "error: Internal error: the model is on strike" in refused.stderr
    assert "there is no agent 'nobody'" in unknown.stderr


def test_sessions_are_listed_and_shown(ready: CommandLine, server: AgentHost) -> None:
    """Those at work by themselves; all with --all; a project stands for its latest one."""
    ready("session", "message", "demo", "hello")
    over = ready("session", "list")
    listed = json.loads(ready("session", "list", "--all", "--json").stdout)
    session = server.spawn(server._app.projects.get("demo"))
    at_work = ready("session", "list", "demo").stdout
    shown = ready("session", "show", "demo")
    as_json = json.loads(ready("session", "show", session.id, "--json").stdout)

    assert "No agent sessions are at work (1 over: --all shows them)." in over.stderr
    assert [("test", True)] == [(each["agent"], each["resumable"]) for each in listed]
    assert session.id in at_work
    assert "idle" in at_work
    assert session.id in shown.stdout
    assert ("idle", 1) == (as_json["state"], as_json["first_event"])
    assert 4 == ready("session", "show", "ses_aaaaaaaaaaaa").code


def test_events_are_printed(ready: CommandLine) -> None:
    """As people read them, or one JSON object a line; from where one wants."""
    ready("session", "message", "demo", "hello")
    words = ready("session", "events", "demo")
    lines = [json.loads(line) for line in ready("session", "events", "demo", "--json").stdout.splitlines()]
    rest = ready("session", "events", "demo", "--json", "--after", "5").stdout.splitlines()

    assert "> hello" in words.stderr
    assert "You said: hello.\n" == words.stdout
    assert list(range(1, 8)) == [line["number"] for line in lines]
    assert ["prompt", "thought", "tool_call", "tool_call_update", "message", "usage", "completion"] == [
        line["kind"] for line in lines
    ]
    assert 2 == len(rest)


def test_events_of_another_process_are_followed_to_the_end(ready: CommandLine, server: AgentHost) -> None:
    """As they come, until the session is over."""
    session = server.spawn(server._app.projects.get("demo"))
    results = []
    follower = threading.Thread(
        target=lambda: results.append(ready("session", "events", session.id, "--follow", "--json"))
    )
    follower.start()
    number = server.message(session, "hello")
    server.follow(session.id, number, wait=30)
    server.end(session)
    follower.join(30)
    (result,) = results
    kinds = [json.loads(line)["kind"] for line in result.stdout.splitlines()]

    assert (0, "completion") == (result.code, kinds[-1])


def test_a_message_goes_to_the_agent_of_a_server(ready: CommandLine, server: AgentHost) -> None:
    """Which keeps it: this command starts none of its own."""
    session = server.spawn(server._app.projects.get("demo"))
    result = json.loads(ready("session", "message", "demo", "hello", "--json").stdout)

    assert session.id == result["session"]["id"]
    assert "idle" == result["session"]["state"]
    assert (session.id,) == server.live


def test_sessions_of_others_are_ended(ready: CommandLine, server: AgentHost) -> None:
    """By their id."""
    session = server.spawn(server._app.projects.get("demo"))
    ended = ready("session", "end", session.id)

    assert (0, f"Session {session.id} is over: ended by the user\n") == (ended.code, ended.stdout)
    assert () == server.live


@pytest.mark.parametrize("command", [("container", "stop"), ("container", "refresh"), ("project", "delete", "--yes")])
def test_what_would_end_a_session_is_refused_unless_it_may(
    ready: CommandLine, server: AgentHost, command: tuple[str, ...]
) -> None:
    """The refusal lists what is at work; --end-sessions ends it first."""
    session = server.spawn(server._app.projects.get("demo"))
    refused = ready(*command, "demo")
    done = ready(*command, "demo", "--end-sessions")

    assert 5 == refused.code
    assert f"at work in it: {session.id} (test)" in refused.stderr
    assert "--end-sessions" in refused.stderr
    assert 0 == done.code, done.stderr
    assert () == server.live


def test_all_containers_can_be_stopped_with_what_is_at_work(ready: CommandLine, server: AgentHost) -> None:
    """In one command."""
    server.spawn(server._app.projects.get("demo"))
    done = ready("container", "stop", "--all", "--end-sessions")

    assert (0, "demo: stopped\n") == (done.code, done.stdout)


def test_a_chat_is_a_conversation(ready: CommandLine) -> None:
    """Line by line until the end of input; a crash does not end it."""
    typed = "hello\n\ncount\ncrash\ncount\\\nmore\n"
    result = ready("chat", "demo", answer=typed)
    said = [line for line in result.stdout.splitlines() if line]

    assert 0 == result.code
    assert ["You said: hello.", "First you said: hello.", "Watch this.", "You said: count", "more."] == said
    assert "ended in the middle of its work (exit code 3)" in result.stderr
    assert "The next message begins anew." in result.stderr


def test_what_an_agent_says_cannot_steer_the_terminal(ready: CommandLine, server: AgentHost) -> None:
    """It may be hostile, and so may be what it read."""
    session = server.spawn(server._app.projects.get("demo"))
    server.follow(session.id, server.message(session, "\x1b[31mred\x07"), wait=30)
    shown = ready("session", "events", "demo")

    assert "\x1b" not in shown.stdout + shown.stderr
    assert "\\x1b[31mred" in shown.stderr


def test_work_that_is_stopped_ends_the_command_and_not_the_session(ready: CommandLine, server: AgentHost) -> None:
    """From wherever it is stopped; the code is that of an interrupted command."""
    session = server.spawn(server._app.projects.get("demo"))
    results = []
    talker = threading.Thread(target=lambda: results.append(ready("session", "message", "demo", "hang")))
    talker.start()
    deadline = time.monotonic() + 30
    while not [each for each in server._app.events.read(session.id) if each.kind is EventKind.MESSAGE]:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.cancel(session)
    talker.join(30)

    assert [130] == [result.code for result in results]
    assert (session.id,) == server.live


def test_on_a_terminal_styles_tell_what_is_said_from_what_is_done(
    ready: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else gets there: no escape sequence of an agent's."""
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    master, slave = os.openpty()
    with os.fdopen(slave, "w", encoding="utf-8") as terminal, os.fdopen(master, "rb", buffering=0) as screen:
        environ = {**ready.environ, "TERM": "xterm-256color"}
        output = Output(environ, stdin=io.StringIO(), stdout=terminal, stderr=terminal)
        code = run(["session", "message", "demo", "hello \x1b[2J"], environ, output)
        terminal.flush()
        shown = screen.read(65536).decode()

    assert 0 == code
    assert "You said: hello" in shown
    assert "\x1b[36m[read: Look around] pending\x1b[0m" in shown
    assert "\x1b[2J" not in shown
