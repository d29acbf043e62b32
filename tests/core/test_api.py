"""The package root."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import oubliette_core

CONTRACT = ["errors", "models", "reference", "hookspecs", "runtime", "plugins", "guest", "logins"]


def test_the_root_is_the_union_of_the_contract_modules() -> None:
    """Each public name has one documented home, and one short way to import it."""
    modules = [importlib.import_module(f"oubliette_core.{name}") for name in CONTRACT]
    expected = {"__version__"}.union(*(module.__all__ for module in modules))

    assert expected == set(oubliette_core.__all__)
    assert len(oubliette_core.__all__) == len(expected)


def test_every_all_is_sorted_and_true() -> None:
    """A list that is out of order hides what is missing."""
    for name in CONTRACT:
        module = importlib.import_module(f"oubliette_core.{name}")

        assert all(hasattr(module, public) for public in module.__all__), name
        assert len(set(module.__all__)) == len(module.__all__), name


def test_type_checkers_see_what_is_there() -> None:
    """The root loads its names when they are asked for; a stub says beforehand which they are."""
    stub = ast.parse(Path(oubliette_core.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    stars = {node.module for node in imports if node.names[0].name == "*"}

    assert {f"oubliette_core.{name}" for name in CONTRACT} == stars


def test_what_is_not_there_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="module 'oubliette_core' has no attribute 'Nope'"):
        oubliette_core.Nope  # type: ignore[attr-defined]  # noqa: B018
