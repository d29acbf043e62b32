"""The reference of the hooks and of the values that cross them, from hookspecs and models."""

from __future__ import annotations

import ast
import enum
import inspect
import itertools
import re
from typing import TYPE_CHECKING, Any

import attrs

from docs.generate.errors import LINKS as ERROR_LINKS
from docs.generate.words import MADE, Doc, code, document, paragraphs, prose, table
from oubliette_core import hookspecs, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_VALUES = [found for name in models.__all__ if isinstance(found := getattr(models, name), type)]
_HOOKS = {name: hook for name, hook in vars(hookspecs.RuntimeSpec).items() if inspect.isfunction(hook)}
LINKS = {
    **{name: f"errors.md{target}" for name, target in ERROR_LINKS.items()},
    **{one.__name__: f"#{one.__name__.lower()}" for one in _VALUES},
    **{name: f"#{name}" for name in _HOOKS},
}

_HEAD = f"""\
# Hooks

{MADE}

What a container runtime implements, in version {hookspecs.API_VERSION} of the contract (`oubliette_core.hookspecs`).
[Write a runtime](../how-to/write-a-runtime.md) shows how it is done.
"""


def page() -> str:
    """Return the page."""
    lines = [_HEAD]
    lines += _rules()
    lines += ["## The hooks", "", *table(["hook", "needed", "returns"], map(_row, _HOOKS))]
    for name, hook in _HOOKS.items():
        lines += _hook(name, hook)
    lines += ["## The values", ""]
    lines += paragraphs(Doc.of(models).text, LINKS)
    for one in _VALUES:
        lines += _value(one)
    return document(lines)


def _rules() -> Iterator[str]:
    """Yield the rules that hold for every hook."""
    text = inspect.cleandoc(hookspecs.__doc__ or "")
    yield "Rules that hold for every hook:"
    yield ""
    for rule in re.findall(r"^\* (.*(?:\n  .*)*)", text, flags=re.MULTILINE):
        yield f"* {prose(' '.join(rule.split()), LINKS)}"
    yield ""


def _row(name: str) -> list[str]:
    returns = inspect.signature(_HOOKS[name]).return_annotation
    return [f"[{code(name)}](#{name})", _needed(name), code(returns)]


def _needed(name: str) -> str:
    if name in hookspecs.CORE_HOOKS:
        return "always"
    if name in hookspecs.OPTIONAL_HOOKS:
        return f"with `{hookspecs.OPTIONAL_HOOKS[name]}`"
    return "by projects and the server"


def _hook(name: str, hook: Callable[..., Any]) -> Iterator[str]:
    doc = Doc.of(hook)
    yield f"### {name}"
    yield ""
    yield "```text"
    yield from _signature(name, hook)
    yield "```"
    yield ""
    yield from paragraphs(doc.text, LINKS)
    yield from table(
        ["argument", "what it is"], ([code(one), prose(said, LINKS)] for one, said in doc.parameters.items())
    )
    yield from table(
        ["raises", "when"], ([prose(f"`{one}`", LINKS), prose(said, LINKS)] for one, said in doc.raises.items())
    )


def _signature(name: str, function: Callable[..., Any]) -> Iterator[str]:
    """Yield a signature: in one line where it fits, otherwise each argument in one of its own."""
    signature = inspect.signature(function)
    parameters = list(_parameters(signature))
    line = f"{name}({', '.join(parameters)}) -> {signature.return_annotation}"
    if len(line) <= 80:
        yield line
        return
    yield f"{name}("
    yield from (f"    {each}," for each in parameters)
    yield f") -> {signature.return_annotation}"


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    # The annotations are text, which `Parameter` would put in quotes.
    for one in signature.parameters.values():
        if one.name != "self":
            kind = "" if one.annotation is one.empty else f": {one.annotation}"
            yield f"{one.name}{kind}{'' if one.default is one.empty else f' = {one.default!r}'}"


def _value(one: type) -> Iterator[str]:
    doc = Doc.of(one)
    yield f"### {one.__name__}"
    yield ""
    yield from paragraphs(doc.text, LINKS)
    if issubclass(one, enum.Enum):
        said = _said_below(one)
        yield from table(["value", ""], ([code(each.value), prose(said.get(each.name, ""), LINKS)] for each in one))
    elif attrs.has(one):
        rows = (_field(field, doc.parameters) for field in attrs.fields(one))
        yield from table(["field", "type", "default", "what it is"], rows)
    else:
        yield from table(["member", "what it does"], _members(one))


def _field(field: attrs.Attribute[Any], said: Mapping[str, str]) -> list[str]:
    kind = field.type if isinstance(field.type, str) else getattr(field.type, "__name__", str(field.type))
    return [code(field.name), code(kind), _default(field), prose(said.get(field.name, ""), LINKS)]


def _default(field: attrs.Attribute[Any]) -> str:
    if field.default is attrs.NOTHING:
        return "required"
    make = getattr(field.default, "factory", None)
    value = make() if make else field.default
    return code(value.value if isinstance(value, enum.Enum) else repr(value))


def _members(one: type) -> Iterator[list[str]]:
    for name, member in vars(one).items():
        if name.startswith("_") or not (inspect.isfunction(member) or isinstance(member, property)):
            continue
        text = " ".join(Doc.of(member).text)
        shown = name if isinstance(member, property) else f"{name}{_call(member)}"
        yield [code(shown), prose(text, LINKS)]


def _call(function: Callable[..., Any]) -> str:
    return f"({', '.join(_parameters(inspect.signature(function)))})"


def _said_below(one: type[enum.Enum]) -> dict[str, str]:
    """Return the strings that stand below the members of an enumeration, which Python itself throws away."""
    [body] = [node.body for node in ast.parse(inspect.getsource(one)).body if isinstance(node, ast.ClassDef)]
    said = {}
    for before, after in itertools.pairwise(body):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            [name] = [target.id for target in before.targets if isinstance(target, ast.Name)]
            said[name] = " ".join(str(after.value.value).split())
    return said
