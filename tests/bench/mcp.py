"""The server's round trip against the SDK's own: a status call, and a tool that does nothing plus one engine call.

The engine call is made twice: by the client after the tool's answer, where nothing else is at work, which is the floor;
and by a tool of the SDK's own, in the thread in which the SDK runs functions that block.

`python -m tests.bench.mcp TRANSPORT SOCKET PATH` serves both tools, and prints where.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
from anyio.from_thread import BlockingPortal, start_blocking_portal
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from oubliette_core.models import LABEL_PROJECT
from oubliette_core.testing.images import find_busybox
from tests.bench.measure import Call, Outcome, compare
from tests.bench.raw import RawEngine
from tests.e2e.mcp_home import SCRIPT, McpHome, mcp_home
from tests.engine import Engine, running_engine
from tests.images import ImageMaker

_ERAS = {"": "auto", ", legacy era": "legacy"}


def round_trips(scale: float) -> Iterator[Outcome]:
    """Compare project_get with the SDK's no-op and a raw inspect, over HTTP in both eras and over stdio."""
    rounds = round(300 * scale)
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        images = stack.enter_context(contextlib.closing(ImageMaker(engine, find_busybox(engine.busybox))))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home = stack.enter_context(mcp_home(engine, scratch / "home", {"base": images.push("bench").reference}))
        home("project", "create", "bench")
        home("container", "start", "bench")
        portal = stack.enter_context(start_blocking_portal())
        inspect = _inspect(engine, home)
        raw = _raw(*inspect)
        address = stack.enter_context(home.served())
        noop_url = stack.enter_context(_noop_server("http", *inspect))
        for name, era in _ERAS.items():
            ours = stack.enter_context(_http(portal, address.url, era, address.secret))
            noop = stack.enter_context(_http(portal, noop_url, era, ""))
            contestants = _contestants(portal, noop, ours, raw)
            yield compare(f"MCP status call, HTTP{name}", contestants, rounds=rounds, warm_up=50)
        ours = stack.enter_context(_stdio(portal, [str(SCRIPT), "serve", "--stdio"], dict(home.environ)))
        noop = stack.enter_context(
            _stdio(portal, [sys.executable, "-m", "tests.bench.mcp", "stdio", *inspect], dict(home.environ))
        )
        yield compare("MCP status call, stdio", _contestants(portal, noop, ours, raw), rounds=rounds, warm_up=50)


def _contestants(portal: BlockingPortal, noop: Client, ours: Client, raw: Call) -> Mapping[str, Call]:
    def floor() -> None:
        result = portal.call(noop.call_tool, "noop")
        assert result.structured_content == {"result": 1}
        raw()

    def tool() -> None:
        result = portal.call(noop.call_tool, "inspect")
        assert result.structured_content == {"result": "running"}

    def status() -> None:
        result = portal.call(ours.call_tool, "project_get", {"project_id": "bench"})
        assert result.structured_content is not None
        assert result.structured_content["state"] == "running"

    return {"SDK no-op + raw inspect": floor, "SDK tool with raw inspect": tool, "project_get": status}


def _inspect(engine: Engine, home: McpHome) -> tuple[str, str]:
    """Return the engine's socket and what to get from it for the container of the project."""
    socket = engine.docker_host.removeprefix("unix://")
    project = json.loads(home("project", "list", "--json"))[0]["id"]
    labels = json.dumps({"label": [f"{LABEL_PROJECT}={project}"]})
    (container,) = RawEngine(socket).call("GET", f"/containers/json?filters={quote(labels)}")
    return socket, f"/containers/{container['Id']}/json"


def _raw(socket: str, path: str) -> Callable[[], Any]:
    engine = RawEngine(socket)
    return lambda: engine.call("GET", path)


@contextlib.contextmanager
def _http(portal: BlockingPortal, url: str, era: str, secret: str) -> Iterator[Client]:
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    http = httpx2.AsyncClient(headers=headers, timeout=60)
    with (
        portal.wrap_async_context_manager(http),
        portal.wrap_async_context_manager(Client(streamable_http_client(url, http_client=http), mode=era)) as client,
    ):
        yield client


@contextlib.contextmanager
def _stdio(portal: BlockingPortal, command: list[str], environ: dict[str, str]) -> Iterator[Client]:
    parameters = StdioServerParameters(command=command[0], args=command[1:], env=environ, cwd=Path.cwd())
    with portal.wrap_async_context_manager(Client(stdio_client(parameters))) as client:
        yield client


@contextlib.contextmanager
def _noop_server(*words: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.mcp", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def serve_noop(kind: str, engine: str, path: str) -> None:
    """Serve a tool that does nothing, as the SDK's documentation shows it, and one that asks the engine."""
    import socket  # noqa: PLC0415 - for the program alone, as the next two

    import uvicorn  # noqa: PLC0415
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415

    server = MCPServer("noop", log_level="WARNING")
    raw = _raw(engine, path)

    @server.tool()
    async def noop() -> int:
        """Do nothing."""
        return 1

    @server.tool()
    def inspect() -> str:
        """Ask the engine."""
        return str(raw()["State"]["Status"])

    if kind == "stdio":
        server.run("stdio")
        return
    bound = socket.create_server(("127.0.0.1", 0))
    print(f"http://127.0.0.1:{bound.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="warning")
    uvicorn.Server(config).run(sockets=[bound])


BENCHES = {"mcp": round_trips}

if __name__ == "__main__":
    serve_noop(*sys.argv[1:])
