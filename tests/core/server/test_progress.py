"""Progress: what a pull's many events become for a client."""

from __future__ import annotations

import anyio
import pytest

from oubliette_core.models import ProgressEvent
from oubliette_core.server import progress
from oubliette_core.server.progress import Reporter

Sent = list[tuple[float, float | None, str]]


def _reporter() -> tuple[Reporter, Sent]:
    sent: Sent = []

    async def send(reached: float, total: float | None, message: str) -> None:
        sent.append((reached, total, message))

    return Reporter("container_start", send), sent


def _event(layer: str, phase: str, current: int = 0, total: int | None = None, detail: str = "") -> ProgressEvent:
    return ProgressEvent(image="app:1", layer=layer, phase=phase, current=current, total=total, detail=detail)


def test_layers_are_summed_up() -> None:
    """One line says how far all of them are."""
    reporter, sent = _reporter()
    reporter.report(_event("a", "downloading", 1_000_000, 4_000_000))
    reporter.report(_event("b", "downloading", 2_000_000, 2_000_000))
    reporter.report(_event("b", "done"))
    anyio.run(reporter.tell)

    assert [(3_000_000, 6_000_000, "app:1: done, 1 of 2 layers, 3.0 of 6.0 MB")] == sent


def test_what_is_told_only_rises() -> None:
    """A layer that begins again, and a total that grows, are no steps back for the client."""
    reporter, sent = _reporter()
    for current in (500, 900, 100, 0, 950):
        reporter.report(_event("a", "downloading", current, 1000))
        anyio.run(reporter.tell)
    reached = [each[0] for each in sent]

    assert 5 == len(reached)
    assert sorted(set(reached)) == reached


def test_nothing_new_is_not_told() -> None:
    """Until so much time has passed that the client might give up."""
    reporter, sent = _reporter()
    anyio.run(reporter.tell)

    assert [] == sent


def test_a_call_without_events_tells_that_it_is_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long command has nothing else to tell."""
    monkeypatch.setattr(progress, "_HEARTBEAT", 0.0)
    reporter, sent = _reporter()
    anyio.run(reporter.tell)
    anyio.run(reporter.tell)

    assert [None, None] == [total for _, total, _ in sent]
    assert "container_start: at work for 0 s" == sent[0][2]
    assert sent[0][0] < sent[1][0]


def test_waiting_and_retrying_say_why() -> None:
    """Otherwise it looks as if nothing happened."""
    reporter, sent = _reporter()
    reporter.report(_event("", "retrying", detail="the registry said 503; next attempt in 2 s"))
    anyio.run(reporter.tell)

    assert "app:1: retrying (the registry said 503; next attempt in 2 s)" == sent[0][2]


def test_lines_are_passed_on_together_and_rise_with_their_number() -> None:
    """What an agent does meanwhile is told as it is, and of very much the end."""
    reporter, sent = _reporter()
    for line in ("one", "two"):
        reporter.say(line)
    anyio.run(reporter.tell)
    reporter.say("x" * 10_000)
    anyio.run(reporter.tell)

    assert "one\ntwo" == sent[0][2]
    assert sent[0][0] < sent[1][0]
    assert "..." + "x" * 8192 == sent[1][2]
