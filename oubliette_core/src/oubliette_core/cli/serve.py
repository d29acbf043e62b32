"""``oubliette serve``: the MCP server."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated

import attrs
import typer

from oubliette_core.cli.apps import SETTINGS, JsonOption
from oubliette_core.cli.boundary import FAILED, PassedThroughError
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.cli.text import age, plain
from oubliette_core.errors import InvalidValueError
from oubliette_core.server import instance

# Not one of our groups, which print their help when they are called alone.
app = typer.Typer(add_completion=False, invoke_without_command=True, **SETTINGS)


@app.callback()
def serve(
    context: typer.Context,
    stdio: Annotated[bool, typer.Option("--stdio", help="Serve one client over standard input and output.")] = False,
    daemon: Annotated[bool, typer.Option("--daemon", help="Serve in the background.")] = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen on; otherwise the configured one.")
    ] = "",
    port: Annotated[
        int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = None,
) -> None:
    """Serve projects and containers to MCP clients, over HTTP or standard input and output.

    Clients over HTTP need an access token: oubliette token create NAME --scope SCOPE
    """
    if context.invoked_subcommand is not None:
        return
    invocation = current(context)
    if stdio and (daemon or host or port is not None):
        raise InvalidValueError("--stdio excludes --daemon, --host and --port")
    if daemon:
        _in_background(invocation, host, port)
    elif stdio:
        with invocation.app() as opened:
            # Most of a second of imports that no other command should pay for.
            from oubliette_core.server.serving import serve_stdio  # noqa: PLC0415

            serve_stdio(opened, stderr=sys.stderr)
    else:
        _in_foreground(invocation, host, port)


def _overrides(host: str, port: int | None) -> Mapping[str, object]:
    given = {"server.host": host or None, "server.port": port}
    return {name: value for name, value in given.items() if value is not None}


def _in_foreground(invocation: Invocation, host: str, port: int | None) -> None:
    home = invocation.home()
    home.check()
    loaded = invocation.load(home, overrides=_overrides(host, port))
    with instance.only_one(home), invocation.open(home, loaded) as opened:
        from oubliette_core.server.serving import serve_http  # noqa: PLC0415

        def started(url: str) -> None:
            instance.announce(home, url)
            invocation.output.note(f"Serving at {url}. Logs: {home.logs_dir}. Ctrl-C stops it.")

        serve_http(opened, loaded.config.server, started=started, stderr=sys.stderr)


def _in_background(invocation: Invocation, host: str, port: int | None) -> None:
    home = invocation.home()
    home.check()
    invocation.load(home, overrides=_overrides(host, port))
    with instance.only_one(home):
        pass  # said here, where the user sees it
    words = ["--dir", str(home.path)]
    if invocation.runtime is not None:
        words += ["--runtime", invocation.runtime]
    words += ["serve", *(["--host", host] if host else []), *(["--port", str(port)] if port is not None else [])]
    try:
        running = instance.start_in_background(home, words, invocation.environ)
    except instance.NotStartedError as error:
        raise PassedThroughError(error, max(error.exit_code, FAILED)) from error
    invocation.output.line(f"Serving at {running.url} (process {running.pid}).")
    invocation.output.note(f"Logs: {home.logs_dir}. Stop it: oubliette serve stop")


@app.command()
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Tell whether the server of this home runs, and where."""
    invocation = current(context)
    home = invocation.home()
    home.check()
    running = instance.find(home)
    if as_json:
        found = {} if running is None else plain(attrs.asdict(running))
        invocation.output.json({"running": running is not None, **found})
    elif running is not None:
        since = age(running.started_at)
        invocation.output.line(
            f"Serving at {running.url} (process {running.pid}, version {running.version}, started {since})."
        )
    else:
        invocation.output.line("No server runs for this home.")
    if running is None:
        raise typer.Exit(FAILED)


@app.command()
def stop(context: typer.Context) -> None:
    """Stop the server of this home. Calls under way get a moment to end."""
    invocation = current(context)
    home = invocation.home()
    home.check()
    stopped = instance.stop(home)
    if stopped is None:
        invocation.output.note("No server runs for this home.")
    else:
        invocation.output.line(f"Stopped the server at {stopped.url} (process {stopped.pid}).")
