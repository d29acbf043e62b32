"""Calls in threads: cancelled, limited, ended."""

from __future__ import annotations

import threading
from functools import partial

import anyio
import pytest

from oubliette_core.errors import ConflictError
from oubliette_core.models import Cancel
from oubliette_core.server.work import Work, end_all
from tests.core.server.conftest import until


def test_a_result_and_an_error_come_through() -> None:
    """As if there were no thread."""

    def fail(_cancel: Cancel) -> int:
        raise KeyError("x")

    async def main(*, long: bool) -> int:
        work = Work()
        with pytest.raises(KeyError):
            await work.run(fail, long=long)
        return await work.run(lambda _cancel: 7, long=long) + work.active

    assert [7, 7] == [anyio.run(partial(main, long=long)) for long in (False, True)]


def test_who_is_cancelled_waits_until_the_thread_has_ended() -> None:
    """Nothing goes on behind the back of who cancelled."""
    ended = threading.Event()

    def wait(cancel: Cancel) -> None:
        assert cancel.wait(10)
        ended.set()

    async def main() -> int:
        work = Work()
        with anyio.move_on_after(0.1):
            await work.run(wait, long=True)
        assert ended.is_set()
        return work.active

    assert 0 == anyio.run(main)


def test_long_calls_that_wait_for_a_thread_can_be_cancelled() -> None:
    """They never began, and nothing is left of them."""
    release = threading.Event()

    async def main() -> tuple[int, int]:
        work = Work()
        work._long = anyio.CapacityLimiter(1)
        async with anyio.create_task_group() as tasks:

            async def hold() -> None:
                await work.run(lambda _cancel: release.wait(10), long=True)

            tasks.start_soon(hold)
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(0.1):
                await work.run(lambda _cancel: None, long=True)
            quick = await work.run(lambda _cancel: 1, long=False)
            waiting = work.active
            release.set()
        return quick, waiting + work.active

    assert (1, 1) == anyio.run(main)


def test_all_calls_are_ended_and_those_that_do_not_end_are_counted() -> None:
    """None waits for another: the runtime may end many commands in one go, if it is told of all of them."""
    release = threading.Event()
    together = threading.Barrier(20)

    async def main() -> tuple[int, int]:
        work = Work()

        def wait(cancel: Cancel) -> None:
            assert cancel.wait(10)
            together.wait(10)

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(partial(work.run, wait, long=True))
            tasks.start_soon(partial(work.run, lambda _cancel: release.wait(10), long=True))

            async def all_of_them() -> bool:
                return work.active == 21

            await until(all_of_them)
            endings = work.endings()
            left = await anyio.to_thread.run_sync(lambda: end_all(endings, seconds=2))
            release.set()
        return left, work.active

    assert (1, 0) == anyio.run(main)


def test_a_stopping_server_lets_in_nothing() -> None:
    """And says so."""

    async def main() -> None:
        work = Work()
        work.stopping = True
        await work.run(lambda _cancel: 1, long=False)

    with pytest.raises(ConflictError, match="the server is stopping"):
        anyio.run(main)
