"""``oubliette token``: access tokens of the MCP server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from oubliette_core.cli.apps import JsonOption, new_group
from oubliette_core.cli.invocation import current
from oubliette_core.cli.text import plain
from oubliette_core.services.records import Token

app = new_group()


@app.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope", metavar="S", help="What it allows: admin, admin:ro, project:P or project:P:ro. Can be repeated."
        ),
    ],
    days: Annotated[float | None, typer.Option(metavar="N", min=0, help="It expires after so many days.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token and print it: it is shown only now."""
    invocation = current(context)
    expires = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with invocation.app() as opened:
        made = opened.tokens.create(name, scopes, expires_at=expires)
    if as_json:
        invocation.output.json(plain(made.token) | {"scopes": list(map(str, made.token.scopes)), "secret": made.secret})
        return
    invocation.output.line(made.secret)
    invocation.output.note(f"Created token {made.token.name} ({made.token.id}). Keep it: it is not shown again.")


@app.command("list")
def list_tokens(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the tokens, without their secrets."""
    invocation = current(context)
    with invocation.app() as opened:
        tokens = opened.tokens.list()
    if as_json:
        invocation.output.json([plain(one) | {"scopes": list(map(str, one.scopes))} for one in tokens])
    elif tokens:
        headings = ("NAME", "ID", "SCOPES", "CREATED", "EXPIRES", "LAST USED")
        invocation.output.table(headings, [_row(one) for one in tokens])
    else:
        invocation.output.note("No tokens. Make one: oubliette token create NAME --scope admin")


def _row(token: Token) -> tuple[object, ...]:
    scopes = ", ".join(map(str, token.scopes))
    return token.name, token.id, scopes, token.created_at, _expiry(token.expires_at), token.last_used_at


def _expiry(moment: datetime | None) -> str:
    if moment is None:
        return "never"
    return "expired" if moment <= datetime.now(UTC) else moment.strftime("%Y-%m-%d %H:%M UTC")


@app.command()
def revoke(
    context: typer.Context,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id or name.")],
) -> None:
    """Delete a token; whoever uses it is refused from now on."""
    invocation = current(context)
    with invocation.app() as opened:
        revoked = opened.tokens.revoke(token)
    invocation.output.line(f"Revoked token {revoked.name} ({revoked.id}).")
