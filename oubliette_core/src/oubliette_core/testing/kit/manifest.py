"""The list of everything that a runtime has to do: `manifest.toml`, read into values."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import attrs

from oubliette_core.models import Capability

__all__ = ["Behaviour", "behaviour_of", "behaviours"]


@attrs.frozen(kw_only=True)
class Behaviour:
    """One thing that a runtime has to do.

    :param id: dotted words, from the general to the particular.
    :param sentence: what is to be seen. :param source: where that is written, or where its absence hurt.
    :param needs: it applies only to runtimes that declare all of these. :param unless: and none of these.
    """

    id: str
    sentence: str
    source: str
    needs: frozenset[Capability] = frozenset()
    unless: frozenset[Capability] = frozenset()

    @property
    def test_name(self) -> str:
        """Name of the method that tests it."""
        return f"test_{re.sub('[.-]', '_', self.id)}"

    def gate(self, declared: frozenset[Capability]) -> str:
        """Tell why it does not apply to a runtime with these capabilities; empty when it does."""
        missing = sorted(self.needs - declared)
        if missing:
            return f"the runtime does not declare {', '.join(missing)}"
        present = sorted(self.unless & declared)
        return f"the runtime declares {', '.join(present)}" if present else ""


@functools.cache
def behaviours() -> tuple[Behaviour, ...]:
    """Return every behaviour, in the order of the manifest."""
    text = files(__package__).joinpath("manifest.toml").read_text(encoding="utf-8")
    return tuple(_leaves(tomllib.loads(text), ()))


def behaviour_of(test_name: str) -> Behaviour | None:
    """Return the behaviour that a method of this name tests."""
    return _by_test_name().get(test_name)


@functools.cache
def _by_test_name() -> Mapping[str, Behaviour]:
    return {behaviour.test_name: behaviour for behaviour in behaviours()}


def _leaves(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Behaviour]:
    if "sentence" in table:
        fields = {**table, **{key: frozenset(map(Capability, table.get(key, ()))) for key in ("needs", "unless")}}
        yield Behaviour(id=".".join(path), **fields)
        return
    for word, below in table.items():
        yield from _leaves(below, (*path, word))
