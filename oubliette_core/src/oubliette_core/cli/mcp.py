"""``oubliette mcp``: connecting MCP clients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from oubliette_core.cli.apps import new_group
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.errors import InvalidValueError
from oubliette_core.server import clients, instance

app = new_group()


@app.command()
def config(
    context: typer.Context,
    *,
    client: Annotated[str, typer.Option(metavar="C", help=f"One of: {', '.join(clients.CLIENTS)}.")],
    http: Annotated[
        bool, typer.Option("--http", help="Connect to the server that runs; otherwise the client starts its own.")
    ] = False,
    scopes: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="S",
            help="With --http: make a token for it, allowed this. Can be repeated. Otherwise the client takes "
            f"${clients.TOKEN_VARIABLE} from its environment.",
        ),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Put it into the client's file, keeping what is there.")
    ] = False,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Another file than the user's own of this client.")
    ] = None,
) -> None:
    """Print what connects a client to this server, or write it into the client's configuration."""
    invocation = current(context)
    kind = clients.CLIENTS.get(client)
    if kind is None:
        raise InvalidValueError(
            f"there is no client {client!r:.80}", value=client[:80], hint=f"Choose one of: {', '.join(clients.CLIENTS)}"
        )
    if scopes and not http:
        raise InvalidValueError("--scope is for --http: a client that starts the server needs no token")
    target = file or kind.file(invocation.environ)
    text = clients.read(target)
    try:
        clients.merged(kind, text, {})  # before a token is made
    except InvalidValueError as error:
        raise InvalidValueError(
            f"{target}: {error.message}", hint="Correct it, or choose another with --file."
        ) from error
    entry = kind.entry(_connection(invocation, client, scopes or []) if http else _launch(invocation))
    if not write:
        _print(invocation, kind, target, entry)
        return
    backup = clients.write(target, clients.merged(kind, text, entry), secret=bool(scopes))
    invocation.output.line(f"{kind.title} is connected: {target}")
    if backup is not None:
        invocation.output.note(f"What it was before is in {backup}")


def _launch(invocation: Invocation) -> clients.Launch:
    home = invocation.home()
    home.check()
    words = ["--dir", str(home.path), *(["--runtime", invocation.runtime] if invocation.runtime else [])]
    return clients.Launch(command=(*clients.own_command(invocation.environ), *words, "serve", "--stdio"))


def _connection(invocation: Invocation, client: str, scopes: list[str]) -> clients.Connection:
    with invocation.app() as opened:
        running = instance.find(opened.home)
        if running is None:
            raise InvalidValueError("no server runs for this home", hint="Start it: oubliette serve --daemon")
        if not scopes:
            return clients.Connection(url=running.url)
        taken = {token.name for token in opened.tokens.list()}
        names = [client, *(f"{client}-{number}" for number in range(2, len(taken) + 3))]
        made = opened.tokens.create(next(name for name in names if name not in taken), scopes)
    invocation.output.note(f"Created token {made.token.name} ({made.token.id}).")
    return clients.Connection(url=running.url, token=made.secret)


def _print(invocation: Invocation, kind: clients.Client, target: Path, entry: clients.Entry) -> None:
    shown: object = {clients.NAME: entry}
    for key in reversed(kind.keys):
        shown = {key: shown}
    invocation.output.verbatim(json.dumps(shown, indent=2))
    invocation.output.note(f"For {kind.title}, this belongs into {target}: --write puts it there.")
