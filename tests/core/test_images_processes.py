"""Several processes that share a home pull an image once, whatever becomes of those that pull."""

from __future__ import annotations

import contextlib
import functools
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import pytest

from oubliette_core import (
    Cancel,
    ContainerType,
    ImageInfo,
    ImageNotFoundError,
    ImagePullError,
    ProgressCallback,
    ProgressEvent,
    Runtime,
    RuntimeCatalogue,
    RuntimeSettings,
    build_runtime,
    hookimpl,
)
from oubliette_core.images import ImageAction, ImageManager, Patience
from oubliette_core.testing.fake import FakeRuntime
from oubliette_core.testing.faults import Stalled
from oubliette_core.testing.images import random_layer
from oubliette_core.testing.registry import FaultRegistry
from tests.engine import Engine
from tests.images import ImageMaker

IMAGE = "example.com/tools:1"
THREADS = 8
SPAWN = multiprocessing.get_context("spawn")


class _SharedBackend(FakeRuntime):
    """A runtime whose images are files, so that several processes see the same ones, and whose pulls are counted.

    :param go: a pull waits until something comes in here.
    """

    def __init__(self, home: Path, go: Connection, *, failing: bool) -> None:
        super().__init__(RuntimeSettings())
        self._home = home
        self._go = go
        self._failing = failing

    @hookimpl
    def inspect_image(self, image: str, platform: str | None) -> ImageInfo:
        if not (self._home / "image").exists():
            raise ImageNotFoundError(f"no {image}")
        return ImageInfo(id="sha256:1", platform=platform or "")

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        del progress, cancel, timeout
        with (self._home / "pulls").open("a") as pulls:
            pulls.write(f"{os.getpid()}\n")
        assert self._go.poll(60), "nobody said go"
        if self._failing:
            raise ImagePullError(
                "denied", reason="unauthorized", retry_after=7.0, runtime="fake", subject=image, hint="Log in."
            )
        (self._home / "image").touch()
        return ImageInfo(id="sha256:1", platform=platform or "")


def _fake(home: Path, go: Connection, *, failing: bool = False) -> Runtime:
    return build_runtime("fake", _SharedBackend(home, go, failing=failing))


def _docker(_home: Path, _go: Connection) -> Runtime:
    return RuntimeCatalogue().load("docker")


def _images(runtime: Runtime, home: Path, image: str) -> ImageManager:
    types = [ContainerType(name="base", image=image)]
    return ImageManager(runtime, types, locks_dir=home / "locks", patience=Patience(first_wait=0.001))


def _work(home: Path, name: str, image: str, make: Callable[[], Runtime]) -> None:
    """Ask for the image from eight threads, and write down what came of it; runs in a process of its own."""
    images = _images(make(), home, image)

    def waiting(event: ProgressEvent) -> None:
        if event.phase == "waiting" and "another process" in event.detail:
            (home / f"{name}.waiting").touch()

    def ask() -> dict[str, str]:
        try:
            return {"action": images.ensure_image_exists("base", progress=waiting).action.value}
        except ImagePullError as error:
            return {field: str(getattr(error, field)) for field in ("reason", "retry_after", "subject", "hint")}

    with ThreadPoolExecutor(THREADS) as pool:
        asked = [pool.submit(ask) for _ in range(THREADS)]
        _until(lambda: [len(flight.passengers) for flight in images._flights._flying.values()] == [THREADS])
        (home / f"{name}.aboard").touch()
        (home / f"{name}.json").write_text(json.dumps([future.result() for future in asked]))


@contextlib.contextmanager
def _processes(
    home: Path, count: int, make: Callable[[Path, Connection], Runtime] = _fake, *, image: str = IMAGE
) -> Iterator[list[SpawnProcess]]:
    """Run workers; at the end of the block their pulls may go on, and they are waited for."""
    with contextlib.ExitStack() as stack:
        workers, lines = [], []
        for number in range(count):
            line, end = SPAWN.Pipe()
            lines.append(stack.enter_context(line))
            stack.enter_context(end)
            arguments = (home, f"worker{number}", image, functools.partial(make, home, end))
            worker = SPAWN.Process(target=_work, args=arguments)
            worker.start()
            stack.callback(worker.join, 10)
            stack.callback(worker.kill)
            workers.append(worker)
        yield workers
        for line in lines:
            line.send("go")
        for worker in workers:
            worker.join(60)


def _until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process, or another thread, does."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.01)


def _all_wait(home: Path, count: int) -> bool:
    """Tell whether one process is at it, the others wait for it, and all threads of each are on board."""
    return len(list(home.glob("*.aboard"))) == count and len(list(home.glob("*.waiting"))) == count - 1


def _pulls(home: Path) -> list[int]:
    file = home / "pulls"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def _answers(home: Path) -> list[dict[str, str]]:
    return [answer for file in sorted(home.glob("worker*.json")) for answer in json.loads(file.read_text())]


@pytest.mark.slow
def test_four_processes_cause_one_pull(tmp_path: Path) -> None:
    """They share a home, and ask from eight threads each: one of all pulls, the others wait, all have the image."""
    with _processes(tmp_path, 4):
        _until(lambda: _all_wait(tmp_path, 4) and bool(_pulls(tmp_path)))

    assert 1 == len(_pulls(tmp_path))
    assert [{"action": "pulled"}] * 4 * THREADS == _answers(tmp_path)


@pytest.mark.slow
def test_a_failure_is_shared_by_the_processes_that_waited(tmp_path: Path) -> None:
    """All get the error with all that is known about it; a call that comes later tries again."""
    with _processes(tmp_path, 3, functools.partial(_fake, failing=True)):
        _until(lambda: _all_wait(tmp_path, 3) and bool(_pulls(tmp_path)))

    denied = {"reason": "unauthorized", "retry_after": "7.0", "subject": IMAGE, "hint": "Log in."}
    assert [denied] * 3 * THREADS == _answers(tmp_path)
    assert 1 == len(_pulls(tmp_path))

    line, end = SPAWN.Pipe()
    with line, end:
        line.send("go")
        outcome = _images(_fake(tmp_path, end), tmp_path, IMAGE).ensure_image_exists("base")

    assert ImageAction.PULLED is outcome.action
    assert 2 == len(_pulls(tmp_path))


@pytest.mark.slow
def test_when_the_puller_is_killed_the_next_one_pulls(tmp_path: Path) -> None:
    """The kernel lets go of the lock of a dead process, and it leaves no record."""
    with _processes(tmp_path, 2) as workers:
        _until(lambda: _all_wait(tmp_path, 2) and bool(_pulls(tmp_path)))
        leader = _pulls(tmp_path)[0]
        os.kill(leader, signal.SIGKILL)
        _until(lambda: len(_pulls(tmp_path)) == 2)

    assert [{"action": "pulled"}] * THREADS == _answers(tmp_path)
    assert leader != _pulls(tmp_path)[1]
    assert [-signal.SIGKILL, 0] == sorted(worker.exitcode or 0 for worker in workers)


@pytest.mark.slow
def test_four_processes_ask_a_real_registry_once(
    tmp_path: Path, engine: Engine, images: ImageMaker, fault_registry: FaultRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same with a Docker Engine: the registry sees one pull, each layer is sent once."""
    monkeypatch.setenv("DOCKER_HOST", engine.docker_host)
    made = images.make(layers=[random_layer(0.1, str(tmp_path))])
    reference = fault_registry.add(made, "team/once")
    stalled = fault_registry.fail("team/once", Stalled(on="manifest", after=0))
    with _processes(tmp_path, 4, _docker, image=reference):
        assert stalled.stalled.wait(60)
        _until(lambda: _all_wait(tmp_path, 4))
        fault_registry.heal("team/once")

    assert [{"action": "pulled"}] * 4 * THREADS == _answers(tmp_path)
    for kind in ("manifest", "layer"):
        asked = [(one.method, one.reference) for one in fault_registry.requests(kind, repository="team/once")]

        # An engine may look with HEAD before it asks with GET.
        assert asked
        assert len(set(asked)) == len(asked)
