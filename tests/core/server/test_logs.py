"""The logs: one JSON object a line, private, rotated, shared by processes, and without secrets."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from oubliette_core.config import Config, CredentialsConfig, GithubCredentials, Home, Secret
from oubliette_core.config.redaction import Redactor
from oubliette_core.server.logs import SharedFileHandler, logging_to
from tests.core.server.conftest import Served, Tools, data_of

SECRET = "ghp_geheimnis1234567890"
CONFIG = Config(credentials=CredentialsConfig(github=GithubCredentials(token=Secret(SECRET))))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home."""
    home = Home(path=tmp_path / "home")
    home.create()
    return home


def _entries(home: Home, name: str = "server.log") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home.logs_dir / name).read_text(encoding="ascii").splitlines()]


def test_a_record_is_one_line_whatever_is_in_it(home: Home) -> None:
    """No name can pass for a record of its own, or steer the terminal of whoever reads the log."""
    evil = 'x"}\n{"level": "info", "message": "all is well"}\r\x1b[2J\u202e'
    with logging_to(home, Config()):
        logging.getLogger("test").warning("name is %s", evil)
    (entry,) = _entries(home)

    assert f"name is {evil}" == entry["message"]
    assert "\x1b" not in (home.logs_dir / "server.log").read_text(encoding="ascii")


def test_secrets_are_masked(home: Home) -> None:
    """Those of the configuration and access tokens, in messages, fields and tracebacks."""
    token = "oub_abcdefghijkl_" + "x" * 43
    with logging_to(home, CONFIG):
        log = logging.getLogger("test")
        log.info("with %s and %s", SECRET, token, extra={"fields": {"deep": [{"er": SECRET}]}})
        try:
            raise ValueError(SECRET)
        except ValueError:
            log.exception("failed with %s", token)
    text = (home.logs_dir / "server.log").read_text(encoding="ascii")

    assert SECRET not in text
    assert "x" * 43 not in text
    assert "oub_abcdefghijkl_***" in text
    assert "ValueError: ***" in text


def test_files_are_private_whatever_the_umask(home: Home) -> None:
    """And stay so when they are rotated."""
    before = os.umask(0)
    try:
        with logging_to(home, Config()):
            logging.getLogger("test").warning("x")
    finally:
        os.umask(before)

    assert {0o600} == {stat.S_IMODE(path.stat().st_mode) for path in home.logs_dir.iterdir()}


def test_the_level_is_the_configured_one_and_all_is_as_it_was_afterwards(home: Home) -> None:
    """The process may go on with other things, as tests do."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with logging_to(home, Config()):
        logging.getLogger("test").debug("not this")
        logging.getLogger("test").info("but this")

    assert ["but this"] == [entry["message"] for entry in _entries(home)]
    assert before == (root.level, list(root.handlers))


def test_several_processes_write_and_rotate_one_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """No record is lost or torn, whoever rotates."""
    program = (
        "import logging, sys; from pathlib import Path; from oubliette_core.server import logs;"
        "from oubliette_core.config.redaction import Redactor;"
        "logs._LARGEST = 20_000; logs._OLD_FILES = 50; path, lock, name = sys.argv[1:];"
        "handler = logs.SharedFileHandler(Path(path), Path(lock));"
        "handler.setFormatter(logs.JsonFormatter(Redactor(())));"
        "log = logging.getLogger(name); log.addHandler(handler); log.setLevel('INFO');"
        "[log.info('%s %d', 'x' * 100, number) for number in range(300)]"
    )
    path, lock = home.logs_dir / "server.log", home.locks_dir / "logs.lock"
    writers = [subprocess.Popen([sys.executable, "-c", program, path, lock, f"w{number}"]) for number in range(3)]
    assert [0, 0, 0] == [writer.wait(60) for writer in writers]
    files = sorted(home.logs_dir.iterdir())
    seen = [
        (entry["logger"], int(entry["message"].split()[1]))
        for file in files
        for entry in map(json.loads, file.read_text(encoding="ascii").splitlines())
    ]

    assert 3 < len(files)
    assert sorted((f"w{writer}", number) for writer in range(3) for number in range(300)) == sorted(seen)


def test_a_file_that_was_taken_away_is_made_again(home: Home) -> None:
    """Other programs rotate logs, too."""
    path = home.logs_dir / "server.log"
    with logging_to(home, Config()):
        logging.getLogger("test").warning("first")
        path.rename(home.logs_dir / "taken")
        logging.getLogger("test").warning("second")

    assert ["second"] == [entry["message"] for entry in _entries(home)]


def test_a_handler_can_be_closed_twice(home: Home) -> None:
    """As logging does at the end of a process."""
    handler = SharedFileHandler(home.logs_dir / "x.log", home.locks_dir / "logs.lock")
    handler.close()
    handler.close()

    assert -1 == handler._lock_descriptor
    assert Redactor(("short",))("short") == "short"


def test_every_call_that_changes_something_is_audited(tools: Tools) -> None:
    """Who, what, to what, and what came of it; refused ones too, and no secret."""
    with logging_to(tools.bench.home, Config()):
        reader = tools.token("admin:ro")
        tools("project_create", {"name": "demo", "start": False})
        tools("project_create", {"name": "other", "start": False}, token=reader)
        tools("project_create", {"name": "demo", "start": False})
        tools("container_exec", {"project_id": "demo", "command": ["curl", SECRET], "env": {"KEY": SECRET}})
        tools("project_list")
        tools("token_create", {"name": "ci", "scopes": ["admin"]})
        tools("token_revoke", {"token": "ci"})
        tools("project_delete", {"project_id": "demo"})
    entries = _entries(tools.bench.home, "audit.log")

    assert [
        ("local user", "project_create", "ok", ""),
        ("t0", "project_create", "denied", "AccessDeniedError"),
        ("local user", "project_create", "failed", "ConflictError"),
        ("local user", "container_exec", "failed", "ContainerNotFoundError"),
        ("local user", "token_create", "ok", ""),
        ("local user", "token_revoke", "ok", ""),
        ("local user", "project_delete", "ok", ""),
    ] == [(entry["caller_name"], entry["tool"], entry["outcome"], entry["reason"]) for entry in entries]
    assert entries[0]["subject"] == entries[3]["subject"] == entries[6]["subject"]
    assert entries[4]["subject"] == entries[5]["subject"]
    assert {"program": "curl", "words": 2, "background": False} == entries[3]["arguments"]
    assert SECRET not in str(entries)


def test_nothing_that_is_secret_is_in_any_log_of_a_server(served: Served) -> None:
    """Neither tokens that were used, nor those that were made."""

    async def use() -> str:
        async with served.connect() as client:
            made = await client.call_tool("token_create", {"name": "ci", "scopes": ["admin"]})
            return str(data_of(made)["secret"])

    secret = anyio.run(use)
    logged = "".join(path.read_text(encoding="ascii") for path in served.bench.home.logs_dir.iterdir())

    assert "token_create" in logged
    assert secret[17:] not in logged
    assert served.token[17:] not in logged
