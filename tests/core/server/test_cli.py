"""The commands that run the server and connect its clients."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import json5
import pytest

from oubliette_core.config import Home
from oubliette_core.server import clients, instance
from tests.core.cli.conftest import CommandLine

SCRIPT = Path(sys.executable).with_name("oubliette")


@pytest.fixture
def oubliette(tmp_path: Path) -> CommandLine:
    """The command line, with a home."""
    home = tmp_path / "home"
    environ = {"OUBLIETTE_HOME": str(home), "HOME": str(tmp_path / "user"), "PATH": os.environ["PATH"]}
    Home(path=home).create()
    command = CommandLine(home=home, environ=environ)
    command.configure('{"server": {"port": 0}}')
    return command


def _script(command: CommandLine, *words: str) -> tuple[int, str, str]:
    """Run the installed command: what starts a process that goes on is not for the test's own process."""
    done = subprocess.run([SCRIPT, *words], env=command.environ, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def running(oubliette: CommandLine) -> Iterator[dict[str, Any]]:
    """A server in the background."""
    assert 0 == _script(oubliette, "serve", "--daemon")[0]
    try:
        yield json.loads(oubliette("serve", "status", "--json").stdout)
    finally:
        oubliette("serve", "stop")


def test_a_server_in_the_background_is_found_and_stopped(oubliette: CommandLine, running: dict[str, Any]) -> None:
    """It outlives the command that started it, and is known to all others."""
    health = httpx2.get(running["url"].replace("/mcp", "/healthz")).json()
    told = oubliette("serve", "status")
    code, _, again = _script(oubliette, "serve", "--daemon")
    stopped = oubliette("serve", "stop")
    after = oubliette("serve", "status")

    assert {"status": "ok"} == health
    assert (0, True) == (told.code, running["url"] in told.stdout)
    assert (5, f"error: a server runs already for {oubliette.home} at {running['url']} (process {running['pid']})") == (
        code,
        again.splitlines()[0],
    )
    assert f"Stopped the server at {running['url']} (process {running['pid']}).\n" == stopped.stdout
    assert (1, "No server runs for this home.\n") == (after.code, after.stdout)
    assert not (oubliette.home / "data" / "server.json").exists()


def test_to_stop_what_does_not_run_is_no_error(oubliette: CommandLine) -> None:
    """It is as it should be."""
    assert (0, "No server runs for this home.\n") == (
        oubliette("serve", "stop").code,
        oubliette("serve", "stop").stderr,
    )


def test_a_server_that_was_killed_is_not_taken_for_running(oubliette: CommandLine, running: dict[str, Any]) -> None:
    """Its number may be another process's by now."""
    os.kill(running["pid"], signal.SIGKILL)
    lock = Home(path=oubliette.home).locks_dir / "server.lock"
    while instance._is_held(lock):
        pass

    assert 1 == oubliette("serve", "status").code
    assert 0 == oubliette("serve", "stop").code
    assert 0 == _script(oubliette, "serve", "--daemon")[0]


def test_a_server_that_cannot_start_says_why(oubliette: CommandLine, running: dict[str, Any], tmp_path: Path) -> None:
    """Also in the background, where nobody sees what it prints."""
    port = running["url"].rpartition(":")[2].removesuffix("/mcp")
    other = CommandLine(
        home=tmp_path / "other", environ={**oubliette.environ, "OUBLIETTE_HOME": str(tmp_path / "other")}
    )
    Home(path=other.home).create()
    code, _, said = _script(other, "serve", "--daemon", "--port", port)

    assert 5 == code
    assert said.startswith(f"error: the server did not start: cannot listen on 127.0.0.1 port {port}: ")
    assert "\n  hint: Choose another port: " in said


@pytest.mark.parametrize("words", [("serve",), ("serve", "--daemon"), ("serve", "--stdio")])
@pytest.mark.parametrize("state", ["read-only", "missing"])
def test_a_home_that_cannot_be_written_is_told_in_one_line(
    oubliette: CommandLine, words: tuple[str, ...], state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the path; a directory that is missing would be made again."""
    logs = oubliette.home / "data" / "logs"
    logs.rmdir()
    if state == "missing":
        logs.symlink_to(oubliette.home / "nowhere")  # as root, nothing is read-only
    else:
        monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != logs)
    result = oubliette(*words)

    assert 1 == result.code
    assert result.stderr.startswith(f"error: {logs} cannot be written: ")
    assert "Traceback" not in result.stderr


def test_directories_that_are_missing_are_made_again(oubliette: CommandLine) -> None:
    """Whoever clears away logs need not know what else was there."""
    for name in ("logs", "locks"):
        shutil.rmtree(oubliette.home / "data" / name)
    started = _script(oubliette, "serve", "--daemon")
    stopped = oubliette("serve", "stop")

    assert (0, 0) == (started[0], stopped.code)
    assert 0o700 == stat.S_IMODE((oubliette.home / "data" / "logs").stat().st_mode)


def test_what_a_server_says_before_it_ends_is_told() -> None:
    """Of all that it printed, the error and its hint; of a bug, the end of it."""
    told = "warning: x\nerror: no: error: here\n  server.host: bad\n  hint: Do this.\n"

    assert ("no: error: here; server.host: bad", "Do this.") == instance._why(told)
    assert ("Traceback; ValueError: x", "") == instance._why("Traceback\n  ValueError: x\n")
    assert ("", "") == instance._why("")


def test_a_network_is_not_listened_on_without_tls(oubliette: CommandLine) -> None:
    """In the foreground as well."""
    result = oubliette("serve", "--host", "0.0.0.0")  # noqa: S104 - that is what is tested

    assert 1 == result.code
    assert "without TLS" in result.stderr
    assert "server.allow_plain_http" in result.stderr


def test_options_that_exclude_each_other_are_refused(oubliette: CommandLine) -> None:
    """Standard streams have no port."""
    assert 2 == oubliette("serve", "--stdio", "--port", "1").code


def test_ctrl_c_stops_a_server_in_the_foreground(oubliette: CommandLine) -> None:
    """In good order."""
    with subprocess.Popen([SCRIPT, "serve"], env=oubliette.environ, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert first.startswith("Serving at http://127.0.0.1:")
    assert (0, "") == (process.returncode, rest)


def _written(command: CommandLine, client: str) -> Path:
    return clients.CLIENTS[client].file(command.environ)


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_client_is_connected_and_keeps_what_it_had(oubliette: CommandLine, client: str) -> None:
    """Its own settings, and the comments in them; what it was is beside it."""
    file = _written(oubliette, client)
    file.parent.mkdir(parents=True, exist_ok=True)
    before = '{\n  // mine\n  "theme": "dark",\n}\n'
    file.write_text(before, encoding="utf-8")
    file.chmod(0o644)
    printed = oubliette("mcp", "config", "--client", client)
    untouched = file.read_text(encoding="utf-8")
    result = oubliette("mcp", "config", "--client", client, "--write")
    after = file.read_text(encoding="utf-8")
    entry = json5.loads(after)
    for key in clients.CLIENTS[client].keys:
        entry = entry[key]
    words = json.dumps(entry["oubliette"])

    assert (0, 0, before) == (printed.code, result.code, untouched)
    assert "// mine" in after
    assert "dark" == json5.loads(after)["theme"]
    assert json.loads(printed.stdout).items() <= json5.loads(after).items()
    assert all(word in words for word in ("serve", "--stdio", str(oubliette.home)))
    assert before == file.with_name(f"{file.name}.bak").read_text(encoding="utf-8")
    assert 0o644 == stat.S_IMODE(file.stat().st_mode)


def test_what_is_written_starts_a_server(oubliette: CommandLine) -> None:
    """From anywhere, with nothing of a shell's environment."""
    entry = json.loads(oubliette("mcp", "config", "--client", "cursor").stdout)["mcpServers"]["oubliette"]
    initialize = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}},
    }
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        input=json.dumps(initialize) + "\n",
        capture_output=True,
        text=True,
        env={"HOME": oubliette.environ["HOME"]},
        cwd="/",
        check=True,
    )

    assert "oubliette" == json.loads(done.stdout)["result"]["serverInfo"]["name"]


def test_a_second_write_changes_nothing_more(oubliette: CommandLine) -> None:
    """It replaces its own entry."""
    oubliette("mcp", "config", "--client", "zed", "--write")
    first = _written(oubliette, "zed").read_text(encoding="utf-8")
    oubliette("mcp", "config", "--client", "zed", "--write")

    assert first == _written(oubliette, "zed").read_text(encoding="utf-8")


def test_the_first_version_of_opencode_is_understood(oubliette: CommandLine) -> None:
    """It has its servers one level higher; a file of either stays one of it."""
    file = _written(oubliette, "opencode")
    file.parent.mkdir(parents=True)
    file.write_text('{"mcp": {"other": {"type": "local", "command": ["x"]}}}', encoding="utf-8")
    oubliette("mcp", "config", "--client", "opencode", "--write")

    assert {"other", "oubliette"} == set(json.loads(file.read_text(encoding="utf-8"))["mcp"])


@pytest.mark.parametrize("client", clients.CLIENTS)
def test_a_token_is_made_for_a_client_over_http_and_kept_from_others(
    oubliette: CommandLine, running: dict[str, Any], client: str
) -> None:
    """Whatever the file's mode was: it holds a secret now, and so does its backup if it held one."""
    file = _written(oubliette, client)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{}", encoding="utf-8")
    file.chmod(0o644)
    words = ("mcp", "config", "--client", client, "--http", "--scope", "admin:ro", "--write")
    first, second = oubliette(*words), oubliette(*words)
    text = file.read_text(encoding="utf-8")
    secret = text.partition("Bearer ")[2].partition('"')[0]
    answer = httpx2.get(running["url"].replace("/mcp", "/metrics"), headers={"Authorization": f"Bearer {secret}"})

    assert (0, 0) == (first.code, second.code)
    assert running["url"] in text
    assert 200 == answer.status_code
    assert secret not in second.stdout + second.stderr
    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in (file, file.with_name(f"{file.name}.bak"))}
    assert {client, f"{client}-2"} == {each["name"] for each in json.loads(oubliette("token", "list", "--json").stdout)}


def test_without_a_scope_the_token_comes_from_the_environment(oubliette: CommandLine, running: dict[str, Any]) -> None:
    """Where the client can do that; no token is made."""
    cursor = oubliette("mcp", "config", "--client", "cursor", "--http")
    zed = oubliette("mcp", "config", "--client", "zed", "--http")

    assert "Bearer ${env:OUBLIETTE_TOKEN}" in cursor.stdout
    assert (2, "--scope SCOPE" in zed.stderr) == (zed.code, True)
    assert "[]\n" == oubliette("token", "list", "--json").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--client", "emacs"], "there is no client 'emacs'"),
        (["--client", "zed", "--scope", "admin"], "--scope is for --http"),
        (["--client", "zed", "--http"], "no server runs for this home"),
    ],
)
def test_what_cannot_be_done_is_said(oubliette: CommandLine, words: list[str], said: str) -> None:
    """With the code of a mistake in the command line."""
    result = oubliette("mcp", "config", *words)

    assert (2, True) == (result.code, said in result.stderr)


def test_a_file_that_is_no_json_is_left_alone(oubliette: CommandLine, running: dict[str, Any]) -> None:
    """And no token is made for it."""
    file = _written(oubliette, "cursor")
    file.parent.mkdir(parents=True)
    file.write_text("not json", encoding="utf-8")
    result = oubliette("mcp", "config", "--client", "cursor", "--http", "--scope", "admin", "--write")

    assert (2, "not json") == (result.code, file.read_text(encoding="utf-8"))
    assert f"{file}: it is not JSON: line 1" in result.stderr
    assert "[]\n" == oubliette("token", "list", "--json").stdout


def test_a_link_stays_a_link(oubliette: CommandLine, tmp_path: Path) -> None:
    """Many keep such files elsewhere, under version control."""
    file = _written(oubliette, "zed")
    file.parent.mkdir(parents=True)
    target = tmp_path / "dotfiles.json"
    target.write_text("{}", encoding="utf-8")
    file.symlink_to(target)
    oubliette("mcp", "config", "--client", "zed", "--write")

    assert file.is_symlink()
    assert "oubliette" in target.read_text(encoding="utf-8")
