"""A server on an engine in memory, and the official client to talk to it."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import attrs
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, TextContent

from oubliette_core.config import Home, ServerConfig
from oubliette_core.server.callers import Caller
from oubliette_core.server.failures import DETAILS
from oubliette_core.server.http import HttpServer, make_app
from oubliette_core.server.logs import logging_to
from oubliette_core.server.serving import Parts
from tests.core.services.conftest import Bench

T = TypeVar("T")
ERAS = ("auto", "legacy")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 10.0) -> float:
    """Look until something is so that tells nobody when it becomes so; return the seconds that it took."""
    began = anyio.current_time()
    while not await condition():
        assert anyio.current_time() - began < seconds
        await anyio.sleep(0.02)
    return anyio.current_time() - began


def text_of(result: CallToolResult) -> str:
    """Return what people read of a result."""
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


def error_of(result: CallToolResult) -> str:
    """Return the type of the error that a call ended with."""
    assert result.is_error
    return str((result.meta or {})[DETAILS]["type"])


def data_of(result: CallToolResult) -> dict[str, Any]:
    """Return what programs read of a call that succeeded."""
    assert not result.is_error, text_of(result)
    data = result.structured_content
    assert isinstance(data, dict)
    return data


SINGLE = {"Mcp-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "container_exec"}
"""Headers of a call in the era of single requests."""


def exec_request(*command: str) -> dict[str, Any]:
    """Return the body of a call of container_exec in the project ``demo``, in the era of sessions."""
    arguments = {"project_id": "demo", "command": list(command)}
    params = {"name": "container_exec", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def single(request: dict[str, Any]) -> dict[str, Any]:
    """Return the body of a request as it is in the era of single requests."""
    era = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {**request, "params": {**request["params"], "_meta": era}}


def drop(url: str, token: str, body: dict[str, Any], headers: dict[str, str], begun: Callable[[], bool]) -> None:
    """Send a request, wait until it has begun, and let the connection go without a word."""
    parts = urlsplit(url)
    text = json.dumps(body).encode()
    lines = {
        "Host": parts.netloc,
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "Content-Length": str(len(text)),
        "Authorization": f"Bearer {token}",
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(f"POST {parts.path} HTTP/1.1\r\n{head}\r\n".encode() + text)
        wait_for(begun)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no goodbye


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait in a thread for what tells nobody when it becomes so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


@attrs.frozen(kw_only=True)
class Tools:
    """The tools of a home, called without any transport in between."""

    bench: Bench
    parts: Parts

    def __call__(self, name: str, arguments: dict[str, Any] | None = None, *, token: str = "") -> CallToolResult:
        """Call a tool. :param token: whose; that of the local user when left out."""
        caller = Caller(token=self.bench.app.tokens.verify(token)) if token else Caller.local_user()

        async def call() -> CallToolResult:
            return await self.parts.dispatcher.call(caller, name, arguments or {})

        return anyio.run(call)

    def token(self, *scopes: str) -> str:
        """Make a token; return its secret."""
        return self.bench.app.tokens.create(f"t{len(self.bench.app.tokens.list())}", scopes).secret


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """An app on an engine in memory."""
    home = Home(path=tmp_path / "home")
    home.create()
    bench = Bench(home)
    yield bench
    bench.close()


@pytest.fixture
def tools(bench: Bench) -> Iterator[Tools]:
    """The tools of a home."""
    parts = Parts.of(bench.app)
    yield Tools(bench=bench, parts=parts)
    parts.dispatcher.agents.close()
    parts.dispatcher.execs.close()


@attrs.frozen(kw_only=True)
class Served:
    """A server over HTTP."""

    bench: Bench
    parts: Parts
    url: str
    token: str

    @property
    def base(self) -> str:
        """Its address, without a path."""
        return self.url.removesuffix("/mcp")

    @contextlib.asynccontextmanager
    async def connect(self, era: str = "auto", *, token: str = "") -> AsyncIterator[Client]:
        """Connect the official client. :param token: another than that of the administrator."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(self.url, http_client=http), mode=era) as client,
        ):
            yield client

    def run(self, era: str, function: Callable[[Client], Awaitable[T]]) -> T:
        """Connect, and do something with the client."""

        async def main() -> T:
            async with self.connect(era) as client:
                return await function(client)

        return anyio.run(main)


@contextlib.contextmanager
def serving(bench: Bench, config: ServerConfig) -> Iterator[Served]:
    """Serve a home over HTTP in a thread, as `oubliette serve` does in a process."""
    parts = Parts.of(bench.app)
    server = HttpServer(make_app(bench.app, parts.dispatcher, config, parts.metrics), config)
    started = threading.Event()
    with (
        logging_to(bench.home, attrs.evolve(bench.config, server=config)),
        anyio.from_thread.start_blocking_portal() as portal,
    ):
        stop = portal.call(anyio.Event)
        served = portal.start_task_soon(server.serve, started.set, stop, parts.drain)
        assert started.wait(10)
        try:
            token = bench.app.tokens.create("administrator", ["admin"]).secret
            yield Served(bench=bench, parts=parts, url=server.url, token=token)
        finally:
            portal.call(stop.set)
            served.result(15)


@pytest.fixture
def served(bench: Bench) -> Iterator[Served]:
    """A server over HTTP, on any free port of the loopback address."""
    with serving(bench, ServerConfig(port=0)) as served:
        yield served
