"""The reference of the configuration, from the schema; it stands between what is written by hand on its page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import attrs

from docs.generate.words import row as table_row
from oubliette_core.config import ENVIRONMENT, Config, Secret
from oubliette_core.config.forms import Form
from oubliette_core.config.template import plain

PAGE = Path(__file__).parents[1] / "CONFIGURATION.md"
START, END = "<!-- made by python -m docs.generate -->\n", "<!-- end of what is made -->\n"
SIMPLE = {
    bool: "`true` or `false`",
    str: "a text",
    int: "a whole number",
    float: "a number",
    Any: "anything",
    Secret: "a secret",
}


def page() -> str:
    """Return the page with its generated part made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    return "\n".join([before + START, *reference(), END + after])


def reference() -> Iterator[str]:
    """Yield a table for each section, and one for the environment."""
    fields = attrs.fields(Config)
    hints = get_type_hints(Config, include_extras=True)
    top = [field for field in fields if _section(hints[field.name]) is None]
    yield from table("At the top", [row(field.name, field, hints[field.name]) for field in top])
    for field in fields:
        if field not in top:
            rows = list(section_rows(field.name, field, hints[field.name]))
            yield from table(f"`{field.name}`", rows, field.metadata["words"])
    yield "### Environment\n"
    yield "| variable | setting |\n|---|---|"
    yield from (f"| `{name}` | `{path}` |" for name, path in ENVIRONMENT.items())
    yield ""


def table(title: str, rows: list[str], words: str = "") -> Iterator[str]:
    """Yield one table under its title."""
    yield f"### {title}\n"
    if words:
        yield f"{words}\n"
    yield "| setting | expected | default | what it is |\n|---|---|---|---|"
    yield from rows
    yield ""


def section_rows(path: str, field: attrs.Attribute[Any], hint: Any) -> Iterator[str]:
    """Yield the rows of everything below ``path``."""
    section = _section(hint)
    if section is None:
        yield row(path, field, hint)
        return
    inner_path = f"{path}.<name>" if get_origin(hint) is Mapping else path
    hints = get_type_hints(section, include_extras=True)
    for inner in attrs.fields(section):
        yield from section_rows(f"{inner_path}.{inner.name}", inner, hints[inner.name])


def row(path: str, field: attrs.Attribute[Any], hint: Any) -> str:
    """Return one row."""
    cells = [f"`{path}`", expected(hint), default(field), field.metadata["words"]]
    return table_row(cells)


def default(field: attrs.Attribute[Any]) -> str:
    """Return the built-in default as it could stand in the file."""
    if field.default is attrs.NOTHING:
        return "required"
    make = getattr(field.default, "factory", None)
    value = make() if make else field.default
    example = field.metadata["example"]
    # The example of a size or a duration is its default in the form that people read.
    shown = example if type(value) in (int, float) and example else plain(value)
    return f"`{json.dumps(shown)}`"


def expected(hint: Any) -> str:
    """Say in words what a type stands for."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return ", ".join(f"`{member.value}`" for member in hint)
    origin = get_origin(hint)
    return COMPOSED[origin](*get_args(hint)) if origin else SIMPLE[hint]


def _formed(base: Any, *metadata: object) -> str:
    words = [form.words for form in metadata if isinstance(form, Form) and form.words]
    return words[0] if words else expected(base)


def _one_of(*hints: Any) -> str:
    return f"{' or '.join(expected(hint) for hint in hints if hint is not NoneType)}, or `null`"


COMPOSED: Mapping[Any, Callable[..., str]] = {
    Annotated: _formed,
    Literal: lambda *values: ", ".join(f"`{value}`" for value in values),
    Mapping: lambda key, value: f"an object: {expected(key)} to {expected(value)}",
    Union: _one_of,
    UnionType: _one_of,
    tuple: lambda item, *_: f"a list, of which each is {expected(item)}",
}


def _section(hint: Any) -> type[attrs.AttrsInstance] | None:
    """Return the class of a section, also of one that stands under names of the user's own."""
    inner = get_args(hint)[1] if get_origin(hint) is Mapping else hint
    return inner if isinstance(inner, type) and attrs.has(inner) else None
