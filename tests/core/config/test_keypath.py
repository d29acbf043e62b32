"""A path as text and as a tuple are the same thing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_core.config.keypath import KeyPath, format_path, parse_path

KEYS = st.one_of(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 999_999))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("", ()),
        ("runtime", ("runtime",)),
        ("containers.ml.pull", ("containers", "ml", "pull")),
        ('registries.mirrors."docker.io"', ("registries", "mirrors", "docker.io")),
        ("agents.mine.command[0]", ("agents", "mine", "command", 0)),
        ("a[1].b", ("a", 1, "b")),
    ],
)
def test_both_forms(text: str, path: KeyPath) -> None:
    """People read and write the text; a key that has a dot in it stands in quotes."""
    assert text == format_path(path)
    assert path == parse_path(text)


@given(st.lists(KEYS).filter(lambda keys: not keys or isinstance(keys[0], str)).map(tuple))
def test_any_path_survives_the_text(path: KeyPath) -> None:
    """Whatever keys a user invents, the printed path leads back to them."""
    assert path == parse_path(format_path(path))


@pytest.mark.parametrize("text", [".", "a.", ".a", "a..b", "a b", 'a."b', "a[x]", "a[]", "ä", "[0]x"])
def test_anything_else_is_refused(text: str) -> None:
    """A misspelt path is not taken for another one."""
    with pytest.raises(ValueError, match="is not a path such as"):
        parse_path(text)
