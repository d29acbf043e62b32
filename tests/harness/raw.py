"""A Docker Engine used through its HTTP API alone, so that these tests trust no client."""

import base64
import json
from typing import Any
from urllib.parse import quote

from tests.engine import Engine
from tests.engine.dockerhttp import docker_request


def pull(engine: Engine, reference: str, login: tuple[str, str] | None = None) -> str:
    """Pull an image; gives "" or the error, whether it came as a status or inside the stream."""
    name, _, tag = reference.rpartition(":")
    path = f"/images/create?fromImage={quote(name, safe='')}&tag={quote(tag, safe='')}"
    return _failure(docker_request(engine.docker_host, "POST", path, headers=_login(login)))


def push(engine: Engine, reference: str, login: tuple[str, str] | None = None) -> str:
    """Push an image; gives "" or the error."""
    name, _, tag = reference.rpartition(":")
    path = f"/images/{name}/push?tag={quote(tag, safe='')}"
    return _failure(docker_request(engine.docker_host, "POST", path, headers=_login(login)))


def run(engine: Engine, image: str, *command: str, **settings: Any) -> str:
    """Run a command in a container of an image that is there, to its end; gives its output."""
    spec = {"Image": image, "Cmd": command or None, "Tty": True, **settings}
    container = call(engine, "POST", "/containers/create", spec)["Id"]
    try:
        call(engine, "POST", f"/containers/{container}/start")
        call(engine, "POST", f"/containers/{container}/wait")
        _status, output = docker_request(engine.docker_host, "GET", f"/containers/{container}/logs?stdout=1")
        return output.decode().replace("\r\n", "\n")
    finally:
        call(engine, "DELETE", f"/containers/{container}?force=1")


def call(engine: Engine, method: str, path: str, body: object = None) -> Any:
    """Make a request that must succeed; gives the decoded answer, None when there is none."""
    status, answer = docker_request(engine.docker_host, method, path, body)
    assert status < 400, f"{method} {path}: {status} {answer!r}"
    return json.loads(answer) if answer.strip() else None


def _login(login: tuple[str, str] | None) -> dict[str, str]:
    account = {"username": login[0], "password": login[1]} if login else {}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(account).encode()).decode()}


def _failure(answer: tuple[int, bytes]) -> str:
    status, body = answer
    if status != 200:
        return f"{status} {json.loads(body)['message']}"
    events = [json.loads(line) for line in body.splitlines() if line.strip()]
    return next((event["error"] for event in events if "error" in event), "")
