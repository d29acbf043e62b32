"""The whole main job through the official MCP client, on a real engine and registry, over each transport and era."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import CallToolResult

from oubliette_core.config import Home
from oubliette_core.server import instance
from oubliette_core.testing.faults import Slow, Stalled
from oubliette_core.testing.images import random_layer
from oubliette_core.testing.registry import FaultRegistry
from tests.core.server.conftest import SINGLE, data_of, drop, error_of, exec_request, single, text_of, until, wait_for
from tests.e2e.mcp_home import SCRIPT, TRANSPORTS, Address, McpHome, mcp_home
from tests.engine import Engine
from tests.images import ImageMaker

pytestmark = pytest.mark.slow


@pytest.fixture
def home(engine: Engine, images: ImageMaker, tmp_path: Path) -> Iterator[McpHome]:
    """A home with the types ``base`` and ``ml``, whose images are in the registry."""
    types = {name: images.push(name, labels={"version": "1"}).reference for name in ("base", "ml")}
    with mcp_home(engine, tmp_path / "home", types) as home:
        yield home


@pytest.fixture
def address(home: McpHome) -> Iterator[Address]:
    """A server over HTTP for it."""
    with home.served() as address:
        yield address


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_main_job(home: McpHome, images: ImageMaker, request: pytest.FixtureRequest, transport: str) -> None:
    """Options, a project of a type of one's own, a command, logs, a refresh to a newer image, list, stop, delete."""
    address: Address | None = request.getfixturevalue("address") if transport.startswith("http") else None
    messages: list[str] = []
    reached: list[float] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        reached.append(progress)
        messages.append(message or "")

    done: dict[str, Any] = {}

    async def job() -> None:
        async with home.connect(transport, address) as client:

            async def call(tool: str, /, **arguments: Any) -> Any:
                return data_of(await client.call_tool(tool, arguments, progress_callback=note))

            demo = {"project_id": "demo"}
            done["options"] = await call("project_options")
            done["made"] = await call("project_create", name="demo", container_type="ml")
            script = ["sh", "-c", "echo kept >note; id -u"]
            done["written"] = await call("container_exec", **demo, command=script)
            done["logs"] = await call("container_logs", **demo)
            images.push("ml", labels={"version": "2"}, layers=[random_layer(5, uuid.uuid4().hex)])
            messages.clear()
            reached.clear()
            done["refreshed"] = await call("container_refresh", **demo)
            done["told"] = list(messages)
            done["read"] = await call("container_exec", **demo, command=["cat", "note"])
            done["listed"] = await call("container_list")
            done["seen_outside"] = json.loads(home("container", "list", "--json"))
            done["stopped"] = await call("container_stop", **demo)
            await call("project_delete", **demo)
            done["gone"] = error_of(await client.call_tool("project_get", demo))

    anyio.run(job)

    assert {"base": False, "ml": False} == {each["name"]: each["present"] for each in done["options"]["types"]}
    assert "docker" == done["options"]["runtime"]["name"]
    assert ("ml", "running") == (done["made"]["project"]["container_type"], done["made"]["state"])
    assert (0, "") == (done["written"]["exit_code"], done["written"]["stderr"])
    assert "" == done["logs"]["output"]
    assert [(True, True)] == [(each["refreshed"], each["image_changed"]) for each in done["refreshed"]["projects"]]
    assert done["told"]
    assert sorted(set(reached)) == reached
    assert "kept\n" == done["read"]["stdout"]
    assert ["demo"] == [each["project"]["name"] for each in done["listed"]["containers"]]
    assert ["demo"] == [each["project"]["name"] for each in done["seen_outside"]]
    assert "exited" == done["stopped"]["state"]
    assert "ProjectNotFoundError" == done["gone"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.timeout(300)
def test_two_hundred_calls_at_once(home: McpHome, address: Address) -> None:
    """None is lost or mixed with another, light ones do not wait for heavy ones, and nothing is left open."""
    answers: dict[int, str] = {}
    took: dict[int, float] = {}

    async def one(client: Client, number: int) -> None:
        began = time.monotonic()
        demo = {"project_id": "demo"}
        if number % 4:
            answers[number] = data_of(await client.call_tool("project_get", demo))["state"]
        else:
            command = ["sh", "-c", f"sleep 1; echo {number}"]
            answers[number] = data_of(await client.call_tool("container_exec", {**demo, "command": command}))["stdout"]
        took[number] = time.monotonic() - began

    async def storm(numbers: Iterable[int]) -> None:
        took.clear()
        async with home.connect("http", address) as client, anyio.create_task_group() as tasks:
            for number in numbers:
                tasks.start_soon(one, client, number)

    def light() -> float:
        return statistics.median(seconds for number, seconds in took.items() if number % 4)

    home("project", "create", "demo")
    threads = _threads(address.pid)
    home("container", "start", "demo")
    anyio.run(storm, range(200))  # what is kept open for the next calls is open now, all of it
    anyio.run(storm, [number for number in range(200) if number % 4])
    alone = light()
    descriptors = _descriptors(address.pid)
    anyio.run(storm, range(200))
    beside = light()

    async def settled() -> tuple[int, int]:
        left = 1000, 1000
        with anyio.move_on_after(60):
            while max(left) > 4:
                async with home.connect("http", address) as client:
                    # Threads that have nothing to do end after ten seconds, when another call comes.
                    data_of(await client.call_tool("project_list"))
                await anyio.sleep(0.5)
                left = _threads(address.pid) - threads, _descriptors(address.pid) - descriptors
        return left

    assert {n: "running" if n % 4 else f"{n}\n" for n in range(200)} == answers
    # Commands take the machine's time as well; they must not take the light calls' turn.
    assert beside < 5 * alone + 2
    assert max(anyio.run(settled)) <= 4


def _descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cancelled_pull_lets_go_of_the_registry(
    engine: Engine,
    images: ImageMaker,
    fault_registry: FaultRegistry,
    tmp_path: Path,
    transport: str,
) -> None:
    """While data flows the registry sees its connection close, within two seconds of the cancel."""
    layer = random_layer(2, uuid.uuid4().hex)
    reference = fault_registry.add(images.make(layers=[layer]), "slow")
    fault = fault_registry.fail("slow", Slow(100_000))
    with mcp_home(engine, tmp_path / "home", {"slow": reference}) as home:

        async def job(address: Address | None) -> float:
            async with home.connect(transport, address) as client, anyio.create_task_group() as tasks:
                tasks.start_soon(client.call_tool, "project_create", {"name": "demo"})
                await anyio.to_thread.run_sync(fault.reached.wait)
                began = time.monotonic()
                tasks.cancel_scope.cancel()
            return began

        if transport.startswith("http"):
            with home.served() as address:
                took = _until(fault, anyio.run(job, address))
        else:
            took = _until(fault, anyio.run(job, None))

        assert "[]" == home("project", "list", "--json")
    assert 2.5 > took


def _until(fault: Slow | Stalled, began: float) -> float:
    assert fault.disconnected.wait(10)
    return time.monotonic() - began


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_cancelled_command_is_gone(home: McpHome, request: pytest.FixtureRequest, transport: str) -> None:
    """With all that it started, within two seconds."""
    address: Address | None = request.getfixturevalue("address") if transport.startswith("http") else None
    script = "(sleep 9876 &) ; touch begun; sleep 9876"

    async def job() -> float:
        async with home.connect(transport, address) as client:
            data_of(await client.call_tool("project_create", {"name": "demo"}))

            async def run(*command: str) -> str:
                return str(
                    data_of(await client.call_tool("container_exec", {"project_id": "demo", "command": list(command)}))[
                        "stdout"
                    ]
                )

            async with anyio.create_task_group() as tasks:
                command = {"project_id": "demo", "command": ["sh", "-c", script]}
                tasks.start_soon(client.call_tool, "container_exec", command)

                async def begun() -> bool:
                    return "begun" in await run("ls")

                async def gone() -> bool:
                    return "sleep 9876" not in await run("ps")

                await until(begun)
                tasks.cancel_scope.cancel()
            return await until(gone)

    assert 2.5 > anyio.run(job)


def test_a_connection_that_drops_takes_its_command_along(home: McpHome, address: Address) -> None:
    """With all that it started; the project is as it was, and the server answers."""
    home("project", "create", "demo")
    home("container", "start", "demo")

    def running() -> bool:
        return "sleep 9876" in home("container", "exec", "demo", "--", "ps")

    script = "(setsid sleep 9876 &); sleep 9876"
    drop(address.url, address.secret, single(exec_request("sh", "-c", script)), SINGLE, running)
    wait_for(lambda: not running())

    assert [] == json.loads(home("project", "show", "demo", "--json"))["sessions"]
    assert "kept" == home("container", "exec", "demo", "--", "echo", "kept")
    home("container", "refresh", "demo")


@pytest.mark.timeout(300)
def test_a_signal_stops_the_server_with_fifty_calls_in_flight(home: McpHome) -> None:
    """Within ten seconds, in good order: each call has its answer, and no command is left in the container."""
    answers: list[CallToolResult | Exception] = []
    command = [str(SCRIPT), "serve", "--port", "0"]
    process = subprocess.Popen(command, env=dict(home.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        assert b"Serving at " in process.stderr.readline()
        running = instance.find(Home(path=home.path))
        assert running is not None
        secret = home("token", "create", "test", "--scope", "admin")
        address = Address(url=running.url, pid=running.pid, secret=secret)

        async def one(client: Client) -> None:
            try:
                arguments = {"project_id": "demo", "command": ["sleep", "9876"]}
                answers.append(await client.call_tool("container_exec", arguments))
            except Exception as error:  # noqa: BLE001 - a closed connection is an answer, too
                answers.append(error)

        async def job() -> float:
            async with home.connect("http", address) as client:
                data_of(await client.call_tool("project_create", {"name": "demo"}))
                background = {"project_id": "demo", "command": ["sleep", "9876"], "background": True}
                data_of(await client.call_tool("container_exec", background))
                async with anyio.create_task_group() as tasks:
                    for _ in range(50):
                        tasks.start_soon(one, client)

                    async def all_of_them() -> bool:
                        return await _running(home) == 51

                    await until(all_of_them, 60)
                    began = time.monotonic()
                    process.send_signal(signal.SIGTERM)
            return began

        began = anyio.run(job)
        code = process.wait(15)
        took = time.monotonic() - began
    finally:
        process.kill()
        process.communicate()

    assert (0, True) == (code, took < 10)
    assert 50 == len(answers)
    assert 0 == anyio.run(_running, home)
    assert "No server runs" in home("serve", "status", code=1)


@pytest.mark.parametrize("end", ["signal", "input"])
def test_a_server_over_standard_streams_ends_with_its_client(home: McpHome, end: str) -> None:
    """By a signal, after which each call still has its answer, or by the end of its input; no command is left."""
    home("project", "create", "demo")
    home("container", "start", "demo")
    opening = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": opening}
    messages = [
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        *({**exec_request("sleep", "9876"), "id": number} for number in range(2, 12)),
    ]
    pipe = subprocess.PIPE
    command = [str(SCRIPT), "serve", "--stdio"]
    with subprocess.Popen(command, env=dict(home.environ), stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(initialize) + "\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdin.writelines(json.dumps(message) + "\n" for message in messages)
        process.stdin.flush()
        wait_for(lambda: anyio.run(_running, home) == 10, 60)
        if end == "signal":
            process.send_signal(signal.SIGTERM)
        else:
            process.stdin.close()
        answers = process.stdout.read()
        code = process.wait(15)

    assert 0 == code
    assert 0 == anyio.run(_running, home)
    if end == "signal":
        assert 10 == answers.count('"cancelled":true')


async def _running(home: McpHome) -> int:
    """Count the commands that sleep in the container."""
    words = ("container", "exec", "demo", "--", "ps")
    return (await anyio.to_thread.run_sync(lambda: home(*words))).count("sleep 9876")


def test_the_command_line_and_the_server_work_on_one_home(home: McpHome, address: Address) -> None:
    """What one does the other sees, and neither breaks what the other is at."""

    async def job() -> None:
        async with home.connect("http", address) as client:
            demo = {"project_id": "demo"}
            home("project", "create", "demo")
            home("container", "start", "demo")
            done["running"] = data_of(await client.call_tool("project_get", demo))["state"]
            background = {**demo, "command": ["sleep", "60"], "background": True}
            done["exec_id"] = data_of(await client.call_tool("container_exec", background))["exec_id"]
            home("container", "stop", "demo", code=5)
            home("container", "refresh", "demo", code=5)
            done["shown"] = json.loads(home("project", "show", "demo", "--json"))["sessions"]
            data_of(await client.call_tool("exec_cancel", {"exec_id": done["exec_id"]}))
            home("container", "stop", "demo")
            done["stopped"] = data_of(await client.call_tool("project_get", demo))["state"]

    done: dict[str, Any] = {}
    anyio.run(job)

    assert ("running", "exited") == (done["running"], done["stopped"])
    assert [done["exec_id"]] == done["shown"]


def test_a_command_of_a_server_that_was_killed_is_over(home: McpHome, address: Address) -> None:
    """The next server does not take it for active, and its container can be stopped."""

    async def start() -> str:
        async with home.connect("http", address) as client:
            data_of(await client.call_tool("project_create", {"name": "demo"}))
            background = {"project_id": "demo", "command": ["sleep", "60"], "background": True}
            return str(data_of(await client.call_tool("container_exec", background))["exec_id"])

    async def look(exec_id: str) -> tuple[CallToolResult, CallToolResult]:
        async with home.connect("stdio", None) as client:
            looked = await client.call_tool("exec_get", {"exec_id": exec_id})
            return looked, await client.call_tool("container_stop", {"project_id": "demo"})

    exec_id = anyio.run(start)
    os.kill(address.pid, signal.SIGKILL)
    looked, stopped = anyio.run(look, exec_id)

    assert "failed" == data_of(looked)["state"]
    assert "the process that drove it has died" in text_of(looked)
    assert "exited" == data_of(stopped)["state"]
