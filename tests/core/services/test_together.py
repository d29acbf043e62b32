"""Several targets at once: each is reported, in order, whatever becomes of the others."""

from __future__ import annotations

import threading

import pytest

from oubliette_core.errors import ConflictError
from oubliette_core.services.together import for_each


def test_they_are_worked_on_at_the_same_time_and_reported_in_order() -> None:
    """Each waits for the others here, so one after the other would never end."""
    barrier = threading.Barrier(3)

    def action(target: str) -> str:
        barrier.wait(10)
        if target == "b":
            raise ConflictError("no", subject=target)
        return target.upper()

    outcomes = for_each(["a", "b", "c"], action)

    assert [("a", "A"), ("b", None), ("c", "C")] == [(outcome.target, outcome.value) for outcome in outcomes]
    assert [None, "no", None] == [outcome.error and outcome.error.message for outcome in outcomes]


def test_one_alone_runs_in_the_callers_thread() -> None:
    """Nothing is gained by another."""
    (outcome,) = for_each(["a"], lambda _: threading.current_thread().name)

    assert threading.current_thread().name == outcome.value


def test_none_is_nothing() -> None:
    """An empty list is no error."""
    assert () == for_each([], str.upper)


@pytest.mark.parametrize("targets", [["a"], ["a", "b"]])
def test_a_bug_is_raised(targets: list[str]) -> None:
    """It is not to be printed as if it were expected."""
    with pytest.raises(ZeroDivisionError):
        for_each(targets, lambda _: 1 // 0)
