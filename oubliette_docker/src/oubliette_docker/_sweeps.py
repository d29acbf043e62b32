"""One killing for the many commands of a container that have to end at the same time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from oubliette_core.guest import Verdict

if TYPE_CHECKING:
    from oubliette_docker._exec_calls import Job

__all__ = ["Sweeps"]

_TURN = 0.5
"""Part of the time that is left in which a sweep waits for the one before it in its container."""

Strike = Callable[[tuple["Job", ...], str | None, float], Verdict]
"""Kills commands of one container, as a user of it, until a time by `time.monotonic`."""
_Place = tuple[str, str | None]


@attrs.define(kw_only=True, eq=False)
class _Sweep:
    """Commands that are killed together, and what came of it once ``over`` is set."""

    jobs: list[Job] = attrs.field(factory=list)
    over: threading.Event = attrs.field(factory=threading.Event)
    verdict: Verdict = attrs.field(factory=Verdict)
    error: Exception | None = None


class Sweeps:
    """Collects the commands of a container that have to end while an earlier sweep is at work. Safe between threads.

    A killer takes processes of the container's own and a look at every process of it: one for each of fifty commands
    would starve each other until most are past their time. Whoever comes first strikes at once, for itself; all who
    come until that is done are one sweep.

    :param strike: does it.
    """

    def __init__(self, strike: Strike) -> None:
        self._strike = strike
        self._lock = threading.Lock()
        self._waiting: dict[_Place, _Sweep] = {}
        self._striking: dict[_Place, _Sweep] = {}

    def join(self, job: Job, user: str | None, until: float) -> Verdict:
        """Kill a command together with those that have to end now as well; the verdict on it.

        A sweep that ends for want of time, or that does not begin in time, says nothing: its verdict is not complete.
        Errors are those of ``strike``, for everybody who took part.
        """
        place = job.container, user
        with self._lock:
            sweep = self._waiting.get(place)
            leads = sweep is None
            if sweep is None:
                sweep = self._waiting[place] = _Sweep()
            sweep.jobs.append(job)
        if leads:
            self._lead(place, sweep, until)
        else:
            sweep.over.wait(_left(until))
        if sweep.error is not None:
            raise sweep.error
        return sweep.verdict if len(sweep.jobs) == 1 else sweep.verdict.of(job.mark)

    def _lead(self, place: _Place, sweep: _Sweep, until: float) -> None:
        before = self._striking.get(place)
        if before is not None:
            before.over.wait(_left(until) * _TURN)
        with self._lock:
            del self._waiting[place]
            self._striking[place] = sweep
        try:
            sweep.verdict = self._strike(tuple(sweep.jobs), place[1], until)
        except Exception as error:  # noqa: BLE001 - it is for all who wait, and raised by each
            sweep.error = error
        finally:
            with self._lock:
                if self._striking.get(place) is sweep:
                    del self._striking[place]
            sweep.over.set()


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.0)
