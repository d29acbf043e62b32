"""The kit can fail: it catches every runtime that is broken in one way, by the case that is about it."""

from pathlib import Path

import pytest

from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.testing.check import run_kit
from oubliette_core.testing.fake import FakeEngine, FakeRuntime
from oubliette_core.testing.kit import witness
from oubliette_core.testing.kit.report import Report
from tests.conformance.fakes import pretended_busybox
from tests.conformance.saboteurs import SABOTEURS, Saboteur
from tests.conformance.saboteurs.engine import HangingInspect

FEWEST = 20
UNTOUCHED = ("engine.complete", "containers.create-generated-name")
"""Cases that every saboteur passes: it is broken in one way, and the kit does not fail because of something else."""


class Fixtures:
    """What the kit needs for the fake."""

    def __init__(self, folder: Path) -> None:
        self._busybox = pretended_busybox(folder)

    @pytest.fixture(scope="class")
    def kit_busybox(self) -> Path:
        """Something that nobody executes."""
        return self._busybox


def _run(backend: type[FakeRuntime], cases: tuple[str, ...], folder: Path) -> Report:
    engine = FakeEngine()
    try:
        return run_kit(
            lambda: build_runtime("fake", backend(RuntimeSettings(), engine)), cases=cases, fixtures=Fixtures(folder)
        )
    finally:
        engine.shut_down()


@pytest.mark.parametrize("saboteur", SABOTEURS, ids=lambda saboteur: saboteur.__name__)
def test_a_saboteur_is_caught_by_its_case(
    saboteur: type[Saboteur], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kit that cannot fail proves nothing."""
    if saboteur is HangingInspect:
        monkeypatch.setattr(witness, "_DEADLINE", 0.5)
        monkeypatch.setattr(witness, "_MARGIN", 0.5)
    report = _run(saboteur, (*UNTOUCHED, *saboteur.caught_by), tmp_path)

    assert set(saboteur.caught_by) == set(report.failed), report.as_json()
    assert len(UNTOUCHED) == report.count()["passed"]


def test_the_cases_that_catch_saboteurs_pass_without_sabotage(tmp_path: Path) -> None:
    """What they catch is the sabotage."""
    cases = tuple({case for saboteur in SABOTEURS for case in saboteur.caught_by} - {"honesty.capabilities"})
    report = _run(FakeRuntime, cases, tmp_path)

    assert () == report.failed, report.as_json()
    assert len(cases) == report.count()["passed"]


def test_there_are_many_saboteurs_each_with_a_case() -> None:
    """Each says what is wrong with it."""
    assert len(SABOTEURS) >= FEWEST
    assert [] == [saboteur.__name__ for saboteur in SABOTEURS if not saboteur.__doc__ or not saboteur.caught_by]
