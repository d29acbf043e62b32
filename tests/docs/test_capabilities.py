"""The capability matrix says what the conformance kit found out."""

from __future__ import annotations

import copy

from oubliette_core.testing.kit.manifest import behaviours
from tests.docs.capabilities import PAGE, page, read_stored


def test_the_page_is_made_from_the_reports() -> None:
    """Nobody has touched it, and nobody forgot to make it anew."""
    assert page(read_stored()) == PAGE.read_text()


def test_the_reports_cover_the_kit_and_explain_each_skip() -> None:
    """Nothing failed, a skip has a capability for a reason, and reports of another kit would prove nothing of this."""
    reports = read_stored()
    unexplained = [
        case
        for report in reports
        for case in report["cases"].values()
        if case["outcome"] == "failed" or (case["outcome"] == "skipped" and "declare" not in case["reason"])
    ]

    assert {"apple", "docker", "podman-example"} <= {report["runtime"] for report in reports}
    assert [{one.id for one in behaviours()}] * len(reports) == [set(report["cases"]) for report in reports]
    assert [] == unexplained


def test_a_case_that_fails_is_seen_on_the_page() -> None:
    """The matrix cannot look better than the report."""
    [report, *_] = copy.deepcopy(read_stored())
    before = page([report])
    case = next(one for one in report["cases"].values() if one["needs"] and one["outcome"] == "passed")
    case["outcome"] = "failed"

    assert before != page([report])
