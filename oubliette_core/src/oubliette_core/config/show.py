"""A configuration as a list of values that can be shown to anybody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TypeAlias

import attrs

from oubliette_core.config.keypath import KeyPath
from oubliette_core.config.secret import MASK, Secret

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
"""What JSON can hold."""

_SECRETIVE = re.compile(r"token|password|passwd|secret|credential|api_?key|private_?key", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/@\s]*@")


def shown_values(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Plain]]:
    """Yield the path and the plain, masked form of every single value in ``value``, in the order of the schema.

    Secrets are masked, and so are values that nobody declared as secrets but that are named or written like ones.
    An empty object is a value too.
    """
    kind = type(value)
    if attrs.has(kind):
        for field in attrs.fields(kind):
            yield from shown_values(getattr(value, field.name), (*path, field.name))
    elif isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from shown_values(inner, (*path, key))
    else:
        yield path, _shown(value, path)


def _shown(value: object, path: KeyPath) -> Plain:
    # A list in a plugin's own section can hold anything.
    if isinstance(value, list | tuple):
        return [_shown(inner, path) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): _shown(inner, (*path, str(key))) for key, inner in value.items()}
    if isinstance(value, Enum):
        return str(value.value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Secret) or _is_secretive(path):
        return MASK
    return _USER_INFO.sub(f"{MASK}@", str(value)) if isinstance(value, str | Path) else repr(value)


def _is_secretive(path: KeyPath) -> bool:
    """Tell whether a value that was not declared is named like a secret."""
    free = path[:1] == ("runtimes",) or path[:3] == ("defaults", "container", "env")
    return free and any(isinstance(key, str) and _SECRETIVE.search(key) for key in path)
