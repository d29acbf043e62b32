"""The MCP Inspector, which is nothing of ours and nothing of the Python SDK's, lists and calls the tools."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.e2e.mcp_home import SCRIPT, Address, McpHome, mcp_home
from tests.engine import Engine
from tests.images import ImageMaker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
VERSION = "1.0.3"  # the last that runs on Node 20 as well
PACKAGE = f"@modelcontextprotocol/inspector@{VERSION}"
INSTALL = ("install", "--prefer-offline", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", PACKAGE)


def _missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def inspector(pytestconfig: pytest.Config) -> tuple[str, ...]:
    """The Inspector's command line, installed once into the cache of pytest."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        _missing("needs node and npm")
    cache: Path = pytestconfig.cache.mkdir(f"inspector-{VERSION}")
    program, complete = cache / "node_modules" / ".bin" / "mcp-inspector", cache / "complete"
    with FileLock(cache / "lock"):
        if not complete.exists():
            command = [str(npm), *INSTALL, "--prefix", str(cache)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                _missing(f"npm could not install {PACKAGE}: {done.stderr.strip()[-300:]}")
            complete.touch()
    return str(node), str(program), "--cli"


@pytest.fixture(scope="module")
def home(engine: Engine, tmp_path_factory: pytest.TempPathFactory, busybox: Path) -> Iterator[McpHome]:
    """A home with one type."""
    images = ImageMaker(engine, busybox)
    types = {"base": images.push("base").reference}
    with mcp_home(engine, tmp_path_factory.mktemp("inspector") / "home", types) as home:
        yield home
    images.close()


@pytest.fixture(scope="module")
def address(home: McpHome) -> Iterator[Address]:
    """A server over HTTP."""
    with home.served() as address:
        yield address


class Inspector:
    """The Inspector, connected to a server."""

    def __init__(self, command: tuple[str, ...], *server: str, home: McpHome) -> None:
        self._command = (*command, *server)
        self._environ = {**home.environ, "NO_UPDATE_NOTIFIER": "1"}

    def __call__(self, *words: str) -> Any:
        """Call a method; return the result."""
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, env=self._environ, check=False)
        assert 0 == done.returncode, done.stderr
        return json.loads(done.stdout[done.stdout.index("{") :])

    def call(self, tool: str, *arguments: str) -> Any:
        """Call a tool."""
        words = [word for argument in arguments for word in ("--tool-arg", argument)]
        return self("--method", "tools/call", "--tool-name", tool, *words)


@pytest.fixture(params=["http", "stdio"])
def connected(request: pytest.FixtureRequest, inspector: tuple[str, ...], home: McpHome, address: Address) -> Inspector:
    """The Inspector, over each transport."""
    if request.param == "stdio":
        return Inspector(inspector, str(SCRIPT), "serve", "--stdio", home=home)
    header = f"Authorization: Bearer {address.secret}"
    return Inspector(inspector, address.url, "--transport", "http", "--header", header, home=home)


def test_the_inspector_lists_and_calls_the_tools(connected: Inspector, request: pytest.FixtureRequest) -> None:
    """With the names and schemas that it finds."""
    name = f"by-{request.node.callspec.params['connected']}"
    tools = {tool["name"]: tool for tool in connected("--method", "tools/list")["tools"]}
    made = connected.call("project_create", f"name={name}")
    ran = connected.call("container_exec", f"project_id={name}", 'command=["echo","hello"]')
    deleted = connected.call("project_delete", f"project_id={name}")
    missing = connected.call("project_get", f"project_id={name}")

    assert {"project_create", "container_exec", "container_refresh", "exec_get", "token_revoke"} <= set(tools)
    assert False is tools["container_exec"]["inputSchema"]["additionalProperties"]
    assert "running" == made["structuredContent"]["state"]
    assert "hello\n" == ran["structuredContent"]["stdout"]
    assert "exit code 0\nhello\n" == ran["content"][0]["text"]
    assert name == deleted["structuredContent"]["project"]["name"]
    assert missing["isError"]
