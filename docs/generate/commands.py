"""The reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import typer

from docs.generate.words import MADE, code, document, paragraphs, prose, table
from oubliette_core import errors
from oubliette_core.cli import boundary, root

if TYPE_CHECKING:
    from collections.abc import Iterator

_CODES = {
    boundary.DONE: "Done.",
    boundary.FAILED: "It failed; standard error says why.",
    boundary.USAGE: "A mistake in the command line, or a value that is not of the form it has to be.",
    boundary.NO_RUNTIME: "No container runtime can be used.",
    boundary.NOT_FOUND: "What it is about does not exist.",
    boundary.CONFLICT: "It contradicts the state that things are in.",
    boundary.INTERRUPTED: "Interrupted or cancelled.",
}


def page() -> str:
    """Return the page."""
    command: Any = typer.main.get_command(root.app)
    context = command.make_context("oubliette", [], resilient_parsing=True)
    first, *rest = inspect.cleandoc(command.help).split("\n\n")
    said = [first, *(text for text in rest if not text.startswith("Exit codes"))]
    lines = ["# Command line", "", MADE, "", *paragraphs(said)]
    lines += ["With `--help`, every command says the same.", ""]
    lines += ["## Options before the command", "", *_parameters(command, context)]
    lines += [*_codes()]
    for name in root.COMMANDS:
        lines += _described(root.load(name), context, name, 2)
    return document(lines)


def _described(command: Any, parent: Any, name: str, level: int) -> Iterator[str]:
    """Yield a command and those below it."""
    context = type(parent)(command, info_name=name, parent=parent)
    yield f"{'#' * level} {context.command_path}"
    yield ""
    yield "```text"
    yield " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield "```"
    yield ""
    yield from paragraphs(" ".join(text.split()) for text in inspect.cleandoc(command.help or "").split("\n\n"))
    yield from _parameters(command, context)
    for inner, described in getattr(command, "commands", {}).items():
        yield from _described(described, context, inner, level + 1)


def _parameters(command: Any, context: Any) -> Iterator[str]:
    """Yield a table of the arguments and options."""
    rows = []
    for one in command.get_params(context):
        if getattr(one, "hidden", False) or "--help" in one.opts:
            continue
        shown = ", ".join([*one.opts, *one.secondary_opts])
        if one.param_type_name == "argument":
            shown = one.make_metavar(context)
        elif not one.is_flag:
            shown = f"{shown} {one.make_metavar(context)}"
        rows.append([code(shown), f"{prose(one.help or '')}{_default(one)}"])
    yield from table(["option", "meaning"], rows)


def _default(parameter: Any) -> str:
    """Say what holds where an option is left out, unless that is nothing."""
    value = parameter.default
    if value in (None, False, ()) or callable(value) or parameter.required or not hasattr(parameter, "is_flag"):
        return ""
    if parameter.is_flag:
        return f" Default: {code(parameter.opts[0])}."
    return f" Default: {code(f'{value:g}' if isinstance(value, float) else value)}."


def _codes() -> Iterator[str]:
    yield "## Exit codes"
    yield ""
    named = [kind for name in errors.__all__ if isinstance(kind := getattr(errors, name), type)]
    rows = []
    for number, words in _CODES.items():
        kinds = [kind for kind in named if number not in (boundary.DONE, boundary.FAILED) and _stands_for(kind, number)]
        links = ", ".join(f"[{kind.__name__}](errors.md#{kind.__name__.lower()})" for kind in kinds)
        rows.append([str(number), words, links])
    yield from table(["code", "meaning", "errors"], rows)
    yield f"""\
`container exec` and `container shell` end with the command's own code. Ours are {boundary.OURS} for a failure of
Oubliette, 126 for a command that is not executable, 127 for one that is not there, and {boundary.DEADLINE} for one that
was killed at its deadline.
"""


def _stands_for(kind: type[errors.OublietteError], number: int) -> bool:
    """Tell whether an error ends the command line with a code, and its base does not do so already."""

    def ends_with(one: type) -> bool:
        return issubclass(one, errors.OublietteError) and boundary.exit_code(one("")) == number

    return ends_with(kind) and not any(ends_with(base) for base in kind.__mro__[1:])
