"""One value is put into a JSON file with comments; not a character of the rest changes."""

from __future__ import annotations

import json

import json5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_core.errors import InvalidValueError
from oubliette_core.server.jsonc import keys_at, put

PATH = ("servers", "x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "servers": {\n    "x": 1\n  }\n}\n'),
        ("{}", '{\n  "servers": {\n    "x": 1\n  }\n}'),
        ('{"a": 1}', '{"a": 1,\n  "servers": {\n    "x": 1\n  }\n}'),
        (
            '{\n    "a": 1 // last\n}\n',
            '{\n    "a": 1, // last\n    "servers": {\n        "x": 1\n    }\n}\n',
        ),
        (
            '{\n  "a": 1, // kept\n  /* and this */\n}',
            '{\n  "a": 1, // kept\n  /* and this */\n  "servers": {\n    "x": 1\n  }\n}',
        ),
        (
            '{\n\t"servers": {\n\t\t"y": {"z": [1, 2,]} // other\n\t}\n}',
            '{\n\t"servers": {\n\t\t"y": {"z": [1, 2,]}, // other\n\t\t"x": 1\n\t}\n}',
        ),
        ('{"servers": {"x": {"old": true}, "y": 2}}', '{"servers": {"x": 1, "y": 2}}'),
        ('{"servers": {}}', '{"servers": {\n  "x": 1\n}}'),
        (
            '// head\n{\n  "s": "// no { comment",\n  "servers": { "x": null }\n}\n// tail\n',
            '// head\n{\n  "s": "// no { comment",\n  "servers": { "x": 1 }\n}\n// tail\n',
        ),
    ],
)
def test_comments_commas_and_indents_stay(before: str, after: str) -> None:
    """People wrote them."""
    assert after == put(before, PATH, 1)
    assert 1 == json5.loads(after)["servers"]["x"]


@pytest.mark.parametrize(
    "text",
    ["{", "}", "[1", '{"a" 1}', '{"a": }', "{a: 1}", '{"a": 1 "b": 2}', '{"a": "x\n"}', "{} {}", "{'a': 1}", "[" * 200],
)
def test_what_the_client_could_not_read_is_left_alone(text: str) -> None:
    """It says where it is wrong."""
    with pytest.raises(InvalidValueError, match="it is not JSON: line"):
        put(text, PATH, 1)


@pytest.mark.parametrize("text", ["[]", "1", '{"servers": []}', '{"servers": 5}'])
def test_what_has_no_place_for_it_is_left_alone(text: str) -> None:
    """Something else stands where the object should."""
    with pytest.raises(InvalidValueError, match="is not an object"):
        put(text, PATH, 1)


def test_the_keys_of_an_object_are_told() -> None:
    """None where there is no such object."""
    assert ("x", "y") == keys_at('{"servers": {"x": 1, "y": {}}}', ("servers",))
    assert () == keys_at("", ("servers",))
    assert () == keys_at('{"a": 1}', ("servers", "x"))


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), _values, max_size=4), st.sampled_from([None, 1, 2, "\t"]))
def test_any_object_keeps_what_it_has(document: dict[str, object], indent: int | str | None) -> None:
    """Whatever it is indented with."""
    document.pop("servers", None)
    changed = put(json.dumps(document, indent=indent), PATH, {"command": ["a"]})

    assert {**document, "servers": {"x": {"command": ["a"]}}} == json.loads(changed)
    assert put(changed, PATH, {"command": ["a"]}) == put(put(changed, PATH, 1), PATH, {"command": ["a"]})
