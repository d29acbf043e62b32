"""Fixtures that many tests share: an engine, a registry, images in it, and a registry that fails.

Where no engine can be had, tests that need one are skipped with the reason, and fail when `CI=true`. Under xdist the
controller provides one engine for all workers.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from oubliette_core.testing.images import find_busybox
from oubliette_core.testing.registry import FaultRegistry
from tests.engine import Engine, EngineUnavailableError, private_engine, running_engine
from tests.images import Enter, ImageMaker, StartEngine

# The conformance kit: its cases are run over several runtimes in `conformance`.
pytest_plugins = ["oubliette_core.testing.plugin"]

_UNAVAILABLE = "OUBLIETTE_TEST_NO_ENGINE"  # tells workers why, so that each does not try again
T = TypeVar("T")
_shared_engine = pytest.StashKey[contextlib.ExitStack]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses an engine, so that `-m "not engine"` leaves it out; leave out what only a full run has."""
    if "OUBLIETTE_TEST_FULL" not in os.environ:
        left_out = [item for item in items if item.get_closest_marker("full")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if {"engine", "enter", "start_private_engine"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.engine)
    if hasattr(config, "workerinput"):
        # What takes long comes first, or one worker would still be at it when the others are done.
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_configure(config: pytest.Config) -> None:
    """Provide one engine for all workers of a parallel run."""
    # Jobs in the background of a shell ignore Ctrl-C, and hand that on; tests send it to the programs they start.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        return
    config.stash[_shared_engine] = stack = contextlib.ExitStack()
    try:
        os.environ.update(stack.enter_context(running_engine()).environment())
    except EngineUnavailableError as error:
        os.environ[_UNAVAILABLE] = str(error)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the engine of a parallel run."""
    if _shared_engine in config.stash:
        config.stash[_shared_engine].close()


def _enter(stack: contextlib.ExitStack, provider: contextlib.AbstractContextManager[T]) -> T:
    """Enter `provider`, or skip the test with the reason why it cannot be; in CI, fail it."""
    try:
        return stack.enter_context(provider)
    except EngineUnavailableError as error:
        reason = str(error)
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextlib.contextmanager
def _shared() -> Iterator[Engine]:
    if _UNAVAILABLE in os.environ:
        raise EngineUnavailableError(os.environ[_UNAVAILABLE])
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An engine that all tests share: leave nothing in it, prune nothing."""
    with contextlib.ExitStack() as stack:
        yield _enter(stack, _shared())


@pytest.fixture(scope="session")
def registry(engine: Engine) -> str:
    """The address (host:port) of the registry that belongs to the engine."""
    return engine.registry


@pytest.fixture(scope="session")
def busybox(engine: Engine) -> Path:
    """A statically linked busybox."""
    return find_busybox(engine.busybox)


@pytest.fixture
def images(engine: Engine, busybox: Path) -> Iterator[ImageMaker]:
    """Makes images and pushes them to the registry."""
    with contextlib.closing(ImageMaker(engine, busybox)) as maker:
        yield maker


@pytest.fixture
def fault_registry() -> Iterator[FaultRegistry]:
    """A registry in this process that fails on demand."""
    with FaultRegistry() as registry:
        yield registry


@pytest.fixture
def enter() -> Iterator[Enter]:
    """Enters what starts engines, for as long as the test runs; where none can be had, skips or fails it."""
    with contextlib.ExitStack() as stack:
        yield lambda provider: _enter(stack, provider)


@pytest.fixture
def start_private_engine() -> Iterator[StartEngine]:
    """Starts engines for this test alone: `start_private_engine(arguments=(), data_mb=None)`."""
    with contextlib.ExitStack() as stack:
        yield lambda **options: _enter(stack, private_engine(**options))


@pytest.fixture(name="private_engine")
def _private_engine(start_private_engine: StartEngine) -> Engine:
    """An engine for this test alone, which may be killed, paused and restarted."""
    return start_private_engine()
