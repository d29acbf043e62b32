"""Running the kit from a program."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.manifest import behaviours
from oubliette_core.testing.kit.report import CaseReport, Recorder, Report

__all__ = ["KitError", "run_kit"]

_INSTALLED = Path(__file__).with_name("kit") / "installed.py"

_NOT_WANTED = ("terminal", "cacheprovider", "faulthandler", "threadexception", "unraisableexception")
"""Plugins of pytest that write where we do not want it, or blame one case for what another one left behind."""


class KitError(Exception):
    """The kit itself could not be run; the message says why."""


def run_kit(
    make_runtime: Callable[[], Runtime],
    *,
    cases: Collection[str] | None = None,
    fixtures: object = None,
    told: Callable[[CaseReport], None] | None = None,
) -> Report:
    """Run the kit over a runtime, apart from any other tests and their settings.

    :param make_runtime: gives the runtime; called more than once.
    :param cases: ids, or their first words; None for all.
    :param fixtures: an object with fixtures that take the place of the plugin's, such as ``kit_registry``.
    :param told: called with what became of each case, as it ends.
    :raises ValueError: there is no such case. :raises KitError: the kit could not be run.
    """
    recorder = Recorder(told)
    given = _Given(make_runtime, cases, fixtures)
    arguments = ["-c", os.devnull, "-p", "oubliette_core.testing.plugin"]
    arguments += [word for name in _NOT_WANTED for word in ("-p", f"no:{name}")]
    # What runs is the kit: neither settings nor plugins of the place where it is run.
    with _environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="", PYTEST_PLUGINS=""):
        code = pytest.main([*arguments, str(_INSTALLED)], plugins=[given, recorder])
    reports = recorder.reports()
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or len(reports) != 1:
        raise KitError(f"the kit did not run: pytest ended with {code!r}")
    return reports[0]


def _tests_of(case: str) -> list[str]:
    """Give the names of the tests of a case, or of all cases whose ids begin with these dotted words.

    :raises ValueError: there are none.
    """
    names = [one.test_name for one in behaviours() if one.id == case or one.id.startswith(f"{case}.")]
    if not names:
        raise ValueError(f"there is no case {case}")
    return names


class _Given:
    """A plugin that supplies the runtime and chooses the cases."""

    def __init__(
        self, make_runtime: Callable[[], Runtime], cases: Collection[str] | None, fixtures: object | None
    ) -> None:
        self._names = None if cases is None else {name for one in cases for name in _tests_of(one)}
        self._fixtures = [_Supply(make_runtime), *([] if fixtures is None else [fixtures])]

    def pytest_configure(self, config: pytest.Config) -> None:
        """Register the fixtures now, after the kit's plugin: the last one counts."""
        for fixtures in self._fixtures:
            config.pluginmanager.register(fixtures)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep the cases that were chosen."""
        if self._names is not None:
            items[:] = [item for item in items if item.name in self._names]


class _Supply:
    """Fixtures in the place of the plugin's."""

    def __init__(self, make_runtime: Callable[[], Runtime]) -> None:
        self._make_runtime = make_runtime

    @pytest.fixture(scope="class")
    def kit_runtime(self) -> Callable[[], Runtime]:
        """The runtime that was given."""
        return self._make_runtime


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before: dict[str, Any] = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
