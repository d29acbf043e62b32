"""The server over HTTP: who gets in, what is refused at the door, and that both protocol eras work."""

from __future__ import annotations

import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
import trustme
from mcp import Client, MCPError

from oubliette_core.config import ServerConfig
from oubliette_core.errors import ConfigError, ConflictError
from oubliette_core.models import ExecSpec
from oubliette_core.server import connections, guard
from oubliette_core.server.http import HttpServer, make_app
from oubliette_core.server.serving import Parts
from oubliette_core.services.ids import now
from tests.core.server.conftest import (
    ERAS,
    SINGLE,
    Served,
    data_of,
    drop,
    error_of,
    exec_request,
    serving,
    single,
    until,
    wait_for,
)
from tests.core.services.conftest import Bench

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
}
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
EXEC = exec_request("sleep", "987")
EVERY_ERA = pytest.mark.parametrize("era", ERAS)


@pytest.fixture
def http(served: Served) -> Iterator[httpx2.Client]:
    """A client that sends what it is told, as the administrator unless told otherwise."""
    headers = {**ACCEPT, "Authorization": f"Bearer {served.token}"}
    with httpx2.Client(base_url=served.base, headers=headers, timeout=20) as client:
        yield client


@EVERY_ERA
def test_the_official_client_lists_and_calls_the_tools(served: Served, era: str) -> None:
    """In the era of sessions, and in that of single requests."""

    async def use(client: Client) -> tuple[list[str], dict[str, Any], str]:
        listed = [tool.name for tool in (await client.list_tools()).tools]
        made = data_of(await client.call_tool("project_create", {"name": "demo"}))
        refused = error_of(await client.call_tool("project_get", {"project_id": "nope"}))
        return listed, made, refused

    listed, made, refused = served.run(era, use)

    assert "container_exec" in listed
    assert ("demo", "running") == (made["project"]["name"], made["state"])
    assert "ProjectNotFoundError" == refused


@EVERY_ERA
def test_progress_of_a_pull_reaches_the_client_and_only_rises(served: Served, era: str) -> None:
    """As the protocol wants it, whatever layers do."""
    seen: list[tuple[float, float | None, str | None]] = []
    served.bench.registry.slow("registry.example.com/base:1", 0.1)

    async def note(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, total, message))

    async def use(client: Client) -> None:
        data_of(await client.call_tool("project_create", {"name": "demo"}, progress_callback=note))

    served.run(era, use)
    reached = [progress for progress, _, _ in seen]

    assert reached
    assert sorted(set(reached)) == reached
    assert all(message and message.startswith("registry.example.com/base:1: ") for _, _, message in seen)


@EVERY_ERA
def test_a_token_that_is_revoked_is_refused_at_once(served: Served, era: str) -> None:
    """Also in the middle of a session."""
    made = served.bench.app.tokens.create("short", ["admin"])

    async def main() -> None:
        async with served.connect(era, token=made.secret) as client:
            data_of(await client.call_tool("project_list"))
            served.bench.app.tokens.revoke("short")
            with pytest.raises(Exception, match=r"error response|Unauthorized|closed"):
                await client.call_tool("project_list")

    anyio.run(main)


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
        "Bearer oub_aaaaaaaaaaaa_" + "A" * 43,
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9.",
        "Bearer " + "x" * 60_000,
        "Bearer oub_' OR 1=1 --",
    ],
)
def test_without_a_valid_token_there_is_no_way_in(served: Served, authorization: str | None) -> None:
    """Whatever is wrong with it, the answer is the same, and repeats nothing."""
    headers = {**ACCEPT, **({"Authorization": authorization} if authorization is not None else {})}
    answer = httpx2.post(served.url, json=INITIALIZE, headers=headers)

    assert 401 == answer.status_code
    assert 'Bearer error="invalid_token"' in answer.headers["www-authenticate"]
    assert {"error": "invalid_token", "error_description": "Authentication required"} == answer.json()


def test_a_header_of_a_megabyte_is_refused(served: Served) -> None:
    """Before it is anything to look at."""
    with pytest.raises(httpx2.HTTPError) as refusal:  # noqa: PT012 - refused by a code, or by closing the connection
        answer = httpx2.post(served.url, json=INITIALIZE, headers={**ACCEPT, "Authorization": "Bearer " + "x" * 2**20})
        answer.raise_for_status()

    assert refusal.value is not None


def test_an_expired_token_and_one_of_another_home_are_refused(served: Served, tmp_path: Path) -> None:
    """As one that never was."""
    expired = served.bench.app.tokens.create("expired", ["admin"], expires_at=now() + timedelta(milliseconds=1))
    almost = served.token[:-1] + ("A" if served.token[-1] != "A" else "B")
    for secret in (expired.secret, almost, served.token.upper(), served.token[1:]):
        answer = httpx2.post(served.url, json=INITIALIZE, headers={**ACCEPT, "Authorization": f"Bearer {secret}"})
        assert 401 == answer.status_code


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost:80.evil.example",
        "127.0.0.1@evil.example",
        "2130706433",
        "0.0.0.0",  # noqa: S104 - a header
        "[::ffff:evil]",
        "",
    ],
)
@pytest.mark.parametrize("path", ["/mcp", "/healthz", "/metrics"])
def test_a_foreign_host_is_refused_everywhere(http: httpx2.Client, path: str, host: str) -> None:
    """A web page whose name points at this machine cannot make its visitor's browser use the server."""
    assert http.post(path, headers={"Host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:1234", "127.0.0.1:80", "[::1]:8080", "[::1]"])
def test_loopback_is_known_by_all_its_names(http: httpx2.Client, host: str) -> None:
    """With any port: tunnels have others."""
    assert 200 == http.get("/healthz", headers={"Host": host}).status_code


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "https://127.0.0.1.evil.example",
        "null",
        "file://",
        "http://localhost@evil.example",
        "chrome-extension://abc",
        "http://localhost:99999999",
    ],
)
def test_a_foreign_origin_is_refused(http: httpx2.Client, origin: str) -> None:
    """Browsers say where a request comes from, and that has to be us."""
    answer = http.post("/mcp", json=INITIALIZE, headers={"Origin": origin})

    assert 403 == answer.status_code


def test_an_own_origin_is_accepted(http: httpx2.Client) -> None:
    """A client in a browser on this machine."""
    assert 200 == http.post("/mcp", json=INITIALIZE, headers={"Origin": "http://localhost:5173"}).status_code


def test_host_and_origin_are_checked_on_every_bind(bench: Bench) -> None:
    """A wildcard address, where the SDK checks nothing by itself, is no exception; what is configured is accepted."""
    config = ServerConfig(
        host="0.0.0.0",  # noqa: S104 - that is what is tested
        port=0,
        allow_plain_http=True,
        allowed_hosts=("oubliette.example.com", "proxy.example.com:8443"),
        allowed_origins=("https://app.example.com",),
    )
    with serving(bench, config) as served:
        headers = {**ACCEPT, "Authorization": f"Bearer {served.token}"}
        codes = {
            host: httpx2.post(served.url, json=INITIALIZE, headers={**headers, "Host": host}).status_code
            for host in (
                "evil.example",
                "0.0.0.0",  # noqa: S104 - a header
                "oubliette.example.com",
                "oubliette.example.com:1234",
                "proxy.example.com",
                "proxy.example.com:8443",
            )
        }
        origins = {
            origin: httpx2.post(served.url, json=INITIALIZE, headers={**headers, "Origin": origin}).status_code
            for origin in ("https://evil.example", "http://app.example.com", "https://app.example.com")
        }

    assert [421, 421, 200, 200, 421, 200] == list(codes.values())
    assert [403, 403, 200] == list(origins.values())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104 - that is what is tested
def test_a_network_is_not_listened_on_without_tls(bench: Bench, host: str) -> None:
    """Tokens would be there for all to read. Whoever means it says so."""
    parts = Parts.of(bench.app)
    config = ServerConfig(host=host, port=0)
    with pytest.raises(ConfigError, match="without TLS") as refusal:
        HttpServer(make_app(bench.app, parts.dispatcher, config, parts.metrics), config)

    assert "server.allow_plain_http" in refusal.value.hint


def test_tls_is_spoken_with_a_certificate(bench: Bench, tmp_path: Path) -> None:
    """And then any address will do."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    config = ServerConfig(host="0.0.0.0", port=0, tls_certificate=certificate, tls_key=key)  # noqa: S104
    with serving(bench, config) as served:
        answer = httpx2.get(f"{served.base}/healthz", verify=context)

    assert served.url.startswith("https://127.0.0.1:")
    assert {"status": "ok"} == answer.json()


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_certificate_that_cannot_be_used_is_told(bench: Bench, tmp_path: Path, content: str | None) -> None:
    """One that is missing, and one that is none."""
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content, encoding="ascii")
    parts = Parts.of(bench.app)
    config = ServerConfig(port=0, tls_certificate=file, tls_key=file)
    with pytest.raises(ConfigError, match="certificate cannot be used") as refusal:
        HttpServer(make_app(bench.app, parts.dispatcher, config, parts.metrics), config)

    assert f"server.tls_key: {file}" in refusal.value.problems


def test_a_port_that_is_taken_is_an_error_that_says_so(served: Served) -> None:
    """And how to choose another."""
    port = int(served.base.rpartition(":")[2])
    config = ServerConfig(port=port)
    with pytest.raises(ConflictError, match=f"cannot listen on 127.0.0.1 port {port}"):
        HttpServer(make_app(served.bench.app, served.parts.dispatcher, config, served.parts.metrics), config)


def test_a_body_of_20_megabytes_is_refused(http: httpx2.Client) -> None:
    """With and without saying how long it is."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 2**20

    declared = http.post("/mcp", content=b"x" * 20 * 2**20)

    assert 413 == declared.status_code
    with pytest.raises(httpx2.HTTPError):
        http.post("/mcp", content=chunks()).raise_for_status()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b'{"jsonrpc": "1.0"}'])
def test_what_is_no_request_is_refused(http: httpx2.Client, body: bytes) -> None:
    """And the server goes on."""
    answer = http.post("/mcp", content=body)

    assert 400 == answer.status_code
    assert 200 == http.get("/healthz").status_code


def test_a_session_belongs_to_the_token_that_opened_it(served: Served, http: httpx2.Client) -> None:
    """Whoever learns its id can do nothing with it; nor with one that was guessed."""
    session = http.post("/mcp", json=INITIALIZE).headers["mcp-session-id"]
    other = served.bench.app.tokens.create("other", ["admin"]).secret
    headers = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": "2025-06-18"}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    own = http.post("/mcp", json=listing, headers=headers)
    stolen = http.post("/mcp", json=listing, headers={**headers, "Authorization": f"Bearer {other}"})
    guessed = http.post("/mcp", json=listing, headers={**headers, "Mcp-Session-Id": session[::-1]})

    assert 200 == own.status_code
    assert 404 == stolen.status_code
    assert 404 == guessed.status_code


@pytest.mark.parametrize("shape", ["0" * 32, "0", "", "../mcp", "x" * 4000, "%00", "null"])
def test_guessed_sessions_are_not_found_and_guessing_has_a_rate(bench: Bench, shape: str) -> None:
    """However many are tried: what is not there looks like what is another's."""
    with serving(bench, ServerConfig(port=0, rate_limit=20)) as served, httpx2.Client() as client:
        headers = {**ACCEPT, "Authorization": f"Bearer {served.token}", "Mcp-Protocol-Version": "2025-06-18"}
        listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
        codes = [
            client.post(served.url, json=listing, headers={**headers, "Mcp-Session-Id": shape}).status_code
            for _ in range(60)
        ]

    assert {404, 429} == set(codes)
    assert codes.count(404) < 40


def test_a_token_has_so_many_sessions(served: Served, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot take those of others; one that was ended makes room, and single requests need none."""
    monkeypatch.setattr(connections, "_SESSIONS_EACH", 3)
    opened = [http.post("/mcp", json=INITIALIZE) for _ in range(4)]
    other = served.bench.app.tokens.create("other", ["admin:ro"]).secret
    beside = http.post("/mcp", json=INITIALIZE, headers={"Authorization": f"Bearer {other}"})
    used = http.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
        headers={"Mcp-Session-Id": opened[0].headers["mcp-session-id"], "Mcp-Protocol-Version": "2025-06-18"},
    )

    async def use(client: Client) -> str:
        return str(data_of(await client.call_tool("project_list")))

    single = served.run("2026-07-28", use)
    http.delete("/mcp", headers={"Mcp-Session-Id": opened[1].headers["mcp-session-id"]})
    again = [http.post("/mcp", json=INITIALIZE).status_code for _ in range(2)]

    assert [200, 200, 200, 429] == [answer.status_code for answer in opened]
    assert "has 3 sessions already" in opened[3].json()["error"]
    assert (200, 200) == (beside.status_code, used.status_code)
    assert "{'projects': []}" == single
    assert [200, 429] == again


def test_sessions_that_nobody_uses_make_room(
    served: Served, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients that crash end none."""
    monkeypatch.setattr(connections, "_SESSIONS_EACH", 1)
    first = [http.post("/mcp", json=INITIALIZE).status_code for _ in range(2)]
    monkeypatch.setattr(connections, "SESSION_IDLE", 0.0)

    assert [200, 429] == first
    # Its own request may be in flight still for a moment after its answer has come.
    wait_for(lambda: http.post("/mcp", json=INITIALIZE).status_code == 200)


def test_a_token_has_a_rate(bench: Bench) -> None:
    """Beyond it, requests are refused with the time to wait; another token's are not."""
    with serving(bench, ServerConfig(port=0, rate_limit=5)) as served:
        other = served.bench.app.tokens.create("other", ["admin"]).secret
        codes = []
        for secret in [served.token] * 7 + [other]:
            headers = {**ACCEPT, "Authorization": f"Bearer {secret}", "Mcp-Session-Id": "guess"}
            answer = httpx2.post(served.url, json=INITIALIZE, headers=headers)
            codes.append(answer.status_code)
            if answer.status_code == 429:
                assert 1 <= int(answer.headers["retry-after"]) <= 13

    assert [404] * 5 + [429] * 2 + [404] == codes


def test_health_is_for_all_and_metrics_for_administrators(served: Served, http: httpx2.Client) -> None:
    """Who reads metrics learns what others do."""
    http.post("/mcp", json=INITIALIZE)
    readers = {scope: served.bench.app.tokens.create(scope, [scope]).secret for scope in ("admin:ro",)}
    project = served.bench.app.projects.create("demo")
    readers["project"] = served.bench.app.tokens.create("project", [f"project:{project.id}"]).secret
    answers = {
        name: httpx2.get(f"{served.base}/metrics", headers={"Authorization": f"Bearer {secret}"})
        for name, secret in readers.items()
    }

    assert {"status": "ok"} == httpx2.get(f"{served.base}/healthz").json()
    assert 401 == httpx2.get(f"{served.base}/metrics").status_code
    assert 403 == answers["project"].status_code
    assert 200 == answers["admin:ro"].status_code
    assert "oubliette_calls_in_flight" in answers["admin:ro"].text


@EVERY_ERA
def test_a_cancelled_command_is_gone(served: Served, era: str) -> None:
    """Within two seconds, and so is its call."""
    served.bench.start("demo")

    async def use(client: Client) -> float:
        with anyio.move_on_after(0.5):
            await client.call_tool("container_exec", {"project_id": "demo", "command": ["sleep", "999"]})

        async def gone() -> bool:
            return "sleep 999" not in served.bench.run("demo", "ps") and not served.parts.dispatcher.work.active

        return await until(gone)

    assert 2 > served.run(era, use)


@EVERY_ERA
def test_a_cancelled_pull_ends(served: Served, era: str) -> None:
    """Within two seconds, and nothing was made."""
    served.bench.registry.stall("registry.example.com/base:1")

    async def use(client: Client) -> float:
        with anyio.move_on_after(0.5):
            await client.call_tool("project_create", {"name": "demo"})

        async def ended() -> bool:
            return not served.parts.dispatcher.work.active

        return await until(ended)

    assert 2 > served.run(era, use)
    assert () == served.bench.app.projects.list()


@EVERY_ERA
def test_commands_that_sleep_leave_light_calls_as_fast_as_before(served: Served, era: str) -> None:
    """They have threads of their own."""
    served.bench.start("demo")

    async def seconds(client: Client) -> float:
        began = anyio.current_time()
        for _ in range(5):
            data_of(await client.call_tool("container_list"))
        return (anyio.current_time() - began) / 5

    async def all_of_them() -> bool:
        return served.parts.dispatcher.work.active == 60

    async def use(client: Client) -> tuple[float, float]:
        before = await seconds(client)
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                command = {"project_id": "demo", "command": ["sleep", "60"]}
                tasks.start_soon(client.call_tool, "container_exec", command)
            await until(all_of_them)
            during = await seconds(client)
            tasks.cancel_scope.cancel()
        return before, during

    before, during = served.run(era, use)

    assert during < max(0.3, 10 * before)


def test_a_stopping_server_finishes_or_cancels_and_leaves_nothing(bench: Bench) -> None:
    """Fifty commands in flight and one in the background are gone within ten seconds, and each call has an answer."""
    bench.start("demo")
    answers: list[str] = []

    async def call(served: Served) -> None:
        async def one(client: Client) -> None:
            try:
                arguments = {"project_id": "demo", "command": ["sleep", "999"]}
                answers.append(json.dumps((await client.call_tool("container_exec", arguments)).structured_content))
            except Exception as error:  # noqa: BLE001 - a closed connection is an answer, too
                answers.append(type(error).__name__)

        async with served.connect() as client, anyio.create_task_group() as tasks:
            arguments = {"project_id": "demo", "command": ["sleep", "999"], "background": True}
            data_of(await client.call_tool("container_exec", arguments))
            for _ in range(50):
                tasks.start_soon(one, client)

    with serving(bench, ServerConfig(port=0)) as served:
        caller = threading.Thread(target=anyio.run, args=(call, served))
        caller.start()
        while served.parts.dispatcher.work.active < 50:
            assert caller.is_alive()
            threading.Event().wait(0.05)
        began = now()
    took = now() - began
    caller.join(10)

    assert took < timedelta(seconds=10)
    assert 50 == len(answers)
    assert 50 == sum('"cancelled": true' in answer for answer in answers)
    assert "sleep 999" not in bench.run("demo", "ps")
    assert () == bench.app.sessions.active()


def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sends a byte now and then would keep a connection for ever."""
    monkeypatch.setattr(guard, "_BODY_SECONDS", 0.3)
    host = served.base.removeprefix("http://")
    head = (
        f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: 100\r\nAuthorization: Bearer {served.token}\r\n\r\n{{"
    )
    with socket.create_connection((host.split(":")[0], int(host.split(":")[1])), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(4096)

    assert answer.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    ("before", "said"),
    [(0, b""), (0, b"POST /mcp HT"), (0, b"GET /healthz HTTP/1.1\r\nX: "), (1, b"GET /healthz HTTP/1.1\r\nX: ")],
)
def test_a_header_that_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, said: bytes, before: int
) -> None:
    """Nor a connection on which nothing is said: they are limited, and others need them."""
    monkeypatch.setattr(connections, "_HEADER_SECONDS", 0.3)
    address = served.base.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1])), timeout=20) as connection:
        for _ in range(before):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(said)
        while connection.recv(4096):
            pass

    assert {"status": "ok"} == httpx2.get(f"{served.base}/healthz").json()


def test_an_idle_connection_is_kept_for_longer_than_clients_use_it(served: Served) -> None:
    """Python's use one for five seconds: closed just then, it would take their next request along."""
    address = served.base.removeprefix("http://").split(":")
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.create_connection((address[0], int(address[1])), timeout=20) as connection:
        connection.sendall(request)
        first = connection.recv(4096)
        closed, _, _ = select.select([connection], [], [], 6)
        connection.sendall(request)
        second = connection.recv(4096)

    assert [] == closed
    assert [b"HTTP/1.1 200"] * 2 == [first[:12], second[:12]]


def _is_running(served: Served) -> bool:
    return "sleep 987" in served.bench.run("demo", "ps")


def test_a_connection_that_drops_takes_its_command_along_in_the_era_of_single_requests(served: Served) -> None:
    """There the connection is the call. Nothing is left, and the project is as it was."""
    served.bench.start("demo")
    drop(served.url, served.token, single(EXEC), SINGLE, lambda: _is_running(served))
    began = time.monotonic()
    wait_for(lambda: not _is_running(served) and not served.parts.dispatcher.work.active)

    assert time.monotonic() - began < 2
    assert 0 == served.bench.app.containers.exec("demo", ExecSpec(command=("true",))).exit_code
    assert () == served.bench.app.sessions.active()


def test_a_connection_that_drops_is_no_cancel_in_the_era_of_sessions(served: Served, http: httpx2.Client) -> None:
    """The client may come back. Its command runs on to its end, others are served, and ending the session ends it."""
    served.bench.start("demo")
    session = http.post("/mcp", json=INITIALIZE).headers["mcp-session-id"]
    headers = {"Mcp-Session-Id": session, "Mcp-Protocol-Version": "2025-06-18"}
    http.post("/mcp", json={"jsonrpc": "2.0", "method": "notifications/initialized"}, headers=headers)
    drop(served.url, served.token, EXEC, headers, lambda: _is_running(served))
    ping = http.post("/mcp", json={"jsonrpc": "2.0", "id": 8, "method": "ping"}, headers=headers)
    still = _is_running(served)
    http.delete("/mcp", headers=headers)
    wait_for(lambda: not _is_running(served) and not served.parts.dispatcher.work.active)

    assert (200, True) == (ping.status_code, still)
    assert 0 == served.bench.app.containers.exec("demo", ExecSpec(command=("true",))).exit_code


@EVERY_ERA
def test_a_call_that_is_repeated_after_a_timeout_makes_nothing_twice(served: Served, era: str) -> None:
    """A client that gave up on a slow pull asks again: one project, one container."""
    image = "registry.example.com/base:1"
    served.bench.registry.stall(image)

    async def use(client: Client) -> tuple[dict[str, Any], str]:
        with pytest.raises(MCPError, match=r"(?i)timed out"):
            await client.call_tool("project_create", {"name": "demo"}, read_timeout_seconds=0.5)

        async def ended() -> bool:
            return not served.parts.dispatcher.work.active

        await until(ended)
        served.bench.registry.heal(image)
        made = data_of(await client.call_tool("project_create", {"name": "demo"}))
        return made, error_of(await client.call_tool("project_create", {"name": "demo"}))

    made, again = served.run(era, use)

    assert ("running", "ConflictError") == (made["state"], again)
    assert [made["project"]["id"]] == [project.id for project in served.bench.app.projects.list()]
    assert 1 == len(served.bench.app.runtime.list_containers())


@EVERY_ERA
def test_a_refresh_that_is_cancelled_leaves_the_old_container(served: Served, era: str) -> None:
    """As it was, running; and the next refresh works."""
    image = "registry.example.com/base:1"
    before = served.bench.start("demo").container
    served.bench.registry.publish(image, "2")
    served.bench.registry.stall(image)

    async def use(client: Client) -> tuple[str, dict[str, Any]]:
        with anyio.move_on_after(0.5):
            await client.call_tool("container_refresh", {"project_id": "demo"})

        async def ended() -> bool:
            return not served.parts.dispatcher.work.active

        assert await until(ended) < 2
        (left,) = served.bench.app.runtime.list_containers()
        served.bench.registry.heal(image)
        (refreshed,) = data_of(await client.call_tool("container_refresh", {"project_id": "demo"}))["projects"]
        return left.id, refreshed

    left, refreshed = served.run(era, use)

    assert before is not None
    assert before.id == left
    assert (True, True) == (refreshed["refreshed"], refreshed["image_changed"])
    assert 1 == len(served.bench.app.runtime.list_containers())
