"""``oubliette``: the global options, and the commands, each loaded only when it is the one that runs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import attrs
import typer
from typer.core import TyperCommand

from oubliette_core._version import __version__
from oubliette_core.cli import boundary
from oubliette_core.cli.apps import SETTINGS, Group, UsageError
from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.cli.invocation import Invocation
from oubliette_core.cli.output import Output, OutputClosedError, silence, standard_output
from oubliette_core.errors import OublietteError

COMMANDS: Mapping[str, str] = {
    "init": "Make the home with its configuration, and pull the images.",
    "doctor": "Check everything that Oubliette needs, and say what to do.",
    "project": "Make, list, show and delete projects.",
    "container": "Run and use the containers of projects.",
    "image": "List, pull, save, load and lock the configured images.",
    "runtime": "List and show the installed container runtimes.",
    "session": "Give agents work in the projects' containers, and follow it.",
    "chat": "Talk with an agent in a project's container.",
    "serve": "Serve projects and containers to MCP clients, over HTTP or standard input and output.",
    "mcp": "Connect MCP clients to the server.",
    "token": "Make, list and revoke access tokens for the server.",
    "config": "Show and check the configuration.",
    "version": "Show the versions of Oubliette and its runtimes.",
}
"""Every command with its summary; each is a module of this package, with an ``app``."""


class _RootGroup(Group):
    """Has stand-ins for the commands, which are enough for help and suggestions; the one that runs is imported."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = {name: TyperCommand(name, help=summary) for name, summary in COMMANDS.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command that ``args`` begin with."""
        name, stand_in, rest = super().resolve_command(ctx, args)
        return name, stand_in and load(str(name)), rest


def load(name: str) -> Any:
    """Import a command."""
    module = importlib.import_module(f"oubliette_core.cli.{name}")
    command = typer.main.get_command(module.app)
    command.name = name
    command.help = command.help or COMMANDS[name]
    return command


def _print_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"oubliette {__version__}\n")
        raise typer.Exit


app = typer.Typer(cls=_RootGroup, **SETTINGS)


@app.callback()
def _root(
    context: typer.Context,
    directory: Annotated[
        Path | None,
        typer.Option("--dir", metavar="DIR", help="The home; otherwise $OUBLIETTE_HOME, ./.oubliette or ~/.oubliette."),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The container runtime; otherwise $CONTAINER_RUNTIME or the configured one."),
    ] = None,
    version: Annotated[  # noqa: ARG001 - its callback acts
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """Give AI agents containers to work in.

    P stands for a project: its id, a unique prefix of it, or its name.

    Exit codes: 0 done, 1 failed, 2 usage, 3 no runtime, 4 not found, 5 conflict, 130 interrupted.
    """
    context.obj = attrs.evolve(context.obj, directory=directory, runtime=runtime)


def run(arguments: Sequence[str], environ: Mapping[str, str], output: Output) -> int:
    """Run one command; return its exit code.

    What is expected to go wrong is said in one line on standard error. Anything else is a bug, and raised.
    """
    with Interrupts() as interrupts:
        invocation = Invocation(environ=environ, output=output, interrupts=interrupts)
        try:
            return _ending(arguments, invocation)
        except OutputClosedError:
            silence(output.stdout)
            return boundary.PIPE_CLOSED


def _ending(arguments: Sequence[str], invocation: Invocation) -> int:
    """Run the command and explain its failure."""
    output, interrupts = invocation.output, invocation.interrupts
    try:
        command = typer.main.get_command(app)
        code = command.main(list(arguments), prog_name="oubliette", standalone_mode=False, obj=invocation)
    except UsageError as error:
        output.error(error.format_message(), f"Try: {error.ctx.command_path} --help" if error.ctx else "")
        return int(error.exit_code)
    except typer.Abort:  # the end of input, where an answer was expected
        code = boundary.FAILED
    except KeyboardInterrupt:
        code = boundary.INTERRUPTED
    except (OublietteError, boundary.PassedThroughError) as error:
        if not interrupts.fired:
            return _explain(error, output)
    if interrupts.fired:
        output.note("Interrupted.")
        return boundary.INTERRUPTED
    return code if isinstance(code, int) else boundary.DONE


def _explain(error: OublietteError | boundary.PassedThroughError, output: Output) -> int:
    if isinstance(error, boundary.PassedThroughError):
        boundary.report(error.error, output)
        return error.code
    boundary.report(error, output)
    return boundary.exit_code(error)


def run_process(arguments: Sequence[str]) -> int:
    """Run one command as a process of its own, with its streams and environment."""
    output = standard_output(os.environ)
    code = run(arguments, dict(os.environ), output)
    if code == boundary.INTERRUPTED:
        # A thread that still waits for an engine must not hold up the end.
        output.stdout.flush()
        os._exit(code)
    return code
