"""Words of a command in a container are never taken for options of ours."""

from __future__ import annotations

from typing import Any

import pytest
import typer

from oubliette_core.cli import container
from oubliette_core.cli.apps import Group, UsageError, new_command, new_group


def _parsed(*words: str) -> dict[str, Any]:
    group = typer.main.get_command(container.app)
    assert isinstance(group, Group)
    context = group.commands["exec"].make_context("exec", list(words))
    # One version of Typer gives tuples, another lists.
    given = {name: value for name, value in context.params.items() if value}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


@pytest.mark.parametrize(
    ("words", "parsed"),
    [
        ("web -- ls -l", {"project": "web", "command": ("ls", "-l")}),
        ("web ls -l -t", {"project": "web", "command": ("ls", "-l", "-t")}),
        ("-it web sh", {"project": "web", "command": ("sh",), "interactive": True, "tty": True}),
        ("web -u root sh -u x", {"project": "web", "command": ("sh", "-u", "x"), "user": "root"}),
        ("web -uroot sh -c a", {"project": "web", "command": ("sh", "-c", "a"), "user": "root"}),
        ("web -tu root sh", {"project": "web", "command": ("sh",), "user": "root", "tty": True}),
        ("web --timeout 2 tar --timeout", {"project": "web", "command": ("tar", "--timeout"), "timeout": 2.0}),
        ("--timeout=2 web sleep 3", {"project": "web", "command": ("sleep", "3"), "timeout": 2.0}),
        ("web -e A=1 -e B=2 env -- -x", {"project": "web", "command": ("env", "--", "-x"), "env": ("A=1", "B=2")}),
        ("-- web cat -", {"project": "web", "command": ("cat", "-")}),
    ],
)
def test_options_end_where_the_command_begins(words: str, parsed: dict[str, Any]) -> None:
    """With ``--`` or without it, before the project or behind it."""
    assert parsed == _parsed(*words.split())


@pytest.mark.parametrize("words", ["", "web", "web --", "--bogus web ls", "web --timeout x ls", "web --timeout 0 ls"])
def test_usage_errors_have_the_code_of_our_own_failures(words: str) -> None:
    """2 may be what the command itself ended with."""
    with pytest.raises(UsageError) as caught:
        _parsed(*words.split())

    assert 125 == caught.value.exit_code


def test_a_group_stays_one_and_a_command_is_one() -> None:
    """A group with a single command still takes its name; a command by itself takes none."""
    group, alone = new_group(), new_command()
    group.command("only")(lambda: None)
    alone.command("alone")(lambda: None)

    assert isinstance(typer.main.get_command(group), Group)
    assert not isinstance(typer.main.get_command(alone), Group)
