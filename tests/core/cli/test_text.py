"""Text from outside cannot act on a terminal, and values look the same everywhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from oubliette_core.cli.text import age, cell, last_lines, plain, plural, printable, size, table
from oubliette_core.config.secret import Secret
from oubliette_core.models import ContainerType, PullPolicy

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcödé 漢字", "plain ünïcödé 漢字"),
        ("\x1b]0;title\x07\x1b[2J", "\\x1b]0;title\\x07\\x1b[2J"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\u202ereversed\u2066", "\\u202ereversed\\u2066"),
        ("\x9b31m", "\\x9b31m"),
        ("\udcff", "\\udcff"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, shown: str) -> None:
    """Names and messages come from containers, registries and engines; none of them may write on the screen."""
    assert shown == printable(text)


def test_the_last_lines_of_an_output_are_kept_and_escaped() -> None:
    """What a process printed explains its end; its bytes need not be text."""
    assert ["b", "c\\xff\\x1b[0m"] == last_lines(b"a\nb\nc\xff\x1b[0m\n", 2)


def test_a_table_has_its_columns_aligned_and_no_space_at_the_end() -> None:
    """People read it, and ``awk`` does."""
    assert ["NAME     SIZE", "a        yes", "longer   -"] == table(("NAME", "SIZE"), [("a", True), ("longer", None)])


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), ("", "-"), (False, "no"), (0, "0"), ("a\tb", "a\\tb")])
def test_a_cell_shows_each_value_on_one_line(value: object, shown: str) -> None:
    """Nothing is shown as a dash, so that no column seems to be missing."""
    assert shown == cell(value)


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (34_140_000, "34.1 MB"),
        (999_960_000, "1.0 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_sizes_are_in_steps_of_a_thousand(count: float, shown: str) -> None:
    """As registries and the docker CLI count."""
    assert shown == size(count)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "just now"),
        (4, "just now"),
        (5, "5 seconds ago"),
        (60, "1 minute ago"),
        (7199, "1 hour ago"),
        (3 * 86400, "3 days ago"),
    ],
)
def test_ages_are_in_the_largest_unit(seconds: int, shown: str) -> None:
    """A clock that is ahead shows no negative age."""
    assert shown == age(NOON - timedelta(seconds=seconds), NOON)


@pytest.mark.parametrize(("count", "shown"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_one_thing_is_singular(count: int, shown: str) -> None:
    """One is not many."""
    assert shown == plural(count, "image")


def test_values_become_plain_data() -> None:
    """``--json`` prints what any program can read, and never a secret."""
    value = {
        "type": ContainerType(name="ml", image="x", pull=PullPolicy.ALWAYS),
        "when": NOON,
        "where": Path("/tmp/x"),  # noqa: S108 - only a name
        "set": frozenset({"b", "a"}),
        "key": Secret("hunter2"),
        "bytes": b"\xff",
        "numbers": (1, 2.5, True, None),
    }

    assert {
        "type": {"name": "ml", "image": "x", "pull": "always", "platform": None, "command": ["idle"]},
        "when": "2026-05-01T12:00:00+00:00",
        "where": "/tmp/x",  # noqa: S108
        "set": ["a", "b"],
        "key": "***",
        "bytes": "\\xff",
        "numbers": [1, 2.5, True, None],
    } == json.loads(json.dumps(plain(value)))
