"""Commands that end together are killed together, and each still hears the truth about itself."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from oubliette_core.guest import Marks, Verdict
from oubliette_core.models import ExecSpec
from oubliette_docker._exec_calls import Job
from oubliette_docker._sweeps import Sweeps

SPEC = ExecSpec(command=("true",))
MARKS = Marks()
SOON, NEVER = 0.2, 30.0


def _job(container: str = "box") -> Job:
    return Job.of(container, SPEC, MARKS.new())


class Killer:
    """Kills nothing, in the time that the test gives it."""

    def __init__(self) -> None:
        self.sweeps = Sweeps(self._strike)
        self.struck: list[tuple[Job, ...]] = []
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Semaphore(0)
        self.error: Exception | None = None

    def _strike(self, jobs: tuple[Job, ...], _user: str | None, _until: float) -> Verdict:
        self.struck.append(jobs)
        self.begun.release()
        assert self.go_on.acquire(timeout=10)
        if self.error is not None:
            raise self.error
        return Verdict(complete=True, found=7, hits=tuple(job.mark.limit * 1024 for job in jobs[1:]))

    def waiting(self, count: int, *, container: str = "box") -> None:
        """Wait until so many commands wait for their turn."""
        deadline = time.monotonic() + 10
        while len(getattr(self.sweeps._waiting.get((container, None)), "jobs", ())) < count:
            assert time.monotonic() < deadline
            time.sleep(0.001)


@pytest.fixture
def killer() -> Killer:
    """A killer that waits to be told to go on."""
    return Killer()


def _started(pool: ThreadPoolExecutor, killer: Killer, job: Job, seconds: float = NEVER) -> Future[Verdict]:
    return pool.submit(killer.sweeps.join, job, None, time.monotonic() + seconds)


def test_the_first_is_killed_at_once_and_the_others_together(killer: Killer) -> None:
    """Each gets what was found of its own; one that is alone gets the whole verdict."""
    jobs = [_job() for _ in range(30)]
    with ThreadPoolExecutor(30) as pool:
        first = _started(pool, killer, jobs[0])
        killer.begun.acquire()
        others = []
        for number, job in enumerate(jobs[1:], start=1):
            others.append(_started(pool, killer, job))
            killer.waiting(number)
        killer.go_on.release(2)
        found = [each.result().found for each in (first, *others)]

    assert [(jobs[0],), tuple(jobs[1:])] == killer.struck
    assert [7, 0, *[1] * 28] == found
    assert ({}, {}) == (killer.sweeps._waiting, killer.sweeps._striking)


def test_containers_do_not_wait_for_each_other(killer: Killer) -> None:
    """Nor do users of one."""
    with ThreadPoolExecutor(3) as pool:
        each = [_started(pool, killer, _job(name)) for name in ("one", "two")]
        each.append(pool.submit(killer.sweeps.join, _job("one"), "agent", time.monotonic() + NEVER))
        began = [killer.begun.acquire(timeout=10) for _ in each]
        killer.go_on.release(3)

        assert [True] * 3 == began
        assert [7] * 3 == [one.result().found for one in each]


def test_a_sweep_that_hangs_holds_nobody_up_for_long(killer: Killer) -> None:
    """A container that fights back would otherwise take the time of whoever comes later."""
    with ThreadPoolExecutor(2) as pool:
        _started(pool, killer, _job())
        killer.begun.acquire()
        late = _started(pool, killer, _job(), SOON)
        began = killer.begun.acquire(timeout=10)
        killer.go_on.release(2)

        assert began
        assert 7 == late.result().found


def test_who_has_no_time_left_confirms_nothing(killer: Killer) -> None:
    """Whatever comes of the sweep afterwards."""
    with ThreadPoolExecutor(3) as pool:
        _started(pool, killer, _job())
        killer.begun.acquire()
        leader = _started(pool, killer, _job())
        killer.waiting(1)
        hasty = _started(pool, killer, _job(), SOON)
        killer.waiting(2)

        assert Verdict() == hasty.result()
        killer.go_on.release(2)
        assert 0 == leader.result().found


def test_an_error_is_everybodys(killer: Killer) -> None:
    """None of them knows more than that."""
    killer.error = OSError("gone")
    with ThreadPoolExecutor(3) as pool:
        futures = [_started(pool, killer, _job())]
        killer.begun.acquire()
        for number in (1, 2):
            futures.append(_started(pool, killer, _job()))
            killer.waiting(number)
        killer.go_on.release(2)

        assert all(future.exception() is killer.error for future in futures)
    assert ({}, {}) == (killer.sweeps._waiting, killer.sweeps._striking)
