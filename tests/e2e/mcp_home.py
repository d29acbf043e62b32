"""A home on a real engine, and the server of the installed command for it, over each transport."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import attrs
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

from tests.engine import Engine

SCRIPT = Path(sys.executable).with_name("oubliette")
TRANSPORTS = ("http", "http-legacy", "stdio", "stdio-legacy")


@attrs.frozen(kw_only=True)
class McpHome:
    """``oubliette`` with a home of its own."""

    path: Path
    environ: Mapping[str, str]

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run a command to its end; return what it printed."""
        done = subprocess.run([SCRIPT, *words], capture_output=True, text=True, env=dict(self.environ), check=False)
        assert code == done.returncode, done.stderr
        return done.stdout.strip()

    @contextlib.contextmanager
    def served(self) -> Iterator[Address]:
        """Serve over HTTP, in a process of its own."""
        self("serve", "--daemon", "--port", "0")
        try:
            state = json.loads(self("serve", "status", "--json"))
            secret = self("token", "create", f"test-{state['pid']}", "--scope", "admin")
            yield Address(url=state["url"], pid=state["pid"], secret=secret)
        finally:
            self("serve", "stop")

    @contextlib.asynccontextmanager
    async def connect(self, transport: str, address: Address | None) -> AsyncIterator[Client]:
        """Connect the official client over a transport."""
        era = "legacy" if transport.endswith("legacy") else "auto"
        async with contextlib.AsyncExitStack() as stack:
            if transport.startswith("stdio"):
                parameters = StdioServerParameters(
                    command=str(SCRIPT), args=["serve", "--stdio"], env=dict(self.environ)
                )
                wire: Any = stdio_client(parameters)
            else:
                assert address is not None
                headers = {"Authorization": f"Bearer {address.secret}"}
                http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=40))
                wire = streamable_http_client(address.url, http_client=http)
            yield await stack.enter_async_context(Client(wire, mode=era))


@attrs.frozen(kw_only=True)
class Address:
    """Where a server is, and the key to it."""

    url: str
    pid: int
    secret: str


@contextlib.contextmanager
def mcp_home(
    engine: Engine,
    path: Path,
    types: Mapping[str, object],
    *,
    environ: Mapping[str, str] = MappingProxyType({}),
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[McpHome]:
    """Make a home with these container types; what is made in it is removed at the end.

    :param environ: variables besides those that choose Docker. :param settings: more of the configuration.
    """
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or "COVERAGE" in name}
    chosen = {"OUBLIETTE_HOME": str(path), "CONTAINER_RUNTIME": "docker", "DOCKER_HOST": engine.docker_host}
    home = McpHome(path=path, environ={**kept, **chosen, **environ})
    file = path / "config" / "oubliette.jsonc"
    file.parent.mkdir(parents=True)
    path.chmod(0o700)
    whole = {"containers": types, "server": {"rate_limit": None}, **settings}
    file.write_text(json.dumps(whole), encoding="utf-8")
    file.chmod(0o600)
    home("init", "--no-pull")
    try:
        yield home
    finally:
        for project in json.loads(home("project", "list", "--json")):
            home("project", "delete", project["id"], "--yes", "--end-sessions")
