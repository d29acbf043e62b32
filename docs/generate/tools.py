"""The reference of the MCP tools, from what the server tells its clients."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from docs.generate.words import MADE, code, document, paragraphs, prose, table
from oubliette_core.server.toolbox import Access, Effect, Tool
from oubliette_core.server.tools import TOOLS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_ACCESS = {
    Access.ANYONE: "any token; it shows what the token may see",
    Access.PROJECT: "a token that reaches the project",
    Access.ABOVE: "a token that reaches what is above projects",
}
_EFFECTS = {
    Effect.READS: "only reads",
    Effect.CHANGES: "changes things",
    Effect.DESTROYS: "destroys things",
}

_HEAD = f"""\
# MCP tools

{MADE}

What the server offers to a client of the Model Context Protocol. [Connect a client](../how-to/connect-a-client.md) says
how one reaches it, and which scopes a token can have.

Arguments are checked strictly: one that is not known is refused, and nothing is converted. A result comes as text and
in a structured form. A token for reading only does for tools that only read.
"""


def page() -> str:
    """Return the page."""
    lines = [_HEAD]
    rows = ([f"[{code(name)}](#{name})", f"{tool.title}."] for name, tool in TOOLS.items())
    lines += table(["tool", "what it does"], rows)
    for tool in TOOLS.values():
        lines += _described(tool)
    return document(lines)


def _described(tool: Tool) -> Iterator[str]:
    wire = tool.on_the_wire()
    yield f"## {tool.name}"
    yield ""
    yield from paragraphs(" ".join(text.split()) for text in tool.description.split("\n\n"))
    access = _ACCESS.get(tool.access, f"a token that reaches the {tool.access.value}")
    facts = [f"Needs {access}", _EFFECTS[tool.effect]]
    facts += ["can be repeated"] if tool.idempotent else []
    facts += ["reaches beyond this machine"] if tool.open_world else []
    yield f"{'; '.join(facts)}."
    yield ""
    yield from table(["argument", "type", "default", "what it is"], _arguments(wire.input_schema))
    yield from table(["result", "type", "what it is"], _results(wire.output_schema or {}, ""))


def _arguments(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, one in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else _default(one.get("default"))
        yield [code(name), _kind(one), default, prose(one.get("description", "").replace("`", "'"))]


def _default(value: object) -> str:
    return "-" if value in (None, {}, []) else code(json.dumps(value))


def _results(schema: Mapping[str, Any], above: str) -> Iterator[list[str]]:
    for name, one in schema.get("properties", {}).items():
        path = f"{above}{name}"
        yield [code(path), _kind(one), prose(one.get("description", "").replace("`", "'"))]
        inner, below = one, f"{path}."
        if one.get("type") == "array":
            inner, below = one.get("items", {}), f"{path}[]."
        for choice in [inner, *inner.get("anyOf", ())]:
            yield from _results(choice, below)


def _kind(schema: Mapping[str, Any]) -> str:
    """Say in words what a schema takes."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(code(json.dumps(value)) for value in schema["enum"])
    kinds = schema.get("type", "anything")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds)
    words = " or ".join(_plain(kind, schema) for kind in kinds)
    low, high = (schema.get(name) for name in ("minimum", "maximum"))
    bounds = [f"{low:g}"] if low is not None else []
    bounds += [f"more than {schema['exclusiveMinimum']:g}"] if "exclusiveMinimum" in schema else []
    bounds += [f"up to {high:,.0f}"] if high is not None else []
    return f"{words}, {' '.join(bounds)}" if bounds else words


def _plain(kind: str, schema: Mapping[str, Any]) -> str:
    if kind == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if kind == "string" and "format" in schema:
        return str(schema["format"])
    return {"string": "text", "integer": "whole number", "boolean": "true or false"}.get(kind, kind)
