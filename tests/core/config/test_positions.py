"""The line of each key is known, so that a problem can be found in the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_core.config.positions import find_positions

TEXT = """\
// a comment with { and "quotes"
{
  "runtime": "auto", /* one
  more */ server: {
    'port': 1,
    "hosts": [
      "a", // , ]
      {"x": 1},
    ],
  },
  "esc\\u0061ped": "}",
}
"""


def test_each_key_and_element_has_its_line() -> None:
    """Comments, all kinds of keys and what stands within texts are told apart."""
    assert {
        ("runtime",): 3,
        ("server",): 4,
        ("server", "port"): 5,
        ("server", "hosts"): 6,
        ("server", "hosts", 0): 7,
        ("server", "hosts", 1): 8,
        ("server", "hosts", 1, "x"): 8,
        ("escaped",): 11,
    } == find_positions(TEXT, deepest=9).lines


def test_what_has_no_line_has_that_of_what_is_around_it() -> None:
    """A key that is missing is reported where it is missing from."""
    positions = find_positions(TEXT, deepest=9)

    assert 4 == positions.line_of(("server", "tls", "key"))
    assert None is positions.line_of(("nothing",))


def test_repeated_keys_are_found_with_their_lines() -> None:
    """A parser keeps the last one and says nothing."""
    positions = find_positions('{"a": {"b": 1,\n"b": 2},\n"a": 3}', deepest=9)

    assert ((("a", "b"), 2), (("a",), 3)) == positions.repeated


def test_same_keys_in_different_elements_are_no_repetition() -> None:
    """Each element of a list is an object of its own."""
    assert () == find_positions('[{"a": 1}, {"a": 1}]', deepest=9).repeated


@pytest.mark.parametrize(("text", "depth"), [("{}", 1), ("{a: [[]]}", 3), ("[" * 5, 5), ("[" * 1000, 10), ("1", 0)])
def test_depth_is_measured_up_to_the_limit(text: str, depth: int) -> None:
    """The parsers recurse, so depth has to be known before they run."""
    assert depth == find_positions(text, deepest=9).depth


@given(st.text(st.sampled_from("{}[]:,\"'\\/*ab1 \n"), max_size=60))
def test_no_text_makes_it_fail(text: str) -> None:
    """Whether the text is JSON5 is for the parser to say."""
    assert 20 >= find_positions(text, deepest=20).depth - 1
