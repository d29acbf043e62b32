"""What became of each case, in one run over one runtime."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import attrs

from oubliette_core._version import __version__
from oubliette_core.hookspecs import API_VERSION
from oubliette_core.testing.kit.manifest import Behaviour, behaviours

if TYPE_CHECKING:
    import pytest

__all__ = ["CaseReport", "Outcome", "Recorder", "Report"]

Outcome = Literal["passed", "failed", "skipped", "expected-failure"]
_FORMAT = 1


@attrs.frozen(kw_only=True)
class CaseReport:
    """What became of one case.

    :param reason: why it was skipped or failed, in one line. :param detail: the whole traceback of a failure.
    :param duration: seconds, with making and removing what it needed.
    """

    behaviour: Behaviour
    outcome: Outcome
    reason: str = ""
    detail: str = ""
    duration: float = 0.0

    def document(self) -> dict[str, Any]:
        """Give it as it stands in the report's file."""
        behaviour = self.behaviour
        return {
            "id": behaviour.id,
            "sentence": behaviour.sentence,
            "source": behaviour.source,
            "needs": sorted(behaviour.needs),
            "unless": sorted(behaviour.unless),
            "outcome": self.outcome,
            "reason": self.reason,
            "duration": round(self.duration, 3),
        }


@attrs.frozen(kw_only=True)
class Report:
    """One run of the kit.

    :param version: of the engine. :param capabilities: values of what the runtime declares.
    """

    runtime: str
    version: str
    capabilities: tuple[str, ...]
    started: datetime
    duration: float
    cases: tuple[CaseReport, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Ids of the cases that failed."""
        return tuple(case.behaviour.id for case in self.cases if case.outcome == "failed")

    def count(self) -> Mapping[str, int]:
        """Count the cases by outcome."""
        return Counter(case.outcome for case in self.cases)

    def as_json(self) -> str:
        """Give the content of the report's file."""
        document = {
            "format": _FORMAT,
            "runtime": self.runtime,
            "version": self.version,
            "capabilities": list(self.capabilities),
            "core": __version__,
            "api": API_VERSION,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "started": self.started.isoformat(timespec="seconds"),
            "duration": round(self.duration, 3),
            "summary": dict(sorted(self.count().items())),
            "cases": [case.document() for case in self.cases],
        }
        return json.dumps(document, indent=1) + "\n"


class _Case:
    """The phases of one case, as they come in."""

    def __init__(self) -> None:
        self.phases: list[pytest.TestReport] = []

    def add(self, phase: pytest.TestReport) -> None:
        self.phases.append(phase)

    def result(self, behaviour: Behaviour) -> CaseReport:
        duration = sum(phase.duration for phase in self.phases)
        bad = next((phase for phase in self.phases if phase.failed), None)
        if bad is not None:
            return CaseReport(
                behaviour=behaviour, outcome="failed", reason=_reason(bad), detail=bad.longreprtext, duration=duration
            )
        left_out = next((phase for phase in self.phases if phase.skipped), None)
        if left_out is None:
            return CaseReport(behaviour=behaviour, outcome="passed", duration=duration)
        expected = getattr(left_out, "wasxfail", None)
        outcome: Outcome = "skipped" if expected is None else "expected-failure"
        reason = _reason(left_out) if expected is None else str(expected)
        return CaseReport(behaviour=behaviour, outcome=outcome, reason=reason, duration=duration)


class Recorder:
    """Collects what became of the cases, for each runtime by itself; a plugin of pytest.

    :param told: called with each case as it ends.
    """

    def __init__(self, told: Callable[[CaseReport], None] | None = None) -> None:
        self._told = told
        self._started = datetime.now(UTC)
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._cases: dict[str, dict[str, _Case]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in one phase of a test; what is no case carries no facts."""
        facts = getattr(report, "oubliette", None)
        if facts is None:
            return
        runtime = facts["runtime"]
        self._facts.setdefault(runtime, facts)
        case = self._cases.setdefault(runtime, {}).setdefault(facts["id"], _Case())
        case.add(report)
        if report.when == "teardown" and self._told is not None:
            behaviour = next(one for one in behaviours() if one.id == facts["id"])
            self._told(case.result(behaviour))

    def reports(self) -> list[Report]:
        """Give one report for each runtime, by name; cases in the order of the manifest."""
        return [self._report(runtime) for runtime in sorted(self._cases)]

    def _report(self, runtime: str) -> Report:
        facts, found = self._facts[runtime], self._cases[runtime]
        return Report(
            runtime=runtime,
            version=facts["version"],
            capabilities=tuple(facts["capabilities"]),
            started=self._started,
            duration=(datetime.now(UTC) - self._started).total_seconds(),
            cases=tuple(found[one.id].result(one) for one in behaviours() if one.id in found),
        )


def _reason(report: pytest.TestReport) -> str:
    """Give in one line why a phase failed or was skipped."""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash is not None else report.longreprtext
    return " ".join(text.split())[:500]
