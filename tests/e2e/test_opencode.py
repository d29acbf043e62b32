"""A whole turn of a real agent, opencode, without the internet: its model is a script of this test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests import opencode
from tests.core.server.conftest import data_of
from tests.e2e.mcp_home import McpHome, mcp_home
from tests.engine import Engine
from tests.images import ImageMaker

pytestmark = [pytest.mark.slow, pytest.mark.opencode]

KEY = "sk-geheimnis-0123456789"
DEMO = {"project_id": "demo"}


@pytest.fixture
def layer() -> Any:
    """The layer of an image that has opencode in it; without npm the test is skipped, and in CI it fails."""
    try:
        return opencode.layer()
    except opencode.OpencodeUnavailableError as error:
        reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture
def model() -> opencode.Model:
    """A model that runs a command and says that it is done."""
    return opencode.Model()


@pytest.fixture
def home(layer: Any, model: opencode.Model, engine: Engine, images: ImageMaker, tmp_path: Path) -> Iterator[McpHome]:
    """A home whose projects have opencode in their image, and the model for it."""
    types = {"base": images.push("opencode", layers=[layer]).reference}
    with model.served() as url:
        settings = {
            "credentials": {"providers": {"scripted": {"api_key": "${SCRIPTED_KEY}", "base_url": url}}},
            "models": {"tiny": "scripted/tiny-model"},
            # The model is on this machine's loopback address.
            "defaults": {"agent": {"model": "tiny"}, "container": {"network": "host"}},
        }
        environ = {"SCRIPTED_KEY": KEY}
        with mcp_home(engine, tmp_path / "home", types, environ=environ, settings=settings) as home:
            yield home


@pytest.mark.timeout(300)
def test_a_whole_turn_of_opencode(home: McpHome, model: opencode.Model) -> None:
    """Prompt, permission, a command in the container, a file in the workspace, the end of the turn with usage.

    Another server goes on with the session, in a new container: what was said is in the project's home.
    """
    done: dict[str, Any] = {}

    async def job() -> None:
        with home.served() as address:
            async with home.connect("http", address) as client:

                async def call(tool: str, **arguments: Any) -> Any:
                    return data_of(await client.call_tool(tool, arguments))

                made = await call("project_create", name="demo")
                workspace = Path(made["project"]["workspace"])
                done["asked"] = await call("session_message", **DEMO, text="Make a file.", wait=150)
                done["before"] = (workspace / "made.txt").exists()
                session = done["asked"]["session"]
                question = session["questions"][0]
                once = next(option["id"] for option in question["options"] if option["kind"] == "allow_once")
                answer = {"session_id": session["id"], "question_id": question["id"], "option_id": once, "wait": 100}
                done["turn"] = await call("session_permission", **answer)
                done["file"] = (workspace / "made.txt").read_text(encoding="utf-8")
                done["events"] = (await call("session_events", session_id=session["id"]))["events"]

    async def go_on() -> None:
        with home.served() as address:
            async with home.connect("http", address) as client:
                again = {**DEMO, "text": "And now?", "wait": 150}
                done["again"] = data_of(await client.call_tool("session_message", again))
                session = {"session_id": done["again"]["session"]["id"]}
                done["ended"] = data_of(await client.call_tool("session_end", session))

    anyio.run(job)
    home("container", "refresh", "demo")
    anyio.run(go_on)

    kinds = [event["kind"] for event in done["events"]]
    question = done["asked"]["session"]["questions"][0]
    assert (False, "waiting", "opencode") == (
        done["asked"]["over"],
        done["asked"]["session"]["state"],
        done["asked"]["session"]["agent"],
    )
    assert "execute" == question["tool"]
    assert model.COMMAND in f"{question['title']} {question['detail']}"
    assert not done["before"]
    assert ("end_turn", "The file is made.") == (done["turn"]["stop_reason"], done["turn"]["message"].strip())
    assert done["file"].startswith("made by ")
    assert 0 < done["turn"]["usage"]["total_tokens"]
    assert {"prompt", "tool_call", "tool_call_update", "permission", "message", "usage", "completion"} <= set(kinds)
    assert {f"Bearer {KEY}"} == model.keys
    assert {"tiny-model"} == {request["model"] for request in model.requests}
    assert done["asked"]["session"]["id"] == done["again"]["session"]["id"]
    assert "end_turn" == done["again"]["stop_reason"]
    told = [message for message in model.requests[-1]["messages"] if message["role"] == "user"]
    assert ["Make a file.", "And now?"] == [opencode.text_of(message) for message in told]
    assert "ended" == done["ended"]["state"]
