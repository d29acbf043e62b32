"""The configuration files of MCP clients, and what stands in them for this server."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs

from oubliette_core.errors import InvalidValueError, ServiceError
from oubliette_core.server import jsonc

NAME = "oubliette"
TOKEN_VARIABLE = "OUBLIETTE_TOKEN"  # noqa: S105 - the name of a variable


@attrs.frozen(kw_only=True)
class Launch:
    """A server that the client starts itself and talks to over standard streams."""

    command: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Connection:
    """A server that runs already. :param token: None to have the client take it from the environment."""

    url: str
    token: str | None = attrs.field(default=None, repr=False)


Entry = dict[str, Any]


@attrs.frozen(kw_only=True)
class Client:
    """A kind of client.

    :param title: its name for people. :param keys: where its servers stand in its file.
    :param launch: makes the entry of a server that it starts. :param connect: of one that it connects to.
    :param variable: how its file names an environment variable; empty where it cannot.
    :param file: finds the user's file, from the environment.
    """

    title: str
    keys: tuple[str, ...]
    launch: Callable[[Sequence[str]], Entry]
    connect: Callable[[str, Mapping[str, str]], Entry]
    variable: str
    file: Callable[[Mapping[str, str]], Path]

    def entry(self, server: Launch | Connection) -> Entry:
        """Return what stands in its file for a server.

        :raises InvalidValueError: the client cannot take the token from the environment.
        """
        if isinstance(server, Launch):
            return self.launch(server.command)
        if server.token is None and not self.variable:
            raise InvalidValueError(
                f"{self.title} cannot take a token from the environment", hint="Have one made: --scope SCOPE"
            )
        token = server.token or self.variable.format(TOKEN_VARIABLE)
        return self.connect(server.url, {"Authorization": f"Bearer {token}"})


def _split(command: Sequence[str]) -> Entry:
    return {"command": command[0], "args": list(command[1:])}


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("HOME") or Path.home())


def _configured(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("XDG_CONFIG_HOME") or _home(environ) / ".config")


def _of_vscode(environ: Mapping[str, str]) -> Path:
    mac = _home(environ) / "Library" / "Application Support"
    return (mac if sys.platform == "darwin" else _configured(environ)) / "Code" / "User" / "mcp.json"


def _of_opencode(environ: Mapping[str, str]) -> Path:
    directory = _configured(environ) / "opencode"
    with_comments = directory / "opencode.jsonc"
    return with_comments if with_comments.exists() else directory / "opencode.json"


CLIENTS: Mapping[str, Client] = {
    "claude-code": Client(
        title="Claude Code",
        keys=("mcpServers",),
        launch=lambda command: {"type": "stdio", **_split(command)},
        connect=lambda url, headers: {"type": "http", "url": url, "headers": dict(headers)},
        variable="${{{}}}",
        file=lambda environ: _home(environ) / ".claude.json",
    ),
    "cursor": Client(
        title="Cursor",
        keys=("mcpServers",),
        launch=_split,
        connect=lambda url, headers: {"url": url, "headers": dict(headers)},
        variable="${{env:{}}}",
        file=lambda environ: _home(environ) / ".cursor" / "mcp.json",
    ),
    "vscode": Client(
        title="Visual Studio Code",
        keys=("servers",),
        launch=lambda command: {"type": "stdio", **_split(command)},
        connect=lambda url, headers: {"type": "http", "url": url, "headers": dict(headers)},
        variable="${{env:{}}}",
        file=_of_vscode,
    ),
    "opencode": Client(
        title="opencode",
        keys=("mcp", "servers"),
        launch=lambda command: {"type": "local", "command": list(command)},
        connect=lambda url, headers: {"type": "remote", "url": url, "headers": dict(headers)},
        variable="{{env:{}}}",
        file=_of_opencode,
    ),
    "zed": Client(
        title="Zed",
        keys=("context_servers",),
        launch=_split,
        connect=lambda url, headers: {"url": url, "headers": dict(headers)},
        variable="",
        file=lambda environ: _configured(environ) / "zed" / "settings.json",
    ),
}


def merged(client: Client, text: str, entry: Entry) -> str:
    """Return a client's file with the entry of this server put in or replaced; all else stays as it is.

    :raises InvalidValueError: the file is not what the client could read.
    """
    keys = client.keys
    if keys == ("mcp", "servers") and set(jsonc.keys_at(text, ("mcp",))) - {"servers"}:
        keys = ("mcp",)  # the first version of opencode has no level between
    return jsonc.put(text, (*keys, NAME), entry)


def read(file: Path) -> str:
    """Return the text of a client's file; empty where there is none.

    :raises ServiceError: it cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ServiceError(f"{file} cannot be read: {error}", subject=str(file)) from error


def write(file: Path, text: str, *, secret: bool) -> Path | None:
    """Replace a client's file in one step, and keep what it was beside it; a link stays one.

    :param secret: it holds a token now: nobody else may read it.
    :returns: where the old one is, where there was one. :raises ServiceError: it cannot be written.
    """
    target = file.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o600
        backup = None
        if target.exists():
            backup = target.with_name(f"{target.name}.bak")
            _replace(backup, target.read_bytes(), mode & (0o700 if secret else 0o777))
        _replace(target, text.encode(), mode & 0o700 if secret else mode)
    except OSError as error:
        raise ServiceError(f"{file} cannot be written: {error.strerror}", subject=str(file)) from error
    return backup


def _replace(path: Path, data: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(temporary).unlink()
        raise


def own_command(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return how to start ``oubliette`` from anywhere: editors that a desktop starts have another PATH than shells."""
    beside = Path(sys.executable).with_name(NAME)
    if beside.is_file():
        return (str(beside),)
    found = shutil.which(NAME, path=environ.get("PATH", os.defpath))
    return (found,) if found else (sys.executable, "-P", "-m", "oubliette_core")
