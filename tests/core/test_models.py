"""The values that cross the hook boundary."""

from __future__ import annotations

import inspect
import threading

import attrs
import pytest

from oubliette_core import models
from oubliette_core.models import Cancel, ContainerSpec, ExecSpec

VALUES = [value for value in vars(models).values() if inspect.isclass(value) and attrs.has(value)]


@pytest.mark.parametrize("cls", VALUES, ids=lambda cls: cls.__name__)
def test_values_are_frozen_keyword_only_and_slotted(cls: type[attrs.AttrsInstance]) -> None:
    """A value that could change after it was checked would not have been checked."""
    fields = attrs.fields(cls)

    assert all(field.kw_only for field in fields)
    assert not hasattr(cls, "__dict__") or "__slots__" in vars(cls)
    assert cls.__setattr__ is not object.__setattr__


def test_a_spec_keeps_a_copy_of_its_variables() -> None:
    """The caller's dictionary may change after the guard has looked."""
    env = {"A": "1"}
    spec = ContainerSpec(image="x", env=env)
    env["A"] = "2"

    assert {"A": "1"} == spec.env


@pytest.mark.parametrize(
    "spec", [ContainerSpec(image="x", env={"KEY": "s3cret"}), ExecSpec(command=("a",), env={"KEY": "s3cret"})]
)
def test_values_of_variables_are_not_printed(spec: object) -> None:
    """Variables carry secrets, and reprs end up in logs and tracebacks."""
    assert "s3cret" not in repr(spec)
    assert "KEY" in repr(spec)


def test_cancel_runs_each_function_once_and_late_ones_at_once() -> None:
    """A backend may register before or after the request to stop, and must be told exactly once."""
    cancel, calls = Cancel(), []
    cancel.on_cancel(lambda: calls.append("early"))
    forget = cancel.on_cancel(lambda: calls.append("forgotten"))
    forget()
    cancel.cancel()
    cancel.cancel()
    cancel.on_cancel(lambda: calls.append("late"))

    assert ["early", "late"] == calls
    assert cancel.cancelled


def test_cancel_wakes_a_waiter() -> None:
    """Back-off between retries must not delay Ctrl-C."""
    cancel, woken = Cancel(), threading.Event()

    def wait() -> None:
        if cancel.wait(60):
            woken.set()

    thread = threading.Thread(target=wait)
    thread.start()
    cancel.cancel()

    assert woken.wait(10)
    thread.join()
