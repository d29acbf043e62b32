"""Agent sessions through the installed server and the official MCP client, on each runtime's real commands.

The agent is a shell script that speaks the protocol: it runs in any image, and does what a message says.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest
from mcp import Client
from mcp_types import CallToolResult

from oubliette_core.testing.images import File
from tests.apple.installed import installed
from tests.core.server.conftest import data_of, error_of, text_of, until
from tests.core.services.conftest import AGENT_SCRIPT
from tests.e2e.mcp_home import Address, McpHome, mcp_home
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request
from tests.images import ImageMaker

pytestmark = pytest.mark.slow

KEY = "sk-geheimnis-0123456789"
DEMO = {"project_id": "demo"}
PROGRAM = "/usr/local/bin/test-agent"
SETTINGS = {
    "agents": {"test": {"command": [PROGRAM], "keys": {"acme": "TEST_KEY"}, "env": {"SHOWN": "${AGENT_SHOWN}"}}},
    "credentials": {"providers": {"acme": "${ACME_KEY}"}},
    "defaults": {"agent": {"name": "test", "model": "acme/large"}, "limits": {"session_log": "4m"}},
}


@attrs.frozen(kw_only=True)
class Place:
    """A home whose projects have the agent in their image, on one runtime."""

    home: McpHome
    images: ImageMaker

    def publish(self, version: str) -> str:
        """Put a version of the image into the registry; return its reference."""
        files = {
            PROGRAM: File(content=AGENT_SCRIPT.read_bytes(), mode=0o755),
            "/usr/local": File(mode=0o755),
            "/usr/local/bin": File(mode=0o755),
            "/etc/generation": version,
        }
        ordered = {name: files[name] for name in sorted(files)}
        return self.images.push("agent", files=ordered).reference


LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the embedded runtime needs Linux")


@pytest.fixture(params=["docker", "apple", pytest.param("embedded", marks=LINUX)])
def place(request: pytest.FixtureRequest, engine: Engine, images: ImageMaker, tmp_path: Path) -> Iterator[Place]:
    """A home on each runtime; Apple's command is emulated over the engine."""
    with contextlib.ExitStack() as stack:
        environ = {"ACME_KEY": KEY, "AGENT_SHOWN": "geheimes Wort", "CONTAINER_RUNTIME": request.param}
        if request.param == "apple":
            emulator = stack.enter_context(installed(tmp_path / "mac", engine.docker_host))
            environ["PATH"] = f"{emulator.bin}{os.pathsep}{os.environ['PATH']}"
        empty = McpHome(path=tmp_path, environ={})
        types = {"base": Place(home=empty, images=images).publish("one")}
        home = mcp_home(engine, tmp_path / "home", types, environ=environ, settings=SETTINGS)
        yield Place(home=stack.enter_context(home), images=images)


@attrs.frozen(kw_only=True)
class Talk:
    """A client of a server."""

    client: Client
    told: list[str] = attrs.field(factory=list)

    async def try_(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool, which may fail."""

        async def note(progress: float, total: float | None, message: str | None) -> None:
            self.told.append(message or "")

        return await self.client.call_tool(tool, {**DEMO, **arguments}, progress_callback=note)

    async def call(self, tool: str, **arguments: Any) -> Any:
        """Call a tool for the project."""
        return data_of(await self.try_(tool, **arguments))

    async def make(self, name: str, **arguments: Any) -> None:
        """Make a project."""
        data_of(await self.client.call_tool("project_create", {"name": name, **arguments}))

    async def of(self, tool: str, session: str, **arguments: Any) -> Any:
        """Call a tool for a session."""
        return data_of(await self.client.call_tool(tool, {"session_id": session, **arguments}))

    async def say(self, text: str, **arguments: Any) -> Any:
        """Give the agent a message, and wait for the end of its work."""
        return await self.call("session_message", text=text, wait=100, **arguments)

    async def end_of_turn(self, session: str, after: int) -> dict[str, Any]:
        """Wait for the event that ends a turn."""
        while True:
            page = await self.of("session_events", session, after=after, wait=60)
            assert page["events"], page["session"]
            after = page["next"]
            for event in page["events"]:
                if event["kind"] in ("completion", "error"):
                    return dict(event)

    async def events(self, session: str) -> list[dict[str, Any]]:
        """Read all events of a session, page by page."""
        found: list[dict[str, Any]] = []
        while page := (await self.of("session_events", session, after=len(found), limit=1000))["events"]:
            found += page
        return found


@contextlib.asynccontextmanager
async def talking(home: McpHome, address: Address) -> AsyncIterator[Talk]:
    """Connect to a server."""
    async with home.connect("http", address) as client:
        yield Talk(client=client)


def in_container(home: McpHome, pattern: str) -> list[str]:
    """List the processes in the project's container whose command matches."""
    listed = home("container", "exec", "demo", "--", "ps", "-o", "pid,args").splitlines()
    return [line for line in listed if re.search(pattern, line)]


@pytest.mark.timeout(240)
def test_a_conversation(place: Place) -> None:
    """Start with everything that is needed, three turns, a question, a cancel, a crash, a refresh: one day's work."""
    done: dict[str, Any] = {}

    async def job(home: McpHome, address: Address) -> None:
        async with talking(home, address) as talk:
            await talk.make("demo", start=False)
            done["turns"] = [await talk.say(text) for text in ("good morning", "hello again", "count")]
            session = done["turns"][0]["session"]["id"]
            done["told"] = list(talk.told)
            done["events"] = await talk.events(session)
            done["asked"] = await talk.say("ask")
            question = done["asked"]["session"]["questions"][0]
            answer = {"question_id": question["id"], "option_id": "once", "wait": 100}
            done["answered"] = await talk.of("session_permission", session, **answer)
            done["hanging"] = await talk.call("session_message", text="hang", wait=0)
            await talk.of("session_cancel", session)
            done["cancelled"] = await talk.end_of_turn(session, done["hanging"]["next"])
            done["crashed"] = await talk.say("crash")
            done["anew"] = await talk.say("count")
            second = done["anew"]["session"]["id"]
            done["refused"] = await talk.try_("container_refresh")
            place.publish("two")
            done["ended"] = await talk.of("session_end", second)
            done["refreshed"] = await talk.call("container_refresh")
            done["where"] = await talk.say("where")
            done["left"] = in_container(home, PROGRAM)
            await talk.of("session_end", done["where"]["session"]["id"])
            done["gone"] = in_container(home, PROGRAM)

    with place.home.served() as address:
        anyio.run(job, place.home, address)

    texts = ["You said: good morning.", "You said: hello again.", "First you said: good morning."]
    assert texts == [turn["message"] for turn in done["turns"]]
    assert {"total_tokens": 12, "input_tokens": 7, "output_tokens": 5} == done["turns"][2]["usage"]
    assert "You said: good morning." in "\n".join(done["told"])
    kinds = [event["kind"] for event in done["events"]]
    assert ["prompt", "thought", "tool_call", "tool_call_update", "message", "usage", "completion"] == kinds[:7]
    assert (False, "waiting") == (done["asked"]["over"], done["asked"]["session"]["state"])
    assert ("end_turn", "It is done.") == (done["answered"]["stop_reason"], done["answered"]["message"])
    assert "cancelled" == done["cancelled"]["data"]["stop_reason"]
    assert "agent test ended in the middle of its work (exit code 3)" == done["crashed"]["detail"]
    assert "First you said: count." == done["anew"]["message"]
    assert "ActiveSessionsError" == error_of(done["refused"])
    assert done["anew"]["session"]["id"] in text_of(done["refused"])
    assert "ended" == done["ended"]["state"]
    assert [True] == [each["image_changed"] for each in done["refreshed"]["projects"]]
    assert "two /workspace" == done["where"]["message"]
    assert 1 <= len(done["left"])
    assert [] == done["gone"]


@pytest.mark.timeout(240)
def test_a_server_that_is_killed_in_the_middle_of_a_turn(place: Place) -> None:
    """The next one kills what is left in the container, and goes on with the session."""
    done: dict[str, Any] = {}

    async def begin(home: McpHome, address: Address) -> None:
        async with talking(home, address) as talk:
            await talk.make("demo")
            done["first"] = await talk.say("remember this")
            await talk.say("child")
            done["working"] = await talk.call("session_message", text="stubborn", wait=2)
            done["before"] = len(in_container(home, PROGRAM)), len(in_container(home, "sleep 4321"))
            os.kill(address.pid, signal.SIGKILL)

    async def go_on(home: McpHome, address: Address) -> None:
        async with talking(home, address) as talk:
            session = done["first"]["session"]["id"]

            async def reaped() -> bool:
                return bool(not in_container(home, f"{PROGRAM}|sleep 4321"))

            done["seconds"] = await until(reaped, 20)
            done["lost"] = await talk.of("session_get", session)
            done["resumed"] = await talk.say("count")
            done["events"] = await talk.events(session)

    with place.home.served() as address:
        anyio.run(begin, place.home, address)
    with place.home.served() as address:
        anyio.run(go_on, place.home, address)

    assert (False, "running") == (done["working"]["over"], done["working"]["session"]["state"])
    assert (True, True) == (done["before"][0] > 0, done["before"][1] > 0)
    assert ("failed", "the process that drove it has died") == (done["lost"]["state"], done["lost"]["detail"])
    assert done["first"]["session"]["id"] == done["resumed"]["session"]["id"]
    assert "First you said: remember this." == done["resumed"]["message"]
    numbers = [event["number"] for event in done["events"]]
    assert list(range(1, len(numbers) + 1)) == numbers
    assert 1 == [event["kind"] for event in done["events"]].count("error")


@pytest.mark.timeout(300)
def test_ten_sessions_in_ten_projects_at_once(place: Place) -> None:
    """Ten thousand events, each where it belongs, in order, none lost."""
    names = [f"p{number}" for number in range(10)]
    found: dict[str, list[dict[str, Any]]] = {}

    async def begin(talk: Talk, name: str) -> None:
        await talk.make(name)
        await talk.call("session_spawn", project_id=name)

    async def one(talk: Talk, name: str) -> None:
        turn = await talk.say("flood 1000", project_id=name)
        found[name] = await talk.events(turn["session"]["id"])
        await talk.of("session_end", turn["session"]["id"])
        await talk.call("project_delete", project_id=name)

    async def job(home: McpHome, address: Address) -> None:
        async with talking(home, address) as talk:
            for work in (begin, one):
                async with anyio.create_task_group() as tasks:
                    for name in names:
                        tasks.start_soon(work, talk, name)

    with place.home.served() as address:
        anyio.run(job, place.home, address)

    odd = list(range(1, 1001, 2))
    for name in names:
        events = found[name]
        assert list(range(1, len(events) + 1)) == [event["number"] for event in events]
        calls = [event["data"]["id"] for event in events if event["kind"] == "tool_call_update"]
        texts = [event["data"]["text"] for event in events if event["kind"] == "message"]
        assert [f"call-{number}" for number in odd] == calls
        assert [f"{number} " for number in odd] == texts
    assert 10_000 <= sum(map(len, found.values()))


def test_no_secret_is_to_be_seen_anywhere(engine: Engine, place: Place) -> None:
    """Not among processes, in what the engine shows, in labels, logs, results or the database."""
    done: dict[str, Any] = {}
    seen: list[str] = []

    async def job(home: McpHome, address: Address) -> None:
        async with talking(home, address) as talk:
            await talk.make("demo")
            done["secret"] = await talk.say("secret")
            seen.append(json.dumps(await talk.events(done["secret"]["session"]["id"])))
            seen.append(_processes())
            seen.append(home("container", "exec", "demo", "--", "ps", "-o", "args"))
            seen.extend(_shown_by(engine))
            seen.append(home("project", "show", "demo", "--json"))

    with place.home.served() as address:
        anyio.run(job, place.home, address)
    files = [file for file in place.home.path.rglob("*") if file.is_file() and "cache" not in file.parts]
    kept = b"".join(file.read_bytes() for file in files if file.name != "oubliette.jsonc")

    assert "The key is ***, whole: ***." == done["secret"]["message"]
    assert [] == [text for text in seen if KEY in text or "geheimes Wort" in text]
    assert any(PROGRAM in text for text in seen)
    assert KEY.encode() not in kept


def _processes() -> str:
    """Return the command lines of all processes of this machine, those in containers too."""
    return subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout


def _shown_by(engine: Engine) -> Iterator[str]:
    """Yield what the engine shows of its containers and of the commands that run in them."""
    listed = json.loads(docker_request(engine.docker_host, "GET", "/containers/json")[1])
    for container in listed:
        status, shown = docker_request(engine.docker_host, "GET", f"/containers/{container['Id']}/json")
        if status != 200:
            continue
        yield shown.decode()
        for identity in json.loads(shown).get("ExecIDs") or ():
            yield docker_request(engine.docker_host, "GET", f"/exec/{identity}/json")[1].decode()
