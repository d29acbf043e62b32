"""What a runtime's author may do with the cases, and may not.

A case is skipped because of a capability, or it is an expected failure with a reason. Everything else would make a
runtime look better than it is.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

import pytest

from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.manifest import behaviours

__all__ = ["offences"]

_KIT = __package__


def offences(items: Iterable[pytest.Item]) -> list[str]:
    """Say what is wrong with the classes and cases that were collected."""
    items = list(items)
    classes = {item.cls for item in items if isinstance(item, pytest.Function) and item.cls is not None}
    found = [text for cls in classes if issubclass(cls, Cases) for text in _of_class(cls)]
    return sorted({*found, *(text for item in items for text in _of_item(item))})


def _of_class(cls: type[Cases]) -> Iterator[str]:
    kits = [base for base in cls.__mro__ if base.__module__.partition(f"{_KIT}.")[1]]
    names = {behaviour.test_name for behaviour in behaviours()}
    for name in sorted(names.intersection(*[{attribute for base in kits for attribute in vars(base)}])):
        method = inspect.getattr_static(cls, name)
        if not getattr(method, "__module__", "").startswith(f"{_KIT}.") and not _expected_to_fail(method):
            yield f"{cls.__name__}.{name} replaces a case and is not marked xfail with a reason"


def _expected_to_fail(method: object) -> bool:
    marks = getattr(method, "pytestmark", [])
    return any(mark.name == "xfail" and str(mark.kwargs.get("reason", "")).strip() for mark in marks)


def _of_item(item: pytest.Item) -> Iterator[str]:
    cls = getattr(item, "cls", None)
    if cls is None or not issubclass(cls, Cases):
        return
    for mark in item.iter_markers():
        if mark.name in ("skip", "skipif"):
            yield f"{cls.__name__}.{item.name} is marked {mark.name}: cases are skipped by capabilities only"
