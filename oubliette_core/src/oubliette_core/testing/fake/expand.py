"""What the fake container's shell makes of a word: parameters, substitutions, fields, patterns."""

from __future__ import annotations

import ast
import fnmatch
import operator
import re
from typing import TYPE_CHECKING, Protocol

from oubliette_core.testing.fake.script import Arithmetic, Literally, Parameter, Part, Script, Substitution, Word

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ExpansionError", "Scope", "calculate", "expand_fields", "expand_pattern", "expand_text", "matches"]

_MARK = "\x00"
"""Stands before a character that was quoted, while a word is put together; a NUL is in no shell word."""


class ExpansionError(Exception):
    """A word cannot be expanded; the shell says so and ends."""


class Scope(Protocol):
    """What expansion needs of the shell."""

    positional: list[str]

    def get(self, name: str) -> str | None:
        """Return the value of a variable or a special parameter; None when it is not set."""

    def set(self, name: str, value: str) -> None:
        """Set a variable."""

    def missing(self, name: str) -> None:
        """Note that a parameter without a value was used."""

    def substitute(self, script: Script) -> str:
        """Run a script and return what it prints."""

    def entries(self, directory: str) -> list[str]:
        """List a directory; empty when it cannot be listed."""


def expand_text(word: Word, scope: Scope) -> str:
    """Expand to one text, without splitting and without file names."""
    return "".join(" ".join(_part(part, scope)) for part in word.parts)


def expand_pattern(word: Word, scope: Scope) -> str:
    """Expand to a pattern; what was quoted matches itself only."""
    texts = []
    for part in word.parts:
        text = " ".join(_part(part, scope))
        texts.append(_protect(text) if part.quoted else text)
    return "".join(texts)


def matches(text: str, pattern: str) -> bool:
    """Tell whether ``text`` as a whole fits ``pattern``."""
    return re.fullmatch(_regex(pattern), text) is not None


def expand_fields(word: Word, scope: Scope) -> list[str]:
    """Expand to arguments: split at white space, then replaced by the names of files that fit."""
    fields: list[str] = []
    current: str | None = None
    for part in word.parts:
        values = _part(part, scope)
        if part.quoted or isinstance(part, Literally):
            values = [_protect(value) if part.quoted else value for value in values]
            if not values:
                continue
        else:
            current, values = _split(current, " ".join(values), fields)
        for index, value in enumerate(values):
            if index:
                fields.append(current or "")
                current = None
            current = (current or "") + value
    if current is not None:
        fields.append(current)
    return [name for field in fields for name in _file_names(field, scope)]


def _split(current: str | None, text: str, fields: list[str]) -> tuple[str | None, list[str]]:
    """Split an unquoted expansion; white space at its edges ends the field before and begins a new one."""
    words = text.split()
    if text[:1].isspace() and current is not None:
        fields.append(current)
        current = None
    if text[-1:].isspace() and words:
        if len(words) == 1:
            fields.append((current or "") + words[0])
            return None, []
        fields.append((current or "") + words[0])
        fields.extend(words[1:])
        return None, []
    return current, words


# -- Parts ----------------------------------------------------------------------------------------------------------


def _part(part: Part, scope: Scope) -> list[str]:
    """Return the values of a part: one, but for ``$@``."""
    if isinstance(part, Literally):
        return [part.text]
    if isinstance(part, Substitution):
        return [scope.substitute(part.script).rstrip("\n")]
    if isinstance(part, Arithmetic):
        return [str(calculate(expand_text(part.word, scope), scope))]
    if part.name in ("@", "*") and not part.operator and not part.length:
        joined = " ".join(scope.positional)
        return [joined] if part.quoted and part.name == "*" else list(scope.positional)
    return [_parameter(part, scope)]


def _parameter(part: Parameter, scope: Scope) -> str:
    value = " ".join(scope.positional) if part.name in ("@", "*") else scope.get(part.name)
    if part.length:
        return str(len(value or ""))
    if part.operator[:1] in ("%", "#"):
        return _strip(value or "", part, scope)
    if part.operator:
        return _alternative(value, part, scope)
    if value is None:
        scope.missing(part.name)
    return value or ""


def _alternative(value: str | None, part: Parameter, scope: Scope) -> str:
    missing = value is None or (part.operator.startswith(":") and value == "")
    word = part.word or Word(())
    kind = part.operator[-1]
    if kind == "+":
        return "" if missing else expand_text(word, scope)
    if not missing:
        return value or ""
    text = expand_text(word, scope)
    if kind == "?":
        raise ExpansionError(f"{part.name}: {text or 'parameter not set'}")
    if kind == "=":
        scope.set(part.name, text)
    return text


def _strip(value: str, part: Parameter, scope: Scope) -> str:
    pattern = expand_pattern(part.word or Word(()), scope)
    greedy = len(part.operator) == 2
    if part.operator.startswith("#"):
        ends = range(len(value), -1, -1) if greedy else range(len(value) + 1)
        return next((value[end:] for end in ends if matches(value[:end], pattern)), value)
    starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
    return next((value[:start] for start in starts if matches(value[start:], pattern)), value)


# -- Patterns and file names ----------------------------------------------------------------------------------------


def _protect(text: str) -> str:
    return "".join(_MARK + character for character in text) or _MARK + _MARK


def _plain(text: str) -> str:
    return text.replace(_MARK, "")


def _regex(pattern: str) -> str:
    """Translate a pattern: marked characters stand for themselves, the others as fnmatch knows them."""
    pieces = re.split(f"({_MARK}.?)", pattern, flags=re.DOTALL)
    return "".join(
        re.escape(_plain(piece)) if piece.startswith(_MARK) else _translate(piece) for piece in pieces if piece
    )


def _translate(piece: str) -> str:
    translated = fnmatch.translate(piece)
    return re.sub(r"\(\?s:(.*)\)\\[zZ]", r"(?s:\1)", translated, flags=re.DOTALL)


def _file_names(field: str, scope: Scope) -> list[str]:
    if not re.search(f"(?<!{_MARK})[*?[]", field):
        return [_plain(field)]
    found = ["/"] if field.startswith("/") else [""]
    for step in [step for step in re.split(f"{_MARK}?/", field) if step]:
        found = [name for base in found for name in _step(base, step, scope)]
    return sorted(found) or [_plain(field)]


def _step(base: str, step: str, scope: Scope) -> list[str]:
    prefix = base if base in ("", "/") else f"{base}/"
    if not re.search(f"(?<!{_MARK})[*?[]", step):
        return [prefix + _plain(step)]
    names = scope.entries(base or ".")
    hidden = _plain(step).startswith(".")
    return [prefix + name for name in names if (hidden or not name.startswith(".")) and matches(name, step)]


# -- Arithmetic -----------------------------------------------------------------------------------------------------

_BINARY: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}
_COMPARE: dict[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def calculate(text: str, scope: Scope) -> int:
    """Work out an arithmetic expression on whole numbers.

    The operators are those that C and Python write alike, besides ``&&``, ``||``, ``!`` and division.
    """
    python = text.strip().replace("&&", " and ").replace("||", " or ")
    python = re.sub(r"!(?!=)", " not ", python).replace("/", "//")
    python = re.sub(r"\b0+(?=[0-9])", "", python)
    try:
        return _value(ast.parse(python.strip() or "0", mode="eval").body, scope)
    except (SyntaxError, ZeroDivisionError, ValueError) as error:
        raise ExpansionError(f"arithmetic syntax error: {text.strip()} ({error})") from error


def _value(node: ast.expr, scope: Scope) -> int:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id=name):
            return calculate(scope.get(name) or "0", scope)
        case ast.UnaryOp(op=kind, operand=inner):
            value = _value(inner, scope)
            return {ast.USub: -value, ast.UAdd: value, ast.Not: int(not value), ast.Invert: ~value}[type(kind)]
        case ast.BinOp(left=left, op=kind, right=right):
            return _binary(type(kind), _value(left, scope), _value(right, scope))
        case ast.BoolOp(op=kind, values=values):
            results = (bool(_value(value, scope)) for value in values)
            return int(all(results) if isinstance(kind, ast.And) else any(results))
        case ast.Compare(left=left, ops=[kind], comparators=[right]):
            return int(_COMPARE[type(kind)](_value(left, scope), _value(right, scope)))
        case _:
            raise ValueError("not supported")


def _binary(kind: type[ast.operator], left: int, right: int) -> int:
    if kind in _BINARY:
        return _BINARY[kind](left, right)
    # C rounds towards zero, Python down.
    quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
    if kind is ast.FloorDiv:
        return quotient
    if kind is ast.Mod:
        return left - right * quotient
    raise ValueError("not supported")
