"""What a pull tells while it works, and how it is ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import ImagePullError, OperationTimeoutError
from oubliette_core.models import Cancel, ProgressEvent
from oubliette_core.runtime import Runtime
from oubliette_core.testing.faults import Corrupt, Slow, Stalled
from oubliette_core.testing.images import random_layer
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.calls import SLACK, CallerError, start
from oubliette_core.testing.kit.stage import Maker, Published, Stage, unique

if TYPE_CHECKING:
    from oubliette_core.testing.faults import Target

_PHASES = {
    "resolving",
    "waiting",
    "downloading",
    "verifying",
    "extracting",
    "retrying",
    "exists",
    "done",
    "building",
}
_CANCEL_WITHIN = 2.0


class ProgressCases(Cases):
    """Events, cancelling and the time limit of a pull."""

    def test_images_progress_monotone(self, stage: Stage, make: Maker) -> None:
        events: list[ProgressEvent] = []
        make.pull(_big(stage, make).reference, progress=events.append)
        seen: dict[tuple[str, str], int] = {}
        backwards = []
        for event in events:
            before = seen.get((event.layer, event.phase), 0)
            seen[event.layer, event.phase] = event.current
            if event.current < before or (event.total is not None and event.current > event.total):
                backwards.append(event)

        assert len(events) >= 2
        assert [] == backwards

    def test_images_progress_one_end(self, stage: Stage, make: Maker) -> None:
        events: list[ProgressEvent] = []
        make.pull(_big(stage, make).reference, progress=events.append)
        ends = [number for number, event in enumerate(events) if (event.layer, event.phase) == ("", "done")]

        assert [len(events) - 1] == ends

    def test_images_progress_up_to_date(self, make: Maker) -> None:
        published = make.pulled()
        events: list[ProgressEvent] = []
        make.pull(published.reference, progress=events.append)

        assert 1 == Counter((event.layer, event.phase) for event in events)["", "done"]

    def test_images_progress_phases(self, stage: Stage, make: Maker) -> None:
        events: list[ProgressEvent] = []
        published = _big(stage, make)
        make.pull(published.reference, progress=events.append)

        assert set() == {event.phase for event in events} - _PHASES
        assert {published.reference} == {event.image for event in events}

    def test_images_progress_failed(self, stage: Stage, make: Maker) -> None:
        published = _big(stage, make)
        stage.registry.fail(published.repository, Corrupt())
        events: list[ProgressEvent] = []
        with pytest.raises(ImagePullError):
            make.pull(published.reference, progress=events.append)

        assert [] == [event for event in events if (event.layer, event.phase) == ("", "done")]

    def test_images_progress_callback_raises(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = _big(stage, make)

        def refuse(_event: ProgressEvent) -> None:
            raise CallerError("the caller has seen enough")

        with pytest.raises(CallerError):
            make.pull(published.reference, progress=refuse)

        assert not runtime.exists(published.reference)

    def test_images_cancel_before(self, runtime: Runtime, make: Maker) -> None:
        cancel = Cancel()
        cancel.cancel()
        published = make.publish()
        started = time.monotonic()
        with pytest.raises(ImagePullError) as failed:
            make.pull(published.reference, cancel=cancel)

        assert "cancelled" == failed.value.reason
        assert time.monotonic() - started < _CANCEL_WITHIN + SLACK
        assert not runtime.exists(published.reference)

    def test_images_cancel_slow(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = _big(stage, make)
        fault = stage.registry.fail(published.repository, Slow(10_000))
        _cancelled(runtime, make, published, fault.reached)

    def test_images_cancel_stalled(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = _big(stage, make)
        fault = stage.registry.fail(published.repository, Stalled(after=1000))
        _cancelled(runtime, make, published, fault.stalled)

    def test_images_cancel_stalled_manifest(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = make.publish()
        fault = stage.registry.fail(published.repository, Stalled(on="manifest", after=0))
        _cancelled(runtime, make, published, fault.stalled)

    def test_images_cancel_again(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        published = _big(stage, make)
        fault = stage.registry.fail(published.repository, Stalled(after=1000))
        _cancelled(runtime, make, published, fault.stalled)
        stage.registry.heal(published.repository)
        info = make.pull(published.reference)

        assert info.id == runtime.inspect_image(published.reference).id

    def test_images_pull_timeout(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        for on in ("layer", "manifest"):
            _times_out(stage, runtime, make, on)


def _big(stage: Stage, make: Maker) -> Published:
    return make.publish(stage.image(random_layer(0.25, unique())))


def _cancelled(runtime: Runtime, make: Maker, published: Published, reached: threading.Event) -> None:
    """Cancel a pull as soon as ``reached`` is set, and see it end in time with nothing tagged."""
    cancel = Cancel()
    pull = start(lambda: make.pull(published.reference, cancel=cancel), "a pull")

    assert reached.wait(30), "the pull did not get as far as the layer"
    asked = time.monotonic()
    cancel.cancel()
    error = pull.outcome(30)
    took = time.monotonic() - asked

    assert isinstance(error, ImagePullError), error
    assert "cancelled" == error.reason
    assert took < _CANCEL_WITHIN + SLACK
    assert not runtime.exists(published.reference)


def _times_out(stage: Stage, runtime: Runtime, make: Maker, on: Target) -> None:
    limit = 1.5
    published = _big(stage, make)
    fault = stage.registry.fail(published.repository, Stalled(on=on, after=0))
    started = time.monotonic()
    with pytest.raises((ImagePullError, OperationTimeoutError)) as failed:
        make.pull(published.reference, timeout=limit)
    took = time.monotonic() - started
    stage.registry.heal(published.repository)

    assert published.reference == failed.value.subject
    assert limit <= took < limit + 1 + SLACK
    assert fault.hits
    assert not runtime.exists(published.reference)
