"""What all groups and commands of the command line have in common, and the parameters that several of them take."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from oubliette_core.cli.boundary import OURS

UsageError: Any = typer.BadParameter.__mro__[1]
"""What a mistake in the command line is; Typer does not export it under a name that all its versions have."""

SETTINGS: dict[str, Any] = {
    # Plain help: names in brackets are no markup, and Rich is not loaded for it.
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"], "max_content_width": 100},
}


class Group(TyperGroup):
    """A group that prints its help when it is called alone, which is what was asked for: exit code 0."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the group's own options."""
        return super().parse_args(ctx, args or ["--help"])


class PassThroughCommand(TyperCommand):
    """A command whose last words are a command of their own: from its first word on nothing is an option of ours.

    It ends with that command's code, so that usage errors get one of ours.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take the options, which may stand before and behind the project, and the command."""
        try:
            return super().parse_args(ctx, self._with_separator(args))
        except UsageError as error:
            error.exit_code = OURS
            raise

    def _with_separator(self, args: list[str]) -> list[str]:
        """Put ``--`` before the second word that is not an option or its value, unless it is there."""
        words, project_seen = iter(enumerate(args)), False
        for index, word in words:
            if word == "--":
                break
            if word.startswith("-") and word != "-":
                if self._wants_value(word):
                    next(words, None)
            elif project_seen:
                return [*args[:index], "--", *args[index:]]
            else:
                project_seen = True
        return args

    def _wants_value(self, word: str) -> bool:
        """Tell whether the value of an option is the next word, and not part of this one."""
        valued = {name for one in self.params if not getattr(one, "is_flag", True) for name in one.opts}
        if word.startswith("--"):
            return word in valued
        # Short options in one word: the first that takes a value takes the rest of the word.
        first = next((at for at, letter in enumerate(word[1:], 1) if f"-{letter}" in valued), len(word))
        return first == len(word) - 1


def new_group() -> typer.Typer:
    """Return a group without commands."""
    app = typer.Typer(cls=Group, add_completion=False, **SETTINGS)
    app.callback()(_no_options)  # a group stays one even with a single command
    return app


def new_command() -> typer.Typer:
    """Return what becomes a command by itself."""
    return typer.Typer(add_completion=False, **SETTINGS)


def _no_options() -> None: ...


JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
EndSessionsOption = Annotated[
    bool, typer.Option("--end-sessions", help="End agent sessions and background commands that are at work first.")
]
