"""What clients are told of the tools, and that they are held to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import oubliette_core
from oubliette_core.server import failures
from oubliette_core.server.toolbox import Effect
from oubliette_core.server.tools import TOOLS
from tests.core.server.conftest import Tools, error_of, text_of

EVERY = pytest.mark.parametrize("name", sorted(TOOLS))
PROJECT = {"project_id": "demo"}
EXEC = {**PROJECT, "command": ["true"]}


@EVERY
def test_every_tool_explains_itself_and_its_arguments(name: str) -> None:
    """A model has nothing else to go by."""
    tool = TOOLS[name].on_the_wire()

    assert tool.title
    assert tool.description
    assert 20 < len(tool.description)
    assert [] == [key for key, value in tool.input_schema["properties"].items() if not value.get("description")]


@EVERY
def test_every_object_of_arguments_is_closed(name: str) -> None:
    """An argument that is misspelt is told, not dropped."""
    assert False is TOOLS[name].on_the_wire().input_schema["additionalProperties"]


def _unbounded(schema: dict[str, Any], path: str) -> Iterator[str]:
    """Yield what may be of any size in a schema of arguments."""
    kinds = schema.get("type", [])
    kind = kinds[0] if isinstance(kinds, list) and kinds else kinds
    fixed = {"enum", "const", "pattern"} & set(schema)
    if kind == "string" and not fixed and "maxLength" not in schema:
        yield path
    if kind in ("integer", "number") and not {"maximum", "exclusiveMaximum"} & set(schema):
        yield path
    if kind == "array" and "maxItems" not in schema:
        yield path
    for key in ("items",):
        if isinstance(schema.get(key), dict):
            yield from _unbounded(schema[key], f"{path}.{key}")
    for number, each in enumerate(schema.get("anyOf", [])):
        yield from _unbounded(each, f"{path}.{number}")
    for name, each in schema.get("properties", {}).items():
        yield from _unbounded(each, f"{path}.{name}")


@EVERY
def test_every_argument_has_bounds(name: str) -> None:
    """Nobody has to find out by trying what is too much."""
    assert [] == list(_unbounded(TOOLS[name].on_the_wire().input_schema, name))


@EVERY
def test_every_result_has_a_schema(name: str) -> None:
    """So that a program can rely on it."""
    schema = TOOLS[name].on_the_wire().output_schema
    assert schema is not None

    assert "object" == schema["type"]
    assert schema["properties"]


@EVERY
def test_annotations_say_what_a_tool_does(name: str) -> None:
    """Clients ask their user about what destroys, and not about what reads."""
    annotations = TOOLS[name].on_the_wire().annotations
    assert annotations is not None

    assert (TOOLS[name].effect is Effect.READS) == annotations.read_only_hint
    assert (TOOLS[name].effect is Effect.DESTROYS) == annotations.destructive_hint
    assert not (annotations.read_only_hint and annotations.destructive_hint)


@EVERY
def test_an_unknown_argument_is_refused(tools: Tools, name: str) -> None:
    """By every tool, before anything is done."""
    result = tools(name, {"bogus": 1})

    assert "InvalidValueError" == error_of(result)
    assert "bogus: unknown argument" in text_of(result)


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("project_get", {}, "project_id"),
        ("project_get", {"project_id": ""}, "project_id"),
        ("project_get", {"project_id": None}, "project_id"),
        ("project_get", {"project_id": 7}, "project_id"),
        ("project_get", {"project_id": ["demo"]}, "project_id"),
        ("project_get", {"project_id": "a" * 300}, "project_id"),
        ("project_create", {"name": "../x"}, "name"),
        ("project_create", {"name": "a\nb"}, "name"),
        ("project_create", {"name": "demo\n"}, "name"),
        ("project_create", {"name": "x", "start": "yes"}, "start"),
        ("container_exec", {**EXEC, "command": "rm -rf /"}, "command"),
        ("container_exec", {**EXEC, "command": []}, "command"),
        ("container_exec", {**EXEC, "command": [1]}, "command.0"),
        ("container_exec", {**EXEC, "timeout": "12"}, "timeout"),
        ("container_exec", {**EXEC, "timeout": 0}, "timeout"),
        ("container_exec", {**EXEC, "timeout": float("inf")}, "timeout"),
        ("container_exec", {**EXEC, "timeout": float("nan")}, "timeout"),
        ("container_exec", {**EXEC, "timeout": True}, "timeout"),
        ("container_exec", {**EXEC, "output_limit": -1}, "output_limit"),
        ("container_exec", {**EXEC, "workdir": "relative"}, "workdir"),
        ("container_exec", {**EXEC, "env": {"A": 1}}, "env.A"),
        ("container_exec", {**EXEC, "env": "A=1"}, "env"),
        ("container_exec", {**EXEC, "background": 1}, "background"),
        ("container_logs", {**PROJECT, "tail": 0}, "tail"),
        ("container_logs", {**PROJECT, "tail": 1.5}, "tail"),
        ("container_stop", {**PROJECT, "grace": -1}, "grace"),
        ("container_stop", {**PROJECT, "grace": 1e9}, "grace"),
        ("exec_get", {"exec_id": "exec_../../x"}, "exec_id"),
        ("exec_get", {"exec_id": "ses_aaaaaaaaaaaa"}, "exec_id"),
        ("session_message", {**PROJECT, "text": ""}, "text"),
        ("session_message", {**PROJECT, "text": "x", "wait": -1}, "wait"),
        ("session_message", {**PROJECT, "text": "x", "wait": float("inf")}, "wait"),
        ("session_message", {**PROJECT, "text": "x", "autonomy": "all"}, "autonomy"),
        ("session_message", {**PROJECT, "text": "x", "session_id": "exec_aaaaaaaaaaaa"}, "session_id"),
        ("session_get", {"session_id": "ses_../../x"}, "session_id"),
        ("session_events", {"session_id": "ses_aaaaaaaaaaaa", "after": -1}, "after"),
        ("session_events", {"session_id": "ses_aaaaaaaaaaaa", "limit": 0}, "limit"),
        ("token_create", {"name": "x", "scopes": []}, "scopes"),
        ("token_create", {"name": "x", "scopes": ["admin"], "expires_in_days": 0}, "expires_in_days"),
    ],
)
def test_a_wrong_argument_is_named(tools: Tools, name: str, arguments: dict[str, Any], named: str) -> None:
    """Nothing is converted: a text is no number, and a number no text."""
    result = tools(name, arguments)

    assert "InvalidValueError" == error_of(result)
    assert f"{named}: " in text_of(result)
    assert 0 == len(tools.bench.app.projects.list())


@pytest.mark.parametrize(
    "reference",
    ["../volumes/x", "../images/y", "..%2f", ".", "--help", "-", "-v/:/h", "a/b", "a\\b", "\x00", "ä", " ", "${HOME}"],
)
def test_what_is_no_project_never_reaches_the_engine(tools: Tools, reference: str) -> None:
    """An id with dots and slashes in it would name another thing of the engine's."""
    tools.bench.start("demo")
    before = len(tools.bench.app.runtime.list_containers())
    for name in ("project_get", "project_delete", "container_stop", "container_refresh"):
        assert "InvalidValueError" == error_of(tools(name, {"project_id": reference}))

    assert before == len(tools.bench.app.runtime.list_containers())


@pytest.mark.parametrize(
    "arguments",
    [
        {"workdir": "/proc/self/fd/8"},
        {"workdir": "/proc/1/cwd"},
        {"workdir": "/a/../../b"},
        {"workdir": "/a\x00b"},
        {"user": "root;id"},
        {"user": "--help"},
        {"env": {"A=B": "c"}},
        {"env": {"A": "b\x00"}},
        {"command": ["true", "a\x00b"]},
        {"command": [""]},
    ],
)
def test_what_could_lead_out_of_the_container_is_refused(tools: Tools, arguments: dict[str, Any]) -> None:
    """A working directory in /proc led out of containers of runc before 1.1.12."""
    tools.bench.start("demo")

    assert "InvalidSpecError" == error_of(tools("container_exec", {**EXEC, **arguments}))


@pytest.mark.parametrize("name", ["__class__", "BASE", "nope", "base ", "a/b"])
def test_an_unknown_type_is_refused_with_those_that_there_are(tools: Tools, name: str) -> None:
    """Types are those of the configuration: no image can be named by a client."""
    result = tools("project_create", {"name": "x", "container_type": name})

    assert "UnknownContainerTypeError" == error_of(result)
    assert "there are: base, dev" in text_of(result)
    assert () == tools.bench.app.projects.list()


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc",
        "ext::sh -c id",
        "--upload-pack=id",
        "http://example.com/x",
        "https://user:geheimnis@example.com/x",
        "-oProxyCommand=id:x",
    ],
)
def test_only_repositories_elsewhere_are_cloned(tools: Tools, url: str) -> None:
    """And no password in a URL is repeated, or kept in a workspace."""
    result = tools("project_create", {"name": "x", "repository": url})

    assert "InvalidValueError" == error_of(result)
    assert "geheimnis" not in text_of(result)
    assert () == tools.bench.app.projects.list()


def test_wrong_values_are_not_repeated(tools: Tools) -> None:
    """They may be secrets, and what is said to a model is logged in many places."""
    result = tools("container_exec", {**EXEC, "env": {"TOKEN": ["geheimnis"]}, "stdin": ["geheimnis"]})

    assert "InvalidValueError" == error_of(result)
    assert "geheimnis" not in text_of(result) + str(result.meta)


def test_hints_name_tools_that_there_are() -> None:
    """What services say of commands is turned into what a client of tools has."""
    package = Path(oubliette_core.__file__).parent
    sources = [path for name in ("services", "images") for path in (package / name).rglob("*.py")]
    named = {"_".join(found) for path in sources for found in failures._COMMAND.findall(path.read_text("utf-8"))}

    assert "container_start" in named
    assert set() == named - set(TOOLS)


@pytest.mark.parametrize("name", ["token_revoke", "exec_get", "exec_cancel"])
@pytest.mark.parametrize(
    "given",
    [
        "../x",
        "--help",
        "-",
        ".",
        "",
        "x" * 300,
        "a\x00b",
        "' OR 1=1 --",
        "exec_",
        "exec_aaaaaaaaaaaA",
        "tok_*",
        7,
        None,
    ],
)
def test_what_is_no_id_of_a_token_or_command_is_refused(tools: Tools, name: str, given: object) -> None:
    """As wrong, or as missing; nothing is found by half of an id."""
    tools.bench.app.tokens.create("a", ["admin"])
    result = tools(name, {"token" if name == "token_revoke" else "exec_id": given})

    assert error_of(result) in ("InvalidValueError", "TokenNotFoundError")
    assert ["a"] == [token.name for token in tools.bench.app.tokens.list()]


def test_an_unknown_tool_is_an_error_that_lists_those_that_there_are(tools: Tools) -> None:
    """Also for a name that is meant to be long or strange."""
    result = tools("x" * 10_000)

    assert "project_create" in text_of(result)
    assert 2000 > len(text_of(result))
