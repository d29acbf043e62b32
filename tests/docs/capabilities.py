"""Makes the capability matrix of the docs from reports of the conformance kit.

``python -m tests.docs.capabilities REPORT...`` stores what matters of new reports beside the page and writes the page;
without reports it writes the page from those that are stored. Only reports of a whole run are taken.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from oubliette_core.models import Capability
from oubliette_core.testing.kit.manifest import behaviours

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
PAGE = FOLDER / "capabilities.md"
STORED = FOLDER / "capabilities"

_SUMMARY = ["Runtime", "Engine", "System", "Passed", "Failed", "Expected failures", "Skipped"]
_HEAD = """\
# Capabilities

What each runtime declares, and how many cases of the conformance kit stand behind it. This page is made from the kit's
reports by `python -m tests.docs.capabilities`; nothing in it is written by hand.

A runtime is held to what it declares. "5 of 5" says that the kit has five cases that are run only where the capability
is declared, and that the runtime passes all of them; "declared" that the kit has no case for it alone; a dash that the
runtime does not declare it, so that requiring it is refused.
"""
_TAIL = """
Every skip is due to a capability that is not declared, or that makes the case senseless. A case that is expected to
fail is run, and has to fail. Apple's command exists on macOS only: on any other system, `apple` ran over the emulator
of it that the tests have, with real containers. `embedded` ran as an ordinary user; run by root it enforces more.
"""


def stored(report: dict[str, Any]) -> dict[str, Any]:
    """Give what is kept of a report: no times. :raises ValueError: it is not of a whole run."""
    cases = {
        case["id"]: {"needs": case["needs"], "outcome": case["outcome"]}
        | ({"reason": case["reason"]} if case["outcome"] in ("skipped", "expected-failure") else {})
        for case in report["cases"]
    }
    if missing := {one.id for one in behaviours()} - set(cases):
        raise ValueError(
            f"the report of {report['runtime']} is not of a whole run: it lacks {', '.join(sorted(missing))}"
        )
    kept = {name: report[name] for name in ("format", "runtime", "version", "system", "capabilities")}
    return {**kept, "cases": cases}


def page(reports: Iterable[dict[str, Any]]) -> str:
    """Write the page."""
    columns = sorted(reports, key=lambda report: str(report["runtime"]))
    lines = [_HEAD, _row(["Capability", *(report["runtime"] for report in columns)])]
    lines.append(_row(["---"] * (len(columns) + 1)))
    lines += [_row([f"`{one}`", *(_cell(report, one) for report in columns)]) for one in sorted(Capability)]
    lines += ["", "## The reports", "", _row(_SUMMARY), _row(["---"] * len(_SUMMARY))]
    lines += [_row(_summary(report)) for report in columns]
    lines.append(_TAIL)
    expected = [line for report in columns for line in _expected(report)]
    lines += ["## Expected to fail", "", _row(["Runtime", "Case", "Because"]), _row(["---"] * 3), *expected]
    return "\n".join(lines) + "\n"


def _cell(report: dict[str, Any], capability: str) -> str:
    if capability not in report["capabilities"]:
        return "-"
    outcomes = [case["outcome"] for case in report["cases"].values() if capability in case["needs"]]
    run = [outcome for outcome in outcomes if outcome != "skipped"]
    return f"{run.count('passed')} of {len(run)}" if run else "declared"


def _summary(report: dict[str, Any]) -> list[str]:
    counts = Counter(case["outcome"] for case in report["cases"].values())
    numbers = [str(counts[outcome]) for outcome in ("passed", "failed", "expected-failure", "skipped")]
    return [report["runtime"], report["version"], report["system"], *numbers]


def _expected(report: dict[str, Any]) -> list[str]:
    cases = sorted(report["cases"].items())
    found = [(name, case["reason"]) for name, case in cases if case["outcome"] == "expected-failure"]
    return [_row([report["runtime"], f"`{name}`", reason]) for name, reason in found]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def read_stored() -> list[dict[str, Any]]:
    """Read the reports that are kept."""
    return [json.loads(path.read_text()) for path in sorted(STORED.glob("*.json"))]


def main(files: Iterable[str]) -> None:
    """Store new reports, and write the page."""
    STORED.mkdir(parents=True, exist_ok=True)
    for file in files:
        report = stored(json.loads(Path(file).read_text()))
        (STORED / f"{report['runtime']}.json").write_text(json.dumps(report, indent=1) + "\n")
    PAGE.write_text(page(read_stored()))


if __name__ == "__main__":
    main(sys.argv[1:])
