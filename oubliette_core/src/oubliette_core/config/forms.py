"""How single values are written in the configuration: sizes, durations, image references, names.

A field of the schema is annotated with its form, ``Annotated[int, SIZE]``. The form reads or checks the one value, so
that every problem is found at its own path, and it says in words what is expected, for messages and for the reference
page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeGuard
from urllib.parse import urlsplit

import attrs

from oubliette_core import _guard
from oubliette_core.errors import InvalidValueError
from oubliette_core.models import ContainerSpec
from oubliette_core.reference import Reference

# Texts, compiled when they are first needed: this module is imported by every command.
_SIZE = r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[kmgt]?)(?:i?b)?"
_SIZE_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_DURATION = r"(?:[0-9]+(?:\.[0-9]+)?\s*(?:ms|s|m|h|d)\s*)+"
_DURATION_PART = r"(?P<number>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>ms|[smhd])"
_DURATION_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_NAME = r"[a-z0-9][a-z0-9_.-]{0,62}"
_HOST = r"[A-Za-z0-9.:_-]{1,253}"
_MODEL = r"[\w.@:+/ -]{1,200}"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]{0,254}"
_LARGEST = 2**63 - 1
_PROBE_IMAGE = "image"


@attrs.frozen
class Form:
    """The form of one value.

    :param words: what is expected, to be read after "expected".
    :param read: makes the value from what stands in the file; raises `ValueError` without a text when it is not of
        this form, or with one that says more. None: the annotated type is read as it is.
    :param check: looks at the value that was read, and raises in the same way.
    :param show: whether a message may repeat the value; not where people put a secret by mistake.
    """

    words: str = ""
    read: Callable[[Any], Any] | None = None
    check: Callable[[Any], object] | None = None
    show: bool = True


def matches(pattern: str, words: str) -> Form:
    """Return the form of a text that matches ``pattern`` from end to end."""

    def read(raw: object) -> str:
        if not isinstance(raw, str) or not re.fullmatch(pattern, raw):
            raise ValueError
        return raw

    return Form(words, read)


def whole(low: int, high: int, words: str) -> Form:
    """Return the form of a whole number from ``low`` to ``high``."""

    def read(raw: object) -> int:
        if type(raw) is not int or not low <= raw <= high:
            raise ValueError
        return raw

    return Form(words, read)


def container_setting(field: str) -> Form:
    """Return the form of a value that is allowed as ``field`` of a `ContainerSpec`.

    The guard that stands before every backend decides, so that what the configuration accepts can be run.
    """

    def check(value: object) -> None:
        if value is not None:
            given: dict[str, Any] = {field: value}
            _allowed(_guard.container_spec, ContainerSpec(image=_PROBE_IMAGE, **given))

    return Form(check=check)


def read_size(raw: object) -> int:
    """Return bytes from a whole number or a text such as ``512m``, ``1.5GiB``; units are powers of 1024."""
    if type(raw) is int and 0 <= raw <= _LARGEST:
        return raw
    match = re.fullmatch(_SIZE, raw.strip(), re.IGNORECASE) if isinstance(raw, str) and len(raw) <= 40 else None
    if match is None:
        raise ValueError
    size = float(match["number"]) * _SIZE_UNITS[match["unit"].lower()]
    if size > _LARGEST:
        raise ValueError
    return int(size)


def read_duration(raw: object) -> float:
    """Return seconds from a number or a text such as ``90s``, ``10m``, ``1h30m``; never zero."""
    seconds = -1.0
    if type(raw) in (int, float):
        seconds = float(raw)  # type: ignore[arg-type]  # seen to be a number
    elif isinstance(raw, str) and len(raw) <= 40 and re.fullmatch(_DURATION, raw.strip()):
        parts = re.finditer(_DURATION_PART, raw)
        seconds = sum(float(part["number"]) * _DURATION_UNITS[part["unit"]] for part in parts)
    if not math.isfinite(seconds) or not 0 < seconds <= 10 * 365 * 86400:
        raise ValueError
    return seconds


def is_name(raw: object) -> TypeGuard[str]:
    """Tell whether a value is of the form `Name`."""
    return isinstance(raw, str) and re.fullmatch(_NAME, raw) is not None


def _allowed(check: Callable[[Any], object], value: object) -> object:
    """Call a check of the contract, and say what it says."""
    try:
        return check(value)
    except InvalidValueError as error:
        text = f"{error.message}. {error.hint}" if error.hint else error.message
        raise ValueError(text.removesuffix(".")) from None


def _read_image(raw: object) -> str:
    if isinstance(raw, str):
        _allowed(Reference.parse, raw)
        return raw
    raise ValueError


def _read_platform(raw: object) -> str:
    if isinstance(raw, str):
        _allowed(_guard.platform, raw)
        return raw
    raise ValueError


def _read_registry(raw: object) -> str:
    try:
        parsed = Reference.parse(f"{raw}/x") if isinstance(raw, str) else None
    except InvalidValueError:
        parsed = None
    if parsed is None or not parsed.registry or parsed.repository != "x":
        raise ValueError
    return parsed.registry


def _read_mirror(raw: object) -> str:
    try:
        parsed = Reference.parse(f"{raw}/x") if isinstance(raw, str) else None
    except InvalidValueError:
        parsed = None
    if parsed is None or not parsed.registry:
        raise ValueError
    return parsed.name.removesuffix("/x")


def _read_path(raw: object) -> Path:
    if not isinstance(raw, str) or not raw.startswith("/") or "\0" in raw:
        raise ValueError
    return Path(raw)


def _read_url(raw: object) -> str:
    if not isinstance(raw, str) or any(character <= " " for character in raw):
        raise ValueError
    parts = urlsplit(raw)  # a malformed host is a ValueError that says so
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError
    if parts.username or parts.password:
        raise ValueError("a URL must not contain a user or password; the key has a setting of its own")
    return raw


def _read_argv(raw: object) -> tuple[str, ...]:
    if not isinstance(raw, list) or not raw or not all(isinstance(word, str) and "\0" not in word for word in raw):
        raise ValueError
    if not raw[0]:
        raise ValueError
    return tuple(raw)


def _read_type_command(raw: object) -> tuple[str, ...]:
    if raw in ("idle", "image"):
        return (str(raw),)
    return _read_argv(raw)


Size = Annotated[int, Form('a size in bytes, or a text such as "512m" or "2GiB"', read_size)]
Duration = Annotated[float, Form('a number of seconds above 0, or a text such as "90s" or "10m"', read_duration)]
Count = Annotated[int, whole(1, 10**9, "a whole number of at least 1")]
Port = Annotated[int, whole(0, 65535, "a port from 1 to 65535, or 0 for any free one")]
Name = Annotated[str, matches(_NAME, "a lower-case name of letters, digits, '.', '_' and '-'")]
Host = Annotated[str, matches(_HOST, "a host name or address, without a port")]
ModelId = Annotated[str, matches(_MODEL, "a model's name")]
VariableName = Annotated[str, attrs.evolve(matches(_VARIABLE, "a variable's name"), show=False)]
Image = Annotated[str, Form("an image reference", _read_image)]
Platform = Annotated[str, Form('a platform such as "linux/amd64"', _read_platform)]
Registry = Annotated[str, Form('a registry such as "docker.io"', _read_registry)]
Mirror = Annotated[str, Form('a registry, with a path if need be, such as "localhost:5000/hub"', _read_mirror)]
AbsolutePath = Annotated[Path, Form("an absolute path", _read_path)]
Url = Annotated[str, Form("a URL that starts with http:// or https://", _read_url, show=False)]
Argv = Annotated[tuple[str, ...], Form('a list of words such as ["program", "argument"]', _read_argv)]
TypeCommand = Annotated[
    tuple[str, ...], Form('"idle", "image", or a list of words such as ["program", "argument"]', _read_type_command)
]
