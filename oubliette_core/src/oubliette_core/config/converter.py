"""Plain dicts and lists to the classes of the schema, strictly: 5 is not "5", and no key is ignored.

Every problem is collected, each at its own path. cattrs gives the walk over the classes; what is accepted is decided
here, because its own rules are lenient ("false" would be True, and "abc" a list of three).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any, Literal, get_args, get_origin

import attrs
import cattrs
from cattrs.cols import homogenous_tuple_structure_factory, is_mapping, mapping_structure_factory
from cattrs.errors import AttributeValidationNote, BaseValidationError, ForbiddenExtraKeysError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from oubliette_core.config.document import Problem
from oubliette_core.config.forms import Form
from oubliette_core.config.keypath import KeyPath
from oubliette_core.config.schema import Config
from oubliette_core.config.secret import Secret

Hook = Callable[[Any, Any], Any]

_VARIABLE = re.compile(r"\$\$\{|\$\{(?P<name>[^{}]*)\}?")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KINDS = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}


class SecretReader:
    """Makes secrets, with ``${NAME}`` taken from the environment and ``$${`` for a plain ``${``.

    :param variable: gives the value of an environment variable, empty for one that is not set.
    """

    def __init__(self, variable: Callable[[str], str]) -> None:
        self._variable = variable
        self.literals = False
        """Whether any secret stood in the file itself."""
        self.unset: set[str] = set()
        """Names of variables that secrets are to be taken from and that are not set."""

    def read(self, raw: object, _type: object = None) -> Secret:
        """Return the secret that ``raw`` stands for; a `ValueError` never repeats what it holds."""
        if isinstance(raw, str):
            return self._read_text(raw)
        raise ValueError(f'expected a text such as "${{NAME}}", not {_kind_only(raw)}')

    def _read_text(self, raw: str) -> Secret:
        text = _VARIABLE.sub(self._replace, raw)
        if not _is_text(text):
            raise ValueError("is not valid text")
        for match in _VARIABLE.finditer(raw):
            if match["name"] in self.unset:
                return Secret("", unset=match["name"])
        if text and not any(match["name"] is not None for match in _VARIABLE.finditer(raw)):
            self.literals = True
        return Secret(text)

    def _replace(self, match: re.Match[str]) -> str:
        name = match["name"]
        if name is None:
            return "${"
        if not _VARIABLE_NAME.fullmatch(name) or not match[0].endswith("}"):
            raise ValueError('a "${" is not followed by the name of a variable and "}"; write "$${" for a plain "${"')
        value = self._variable(name)
        if not value:
            self.unset.add(name)
        return value


def structure(tree: Mapping[str, Any], secrets: SecretReader) -> tuple[Config | None, tuple[Problem, ...]]:
    """Return the configuration that ``tree`` describes, or everything that is wrong with it."""
    try:
        return _converter(secrets).structure(tree, Config), ()
    except BaseValidationError as error:
        return None, tuple(_problems(error, ()))


def _converter(secrets: SecretReader) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Secret, secrets.read)
    for kind, words in ((str, "a text"), (bool, "true or false"), (int, "a whole number"), (float, "a number")):
        converter.register_structure_hook(kind, _exactly(kind, words))
    converter.register_structure_hook_factory(attrs.has, _object_hook)
    converter.register_structure_hook_factory(is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(_is_tuple, _tuple_hook)
    converter.register_structure_hook(StrEnum, _read_enum)
    converter.register_structure_hook_func(_is_literal, _read_literal)
    converter.register_structure_hook_factory(_is_annotated, _form_hook)
    converter.register_structure_hook_func(lambda kind: kind is Any, lambda raw, _: raw)
    return converter


def _exactly(kind: type, words: str) -> Hook:
    accepted = (int, float) if kind is float else (kind,)

    def hook(raw: Any, _type: object) -> Any:
        if type(raw) not in accepted or (kind is float and not math.isfinite(raw)):
            raise ValueError(f"expected {words}, not {_kind(raw)}")
        if kind is str and not _is_text(raw):
            raise ValueError("is not valid text")
        return kind(raw)

    return hook


def _object_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    inner = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True)
    return _only(dict, inner)


def _mapping_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    return _only(dict, mapping_structure_factory(kind, converter, structure_to=dict))


def _tuple_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    return _only(list, homogenous_tuple_structure_factory(kind, converter))


def _only(accepted: type, inner: Hook) -> Hook:
    """Keep cattrs from taking a text for a list, or an object for a list of its keys."""

    def hook(raw: Any, target: Any) -> Any:
        if type(raw) is not accepted:
            raise ValueError(f"expected {_KINDS[accepted]}, not {_kind_only(raw)}")
        return inner(raw, target)

    return hook


def _form_hook(kind: Any, converter: cattrs.Converter) -> Hook:
    base, *metadata = get_args(kind)
    forms = [form for form in metadata if isinstance(form, Form)]
    inner = converter.get_structure_hook(base) if not any(form.read for form in forms) else None

    def hook(raw: Any, _type: object) -> Any:
        value = inner(raw, base) if inner else raw
        for form in forms:
            value = _apply(form, value)
        return value

    return hook


def _apply(form: Form, value: Any) -> Any:
    try:
        if form.read is not None:
            value = form.read(value)
        if form.check is not None:
            form.check(value)
    except ValueError as error:
        found = _kind(value) if form.show else _kind_only(value)
        raise ValueError(str(error) or f"expected {form.words}, not {found}") from None
    return value


def _read_enum(raw: Any, kind: Any) -> Any:
    for member in kind:
        if type(raw) is str and member.value == raw:
            return member
    raise ValueError(_one_of([member.value for member in kind], raw))


def _read_literal(raw: Any, kind: Any) -> Any:
    if type(raw) is str and raw in get_args(kind):
        return raw
    raise ValueError(_one_of(get_args(kind), raw))


def _is_literal(kind: Any) -> bool:
    return get_origin(kind) is Literal


def _is_annotated(kind: Any) -> bool:
    return get_origin(kind) is Annotated


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_text(text: str) -> bool:
    """Tell whether a text can be an argument or a variable: no NUL, no half of a surrogate pair."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def _one_of(known: Iterable[str], raw: Any) -> str:
    return f"expected one of {', '.join(known)}, not {_kind(raw)}"


def _kind(raw: Any) -> str:
    """Say what was found: the value if it is short and simple, else what it is."""
    short = type(raw) in (str, int, float) and len(str(raw)) <= 40
    return repr(raw) if short else _kind_only(raw)


def _kind_only(raw: Any) -> str:
    """Say what was found and not its value: where an object is expected, somebody may have put the secret itself."""
    return _KINDS.get(type(raw), "a number")


def _problems(error: BaseException, path: KeyPath) -> Iterable[Problem]:
    """Walk the tree of errors that cattrs raises; notes tell the way down."""
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        for key in sorted(error.extra_fields):
            yield Problem(path=(*path, key), text=_unknown_key(key, known))
    elif isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _problems(inner, (*path, *_step(inner)))
    elif isinstance(error, KeyError):
        yield Problem(path=path, text="is required")
    else:
        yield Problem(path=path, text=str(error))


def _step(error: BaseException) -> KeyPath:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return (note.name,)
        if isinstance(note, IterableValidationNote):
            return (note.index,)
    return ()


def _unknown_key(key: str, known: Iterable[str]) -> str:
    """Say that a key is unknown, and which of the known ones may have been meant."""
    names = list(known)
    near = difflib.get_close_matches(key, names, 1)
    if near:
        return f"unknown key; did you mean {near[0]}?"
    return f"unknown key; known are {', '.join(names)}"
