"""Checking an installed runtime: ``python -m oubliette_core.testing NAME [--json FILE] [--case ID ...]``.

Exit codes: 0 every case that applies passed, 1 some did not, 2 usage, 3 there is no such runtime or it cannot be used.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import OublietteError
from oubliette_core.plugins import RuntimeCatalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oubliette_core.testing.kit.report import CaseReport, Report

PASSED, FAILED, USAGE, NO_RUNTIME = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the kit and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        # pytest comes with an extra that whoever installed the runtime may not have.
        from oubliette_core.testing.check import KitError, run_kit  # noqa: PLC0415
    except ImportError as error:
        return _stop(FAILED, f"{error.name} is not installed", "Type: pip install 'oubliette-core[testing]'")
    try:
        _require_usable(options.name)
        report = run_kit(lambda: RuntimeCatalogue().load(options.name), cases=options.case or None, told=_tell)
    except OublietteError as error:
        return _stop(NO_RUNTIME, error.message, error.hint)
    except ValueError as error:
        return _stop(USAGE, str(error))
    except KitError as error:
        return _stop(FAILED, str(error))
    if options.json:
        options.json.write_text(report.as_json(), encoding="utf-8")
    _say(_summary(report))
    return FAILED if report.failed else PASSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m oubliette_core.testing", description="Run the conformance kit over an installed runtime."
    )
    parser.add_argument("name", metavar="NAME", help="the runtime's name, as 'oubliette runtime list' shows it")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what became of each case to FILE")
    parser.add_argument(
        "--case",
        metavar="ID",
        action="append",
        help="run only this case, or those whose ids begin so (exec.deadline); can be repeated",
    )
    return parser


def _require_usable(name: str) -> None:
    """Raise the error that says why a runtime cannot be used, before hundreds of cases do."""
    with RuntimeCatalogue().load(name) as runtime:
        probe = runtime.probe()
    if not probe.available:
        raise OublietteError(f"runtime {name} cannot be used: {probe.detail}", hint=probe.hint)


def _tell(case: CaseReport) -> None:
    _say(f"{case.outcome:16} {case.behaviour.id}" + (f": {case.reason}" if case.reason else ""))


def _summary(report: Report) -> str:
    counts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(report.count().items()))
    lines = [f"\n{report.runtime} {report.version}: {counts} in {report.duration:.0f} s"]
    for case in report.cases:
        if case.outcome == "failed":
            lines += [f"\n{case.behaviour.id}: {case.behaviour.sentence}", case.detail.rstrip()]
    return "\n".join(lines)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _stop(code: int, message: str, hint: str = "") -> int:
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    return code


if __name__ == "__main__":
    sys.exit(main())
