"""The entry of the emulator: reads the words, calls the command, prints what went wrong."""

import contextlib
import importlib
import os
import signal
import sys
from pathlib import Path

from tests.apple.emulator import options
from tests.apple.emulator.context import Context
from tests.apple.emulator.failures import Failure, UsageError
from tests.apple.emulator.grammar import HelpRequest, Parsed, read, usage
from tests.apple.emulator.options import Command
from tests.apple.emulator.settings import Settings

_OMITTED = 70
PLACES: dict[str, tuple[str, str]] = {
    "create": ("creating", "create"),
    "run": ("running", "run"),
    "start": ("running", "start"),
    "exec": ("running", "execute"),
    "stop": ("lifecycle", "stop"),
    "kill": ("lifecycle", "kill"),
    "delete": ("lifecycle", "delete"),
    "inspect": ("lifecycle", "inspect"),
    "list": ("lifecycle", "listed"),
    "logs": ("logs", "logs"),
    "build": ("building", "build"),
    "image": ("images", ""),
    "network": ("groups", ""),
    "volume": ("groups", ""),
    "system": ("system", ""),
}
"""The module and the function of a command; a group has a table of functions."""


def main(folder: str, argv: list[str]) -> int:
    """Carry out one call and return its exit code."""
    settings = Settings(Path(folder))
    settings.record(argv)
    context = Context(settings)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    try:
        code = _dispatch(context, argv)
    except UsageError as error:
        return _failed(64, f"Error: {error.text}", error.usage)
    except Failure as failure:
        return _failed(1, f"Error: {failure.text(settings.profile)}")
    except BrokenPipeError:
        os._exit(1)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    return code


def _failed(code: int, text: str, usage_text: str | None = None) -> int:
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    lines = [text]
    if usage_text:
        words = usage_text.split(" [")[0].split(" <")[0]
        lines += [f"Usage: container {usage_text}", f"  See 'container {words} --help' for more information."]
    os.write(2, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    return code


def _dispatch(context: Context, argv: list[str]) -> int:
    first = argv[0] if argv else "--help"
    if first == "--version":
        context.faults.hang("version")
        context.out(context.profile.line("container CLI"))
        return 0
    if first in ("--help", "-h"):
        context.out("OVERVIEW: A container platform for macOS\n\nUSAGE: container [--debug] <subcommand>")
        return 0
    command, rest = _command(argv)
    if command is None:
        return _unknown(context, argv)
    try:
        parsed = read(command, rest, context.profile)
    except HelpRequest:
        context.out(f"USAGE: container {usage(command)}")
        return 0
    return _call(context, command, parsed)


def _command(argv: list[str]) -> tuple[Command | None, list[str]]:
    words = [options.ALIASES.get(word, word) for word in argv[:2]]
    if words[0] in ("delete", "list", "image", "network", "volume", "system") or argv[0] not in options.ALIASES:
        for command in options.COMMANDS:
            if tuple(words[: len(command.words)]) == command.words:
                return command, argv[len(command.words) :]
    return None, []


def _unknown(context: Context, argv: list[str]) -> int:
    if any(word in options.OMITTED for word in argv[:2]):
        return _failed(_OMITTED, f"Error: this emulator of container leaves out '{' '.join(argv[:2])}'")
    groups = {command.words[0] for command in options.COMMANDS if len(command.words) > 1}
    if options.ALIASES.get(argv[0], argv[0]) in groups:
        words = " ".join(argv[1:2]) or "<subcommand>"
        raise UsageError(f"Unexpected argument '{words}'", f"{argv[0]} <subcommand>")
    if context.state.read()["up"]:
        raise UsageError(f"Plugin 'container-{argv[0]}' not found.", "[--debug] <subcommand>")
    raise UsageError(
        "Plugins are unavailable. Start the container system services and retry:\n\n    container system start\n"
    )


def _call(context: Context, command: Command, parsed: Parsed) -> int:
    """Carry out a command. Modules are imported only for the commands that need them: most calls are short."""
    name, function = PLACES[command.words[0]]
    module = importlib.import_module(f"tests.apple.emulator.{name}")
    chosen = getattr(module, function) if function else module.COMMANDS[command.words]
    return chosen(context, parsed) or 0
