"""Images: each is pulled when its policy says so, once for everyone who asks, and its failure is everyone's."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from oubliette_core import (
    Cancel,
    ContainerType,
    ImageNotFoundError,
    ImagePullError,
    OublietteError,
    ProgressEvent,
    PullPolicy,
    RuntimeLostError,
    RuntimeSettings,
    RuntimeUnavailableError,
    UnknownContainerTypeError,
    build_runtime,
)
from oubliette_core.errors import PullFailure
from oubliette_core.images import ImageAction, ImageManager, ImageOutcome, Patience
from oubliette_core.testing.fake import FakeRuntime

IMAGE = "example.com/tools:1"
TYPES = (
    ContainerType(name="base", image=IMAGE),
    ContainerType(name="fresh", image=IMAGE, pull=PullPolicy.ALWAYS),
    ContainerType(name="local", image="example.com/built-here", pull=PullPolicy.NEVER),
)
AT_ONCE = Patience(first_wait=0.001)


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A runtime whose registry has the image."""
    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish(IMAGE)
    yield fake
    fake.engine.shut_down()


@pytest.fixture
def images(fake: FakeRuntime, tmp_path: Path) -> ImageManager:
    """An image manager on that runtime."""
    return _manager(fake, tmp_path)


def _manager(fake: FakeRuntime, locks: Path, *, dev_mode: bool = False, patience: Patience = AT_ONCE) -> ImageManager:
    return ImageManager(build_runtime("fake", fake), TYPES, locks_dir=locks, dev_mode=dev_mode, patience=patience)


def _failure(reason: PullFailure, *, retryable: bool = False, retry_after: float | None = None) -> ImagePullError:
    return ImagePullError(
        f"scripted: {reason}", reason=reason, retryable=retryable, retry_after=retry_after, subject=IMAGE, hint="wait"
    )


@contextlib.contextmanager
def _asking(count: int, ask: Callable[[], ImageOutcome]) -> Iterator[list[Future[ImageOutcome]]]:
    with ThreadPoolExecutor(count) as pool:
        yield [pool.submit(ask) for _ in range(count)]


def _wait_for_passengers(images: ImageManager, count: int) -> None:
    """Wait until so many callers are on board of the flight."""
    deadline = time.monotonic() + 10
    while True:
        flights = list(images._flights._flying.values())
        if flights and len(flights[0].passengers) == count:
            return
        assert time.monotonic() < deadline, "they did not all come on board"
        threading.Event().wait(0.002)


# -- Types ------------------------------------------------------------------------------------------------------------


def test_types_are_those_of_the_configuration(images: ImageManager) -> None:
    """No container type is hard-coded anywhere."""
    assert ("base", "fresh", "local") == images.valid_types
    assert images.is_valid_type("base")
    assert not images.is_valid_type("dev")
    assert "example.com/built-here:latest" == images.get_image_name("local")
    assert PullPolicy.ALWAYS is images.get_policy("fresh")


@pytest.mark.parametrize("method", ["ensure_image_exists", "pull", "get_image_name", "get_policy", "find_local"])
def test_an_unknown_type_names_the_valid_ones(images: ImageManager, fake: FakeRuntime, method: str) -> None:
    """Who mistypes a name sees what there is, and nothing is pulled from anywhere."""
    with pytest.raises(UnknownContainerTypeError, match="configured: base, fresh, local") as caught:
        getattr(images, method)("bsae")

    assert ("base", "fresh", "local") == caught.value.valid_types
    assert 0 == fake.calls["pull"]


def test_types_may_come_as_a_mapping(fake: FakeRuntime, tmp_path: Path) -> None:
    """The configuration gives them by name."""
    manager = ImageManager(
        build_runtime("fake", fake), {kind.name: kind for kind in TYPES}, locks_dir=tmp_path, patience=AT_ONCE
    )

    assert ("base", "fresh", "local") == manager.valid_types


# -- Policies ---------------------------------------------------------------------------------------------------------


def test_missing_pulls_what_is_absent_and_only_that(images: ImageManager, fake: FakeRuntime) -> None:
    """The default policy uses the network once."""
    first, second = images.ensure_image_exists("base"), images.ensure_image_exists("base")

    assert (ImageAction.PULLED, ImageAction.PRESENT) == (first.action, second.action)
    assert first.id == second.id != ""
    assert ("base", IMAGE, True) == (first.type, first.image, first.ok)
    assert 1 == fake.calls["pull"]


def test_a_present_image_costs_one_engine_call(images: ImageManager, fake: FakeRuntime) -> None:
    """The check stands before every start of a container."""
    images.ensure_image_exists("base")
    fake.calls.clear()
    images.ensure_image_exists("base")

    assert {"inspect_image": 1} == dict(fake.calls)


def test_always_asks_the_registry_each_time(images: ImageManager, fake: FakeRuntime) -> None:
    """What was new is told from what was not."""
    first = images.ensure_image_exists("fresh")
    second = images.ensure_image_exists("fresh")
    fake.registry.publish(IMAGE, "2")
    third = images.ensure_image_exists("fresh")

    assert [ImageAction.PULLED, ImageAction.UNCHANGED, ImageAction.PULLED] == [
        outcome.action for outcome in (first, second, third)
    ]
    assert (first.id, True) == (third.previous_id, third.id != first.id)


def test_always_fails_when_the_registry_does_and_keeps_the_old_image(images: ImageManager, fake: FakeRuntime) -> None:
    """A failed refresh never looks like success."""
    old = images.ensure_image_exists("fresh")
    fake.registry.fail(IMAGE, _failure("unauthorized"))

    with pytest.raises(ImagePullError, match="unauthorized"):
        images.ensure_image_exists("fresh")
    assert old.info == images.find_local("fresh")


def test_never_takes_what_is_here_and_pulls_nothing(images: ImageManager, fake: FakeRuntime) -> None:
    """Whoever says never does not want the network used, with `pull` neither."""
    for ask in (images.ensure_image_exists, images.pull):
        with pytest.raises(ImageNotFoundError, match=r"example.com/built-here:latest of container type local"):
            ask("local")
    fake.engine.add_image("example.com/built-here")

    assert ImageAction.PRESENT is images.ensure_image_exists("local").action
    assert ImageAction.PRESENT is images.pull("local").action
    assert 0 == fake.calls["pull"]


def test_dev_mode_never_pulls_and_says_how_to_build(fake: FakeRuntime, tmp_path: Path) -> None:
    """A developer's own image is never replaced by a published one."""
    images = _manager(fake, tmp_path, dev_mode=True)

    for ask in (images.ensure_image_exists, images.pull):
        with pytest.raises(ImageNotFoundError) as caught:
            ask("base")
        assert "./build.sh" in caught.value.hint
    with pytest.raises(ImageNotFoundError):
        images.pull("example.com/other:1")
    assert PullPolicy.NEVER is images.get_policy("fresh")
    assert 0 == fake.calls["pull"]

    fake.engine.add_image(IMAGE)

    assert ImageAction.PRESENT is images.ensure_image_exists("fresh").action


def test_a_platform_is_part_of_what_is_wanted(fake: FakeRuntime, tmp_path: Path) -> None:
    """An image of another platform is not the one that was asked for."""
    fake.registry.publish(IMAGE, platforms=("linux/amd64", "linux/arm64"))
    types = [ContainerType(name=name, image=IMAGE, platform=f"linux/{name}") for name in ("amd64", "arm64")]
    images = ImageManager(build_runtime("fake", fake), types, locks_dir=tmp_path, patience=AT_ONCE)

    outcomes = images.ensure_all_images()

    assert ["linux/amd64", "linux/arm64"] == [outcome.info and outcome.info.platform for outcome in outcomes]
    assert 2 == fake.calls["pull"]


def test_a_reference_can_be_pulled_too(images: ImageManager, fake: FakeRuntime) -> None:
    """A single word is no reference: it is far more often a misspelt type."""
    fake.registry.publish("example.com/other:2")

    assert ImageAction.PULLED is images.pull("example.com/other:2").action
    assert "" == images.pull("example.com/other:2").type


# -- The check --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on_call", [1, 2])
def test_a_failing_check_is_its_own_error_and_causes_no_pull(
    images: ImageManager, fake: FakeRuntime, on_call: int
) -> None:
    """Not to know whether an image is here does not mean that it is not."""
    fake.faults.add("inspect_image", error=RuntimeUnavailableError("the engine sleeps"), on_call=on_call)

    with pytest.raises(RuntimeUnavailableError, match="the engine sleeps"):
        images.ensure_image_exists("base")
    assert 0 == fake.calls["pull"]


# -- One pull for all -------------------------------------------------------------------------------------------------


def test_many_threads_cause_one_pull(images: ImageManager, fake: FakeRuntime) -> None:
    """Thirty-two callers ask for one absent image: one download, thirty-two successes, all see its progress."""
    gate = fake.registry.stall(IMAGE)
    seen: list[list[ProgressEvent]] = [[] for _ in range(32)]
    numbers = iter(range(32))
    with _asking(32, lambda: images.ensure_image_exists("base", progress=seen[next(numbers)].append)) as asked:
        _wait_for_passengers(images, 32)
        gate.release()
        outcomes = [future.result() for future in asked]

    assert {(ImageAction.PULLED, outcomes[0].id)} == {(outcome.action, outcome.id) for outcome in outcomes}
    assert 1 == fake.calls["pull"]
    assert all(("done", "") == (events[-1].phase, events[-1].layer) for events in seen)
    assert {} == images._flights._flying


def test_a_failure_is_everyones_and_is_not_remembered(images: ImageManager, fake: FakeRuntime) -> None:
    """All who waited get the same error, each an exception of its own; the next call tries again."""
    gate = fake.registry.stall(IMAGE)
    gate.release()
    fake.faults.add("pull", hang=True, error=_failure("no_space"))
    with _asking(8, lambda: images.ensure_image_exists("base")) as asked:
        _wait_for_passengers(images, 8)
        fake.faults._faults[0].release()
        errors = [future.exception() for future in asked]

    assert 1 == fake.calls["pull"]
    assert 8 == len({id(error) for error in errors})
    assert {("scripted: no_space", "no_space", "wait")} == {
        (error.message, error.reason, error.hint) for error in errors if isinstance(error, ImagePullError)
    }
    assert 1 == len({id(error.__cause__) for error in errors if error})
    assert ImageAction.PULLED is images.ensure_image_exists("base").action


def test_who_refreshes_does_not_take_a_mere_look_for_an_answer(images: ImageManager, fake: FakeRuntime) -> None:
    """A pull serves those who need the image to be here, never the other way round."""
    gate = fake.registry.stall(IMAGE)
    with ThreadPoolExecutor(2) as pool:
        refreshing = pool.submit(images.ensure_image_exists, "fresh")
        _wait_for_passengers(images, 1)
        needing = pool.submit(images.ensure_image_exists, "base")
        _wait_for_passengers(images, 2)
        gate.release()

        assert ImageAction.PULLED is refreshing.result().action
        assert ImageAction.PULLED is needing.result().action
    assert 1 == fake.calls["pull"]


def test_an_image_that_came_meanwhile_is_not_pulled(images: ImageManager, fake: FakeRuntime) -> None:
    """Whoever gets the turn looks again first: another may have brought the image between the look and the turn."""
    second_look = fake.faults.add("inspect_image", hang=True, on_call=2)
    with _asking(1, lambda: images.ensure_image_exists("base")) as asked:
        assert second_look.reached.wait(10)
        fake.engine.add_image(IMAGE)
        second_look.release()

        assert ImageAction.PRESENT is asked[0].result(10).action
    assert 0 == fake.calls["pull"]


def test_different_images_do_not_wait_for_each_other(images: ImageManager, fake: FakeRuntime) -> None:
    """One slow registry holds nobody up who needs another image."""
    fake.registry.publish("example.com/other:2")
    gate = fake.registry.stall(IMAGE)
    with _asking(1, lambda: images.ensure_image_exists("base")) as asked:
        assert gate.reached.wait(10)
        assert ImageAction.PULLED is images.pull("example.com/other:2").action
        gate.release()

        assert asked[0].result().ok


# -- Cancelling -------------------------------------------------------------------------------------------------------


def test_cancelling_one_caller_does_not_cancel_the_others(images: ImageManager, fake: FakeRuntime) -> None:
    """The pull belongs to all who wait for it."""
    gate = fake.registry.stall(IMAGE)
    cancel = Cancel()
    with ThreadPoolExecutor(2) as pool:
        leaving = pool.submit(images.ensure_image_exists, "base", cancel=cancel)
        _wait_for_passengers(images, 1)
        staying = pool.submit(images.ensure_image_exists, "base")
        _wait_for_passengers(images, 2)
        cancel.cancel()
        error = leaving.exception(10)

        assert isinstance(error, ImagePullError)
        assert "cancelled" == error.reason
        assert not staying.done()
        gate.release()
        assert ImageAction.PULLED is staying.result(10).action
    assert 1 == fake.calls["pull"]


def test_cancelling_the_last_caller_ends_a_stalled_pull(images: ImageManager, fake: FakeRuntime) -> None:
    """It ends within two seconds, leaves no image, and does not stand in the way of the next call."""
    gate = fake.registry.stall(IMAGE)
    cancel = Cancel()
    with _asking(1, lambda: images.ensure_image_exists("base", cancel=cancel)) as asked:
        assert gate.reached.wait(10)
        began = time.monotonic()
        cancel.cancel()
        error = asked[0].exception(10)

    assert isinstance(error, ImagePullError)
    assert ("cancelled", False) == (error.reason, error.retryable)
    assert time.monotonic() - began < 2
    assert images.find_local("base") is None
    fake.registry.heal(IMAGE)
    assert ImageAction.PULLED is images.ensure_image_exists("base").action


def test_a_cancel_that_came_before_pulls_nothing(images: ImageManager, fake: FakeRuntime) -> None:
    """Nothing is begun for a caller who has gone."""
    cancel = Cancel()
    cancel.cancel()

    with pytest.raises(ImagePullError, match="cancelled"):
        images.ensure_image_exists("base", cancel=cancel)
    assert 0 == fake.calls["pull"]


def test_a_cancel_ends_the_wait_for_the_next_attempt(fake: FakeRuntime, tmp_path: Path) -> None:
    """No wait is blind."""
    images = _manager(fake, tmp_path, patience=Patience(first_wait=30))
    fake.registry.fail(IMAGE, _failure("unreachable", retryable=True))
    cancel, retrying = Cancel(), threading.Event()

    def watch(event: ProgressEvent) -> None:
        if event.phase == "retrying":
            retrying.set()

    with _asking(1, lambda: images.ensure_image_exists("base", progress=watch, cancel=cancel)) as asked:
        assert retrying.wait(10)
        began = time.monotonic()
        cancel.cancel()
        error = asked[0].exception(10)

    assert isinstance(error, ImagePullError)
    assert "cancelled" == error.reason
    assert time.monotonic() - began < 2
    assert 1 == fake.calls["pull"]


def test_an_error_in_one_progress_callback_is_that_callers_alone(images: ImageManager, fake: FakeRuntime) -> None:
    """A display that breaks ends the waiting of whoever brought it, and nobody else's."""
    gate = fake.registry.stall(IMAGE)

    def broken(event: ProgressEvent) -> None:
        if event.phase == "downloading":
            raise ZeroDivisionError

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(images.ensure_image_exists, "base", progress=broken)
        _wait_for_passengers(images, 1)
        second = pool.submit(images.ensure_image_exists, "base")
        _wait_for_passengers(images, 2)
        gate.release()

        assert isinstance(first.exception(10), ZeroDivisionError)
        assert ImageAction.PULLED is second.result(10).action


# -- Trying again -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "pulls"),
    [
        (_failure("unreachable", retryable=True), 4),
        (_failure("stalled", retryable=True), 4),
        (_failure("corrupt", retryable=True), 2),
        (_failure("rate_limited", retryable=True, retry_after=0.001), 1),
        (_failure("unauthorized"), 1),
        (_failure("not_found"), 1),
        (_failure("no_space"), 1),
        (_failure("no_platform"), 1),
        (_failure("unreachable"), 1),
        (RuntimeLostError("the engine went away"), 4),
        (RuntimeUnavailableError("there is no engine"), 1),
    ],
    ids=lambda value: getattr(value, "reason", type(value).__name__) if isinstance(value, Exception) else str(value),
)
def test_only_what_may_pass_is_tried_again(
    images: ImageManager, fake: FakeRuntime, error: OublietteError, pulls: int
) -> None:
    """A registry that refuses us is left alone; one that stumbles gets three more tries."""
    fake.registry.fail(IMAGE, error)

    with pytest.raises(type(error), match=error.message):
        images.ensure_image_exists("base")
    assert pulls == fake.calls["pull"]


def test_a_failure_that_passes_is_not_seen(images: ImageManager, fake: FakeRuntime) -> None:
    """Two bad answers, then a good one: a success, and the display was told why it took longer."""
    fake.registry.fail(IMAGE, _failure("unreachable", retryable=True), times=2)
    events: list[ProgressEvent] = []

    assert ImageAction.PULLED is images.ensure_image_exists("base", progress=events.append).action
    assert 3 == fake.calls["pull"]
    assert 2 == sum("scripted: unreachable; next attempt in" in event.detail for event in events)


def test_the_registry_says_how_long_to_wait(fake: FakeRuntime, tmp_path: Path) -> None:
    """``Retry-After`` is kept to; one beyond our patience ends the trying."""
    error = _failure("unreachable", retryable=True, retry_after=20.0)

    assert 20.0 == Patience(first_wait=0.1).wait(1, error)
    assert 4.0 <= Patience().wait(3, None) <= 5.0
    assert 30.0 <= Patience().wait(12, None) <= 37.5

    images = _manager(fake, tmp_path, patience=Patience(longest_wait=10))
    fake.registry.fail(IMAGE, error)
    with pytest.raises(ImagePullError) as caught:
        images.ensure_image_exists("base")
    assert (1, 20.0) == (fake.calls["pull"], caught.value.retry_after)


# -- All of them ------------------------------------------------------------------------------------------------------


def test_all_images_are_tried_and_each_is_reported(images: ImageManager, fake: FakeRuntime) -> None:
    """One failure does not keep the others from being pulled."""
    fake.registry.publish("example.com/other:2")
    manager = ImageManager(
        images._runtime,
        [
            ContainerType(name="a", image=IMAGE),
            ContainerType(name="b", image="example.com/absent:1"),
            ContainerType(name="c", image="example.com/other:2"),
            ContainerType(name="d", image="example.com/here:1"),
        ],
        locks_dir=images._turns._directory,
        patience=AT_ONCE,
    )
    fake.engine.add_image("example.com/here:1")

    outcomes = manager.ensure_all_images()

    assert [("a", "pulled"), ("b", "failed"), ("c", "pulled"), ("d", "present")] == [
        (outcome.type, outcome.action.value) for outcome in outcomes
    ]
    failed = outcomes[1]
    assert isinstance(failed.error, ImagePullError)
    assert ("not_found", False, "", True) == (failed.error.reason, failed.ok, failed.id, failed.duration > 0)


def test_chosen_images_can_be_refreshed(images: ImageManager, fake: FakeRuntime) -> None:
    """Also those that are here; an unknown one is told before anything is done."""
    images.ensure_image_exists("base")
    fake.registry.publish(IMAGE, "2")

    with pytest.raises(UnknownContainerTypeError):
        images.ensure_all_images(["base", "nope"], refresh=True)
    assert 1 == fake.calls["pull"]
    (outcome,) = images.ensure_all_images(["base"], refresh=True)
    assert ImageAction.PULLED is outcome.action


def test_cancelling_all_ends_all(images: ImageManager, fake: FakeRuntime) -> None:
    """Each is reported as cancelled."""
    gate = fake.registry.stall(IMAGE)
    cancel = Cancel()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(images.ensure_all_images, ["base", "fresh"], cancel=cancel)
        assert gate.reached.wait(10)
        cancel.cancel()
        outcomes = asked.result(10)

    assert ["cancelled", "cancelled"] == [
        outcome.error.reason for outcome in outcomes if isinstance(outcome.error, ImagePullError)
    ]


# -- Between processes: two managers that share a home stand for two processes ----------------------------------------


def test_another_process_s_cancel_is_no_outcome(fake: FakeRuntime, tmp_path: Path) -> None:
    """Two managers that share a home stand for two processes: when one gives up, the other pulls for itself."""
    first, second = _manager(fake, tmp_path), _manager(fake, tmp_path)
    gate = fake.registry.stall(IMAGE)
    cancel, waiting = Cancel(), threading.Event()

    def watch(event: ProgressEvent) -> None:
        if event.phase == "waiting":
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        leaving = pool.submit(first.ensure_image_exists, "base", cancel=cancel)
        assert gate.reached.wait(10)
        staying = pool.submit(second.ensure_image_exists, "base", progress=watch)
        assert waiting.wait(10)
        cancel.cancel()
        assert isinstance(leaving.exception(10), ImagePullError)
        gate.release()

        assert ImageAction.PULLED is staying.result(10).action
    assert 2 == fake.calls["pull"]


def test_a_refresh_shares_the_pull_of_another_process(fake: FakeRuntime, tmp_path: Path) -> None:
    """Who began to wait before it ended gets its outcome, an unchanged image as well."""
    first, second = _manager(fake, tmp_path), _manager(fake, tmp_path)
    old = first.ensure_image_exists("fresh")
    gate, waiting = fake.registry.stall(IMAGE), threading.Event()

    def watch(event: ProgressEvent) -> None:
        if event.phase == "waiting":
            waiting.set()

    with ThreadPoolExecutor(2) as pool:
        leading = pool.submit(first.ensure_image_exists, "fresh")
        assert gate.reached.wait(10)
        following = pool.submit(second.ensure_image_exists, "fresh", progress=watch)
        assert waiting.wait(10)
        gate.release()
        outcomes = [leading.result(10), following.result(10)]

    assert [(ImageAction.UNCHANGED, old.id, old.id)] * 2 == [
        (outcome.action, outcome.id, outcome.previous_id) for outcome in outcomes
    ]
    assert 2 == fake.calls["pull"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"token": 1}', b"\xff"])
def test_a_damaged_record_is_no_record(images: ImageManager, fake: FakeRuntime, tmp_path: Path, content: bytes) -> None:
    """A power cut or a stranger can leave anything there; the image is pulled."""
    images.ensure_image_exists("fresh")
    (record,) = tmp_path.glob("*.json")
    record.write_bytes(content)

    assert ImageAction.UNCHANGED is images.ensure_image_exists("fresh").action
    assert 2 == fake.calls["pull"]


def test_files_for_locking_are_ours_alone(images: ImageManager, tmp_path: Path) -> None:
    """What a registry answered is nobody else's affair, and references are never file names."""
    images.ensure_image_exists("base")
    files = sorted(tmp_path.iterdir())

    assert {".json", ".lock"} == {file.suffix for file in files}
    assert {0o600} == {file.stat().st_mode & 0o777 for file in files}
    assert all("tools" not in file.name for file in files)


def test_a_directory_that_cannot_be_made_is_told(fake: FakeRuntime, tmp_path: Path) -> None:
    """The error names the path and what to do."""
    (tmp_path / "file").touch()
    images = _manager(fake, tmp_path / "file" / "locks")

    with pytest.raises(ImagePullError, match="lock file") as caught:
        images.ensure_image_exists("base")
    assert "writable" in caught.value.hint
