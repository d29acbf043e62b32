"""Several targets at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from oubliette_core.errors import OublietteError
from oubliette_core.services.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

T = TypeVar("T")
_WORKERS = 8
"""At a time: engines do most of it one after the other anyway."""


def for_each(targets: Iterable[str], action: Callable[[str], T]) -> tuple[Outcome[T], ...]:
    """Call ``action`` with each target, in parallel, and report each outcome in the order of the targets.

    Only an `OublietteError` is an outcome; anything else is a bug and raised once all have ended.
    """

    def attempt(target: str) -> Outcome[T]:
        try:
            return Outcome(target=target, value=action(target))
        except OublietteError as error:
            return Outcome(target=target, error=error)

    names = tuple(targets)
    if len(names) < 2:
        return tuple(map(attempt, names))
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - not for what only looks

    with ThreadPoolExecutor(min(_WORKERS, len(names)), "oubliette-each") as pool:
        return tuple(pool.map(attempt, names))
