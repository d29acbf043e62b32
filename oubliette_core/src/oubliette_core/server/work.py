"""Calls at work in threads: services block, the server must not, and both kinds of call get threads of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import attrs

from oubliette_core.errors import ConflictError
from oubliette_core.models import Cancel

T = TypeVar("T")
_QUICK = 32
_LONG = 256
_ACCESS = 8
_POLL = 0.02


@attrs.frozen(kw_only=True)
class Ending:
    """Something at work: how to cancel it, and whether it has ended."""

    cancel: Cancel
    ended: Callable[[], bool]


class Work:
    """Runs functions in worker threads.

    Quick calls, long ones and access checks draw on limits of their own, so that any number of commands that sleep
    leaves a look at a list as fast as before.
    """

    def __init__(self) -> None:
        self._quick = anyio.CapacityLimiter(_QUICK)
        self._long = anyio.CapacityLimiter(_LONG)
        self._access = anyio.CapacityLimiter(_ACCESS)
        self._active: set[Cancel] = set()
        self._lock = threading.Lock()
        self.stopping = False
        """No new call is let in."""

    @property
    def active(self) -> int:
        """How many calls are in threads, or wait for one."""
        return len(self._active)

    async def check(self, function: Callable[[], T]) -> T:
        """Run what decides about access."""
        return await anyio.to_thread.run_sync(function, limiter=self._access)

    async def run(self, function: Callable[[Cancel], T], *, long: bool) -> T:
        """Run a call. When this is cancelled, a long function's `Cancel` is set, and the end is waited for.

        :raises ConflictError: the server is stopping.
        """
        if self.stopping:
            raise ConflictError("the server is stopping", hint="Try again once it runs again.")
        cancel = Cancel()
        begun = False
        with self._lock:
            self._active.add(cancel)

        def work() -> tuple[T | None, BaseException | None]:
            nonlocal begun
            begun = True
            try:
                return function(cancel), None
            except Exception as error:  # noqa: BLE001 - carried out of the thread as a value, and raised there
                return None, error
            finally:
                self._forget(cancel)

        try:
            if long:
                result, error = await self._supervised(work, cancel)
            else:
                # Nothing to cancel: it is over in a moment.
                result, error = await anyio.to_thread.run_sync(work, limiter=self._quick)
        except BaseException:
            if not begun:  # cancelled before a thread was free
                self._forget(cancel)
            raise
        if error is not None:
            raise error
        return result  # type: ignore[return-value] # without an error there is one

    async def _supervised(
        self, work: Callable[[], tuple[T | None, BaseException | None]], cancel: Cancel
    ) -> tuple[T | None, BaseException | None]:
        ended = False

        async def watch() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                if not ended:
                    _cancel_elsewhere(cancel)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            outcome = await anyio.to_thread.run_sync(work, limiter=self._long)
            ended = True
            tasks.cancel_scope.cancel()
        return outcome

    def _forget(self, cancel: Cancel) -> None:
        with self._lock:
            self._active.discard(cancel)

    async def idle(self, seconds: float) -> bool:
        """Wait for the calls that are at work; tell whether all have ended."""
        deadline = time.monotonic() + seconds
        while self._active and time.monotonic() < deadline:  # noqa: ASYNC110 - threads end, which sets no event here
            await anyio.sleep(_POLL)
        return not self._active

    def endings(self) -> tuple[Ending, ...]:
        """Return how to end the calls that are at work."""
        with self._lock:
            return tuple(Ending(cancel=each, ended=partial(self._has_ended, each)) for each in self._active)

    def _has_ended(self, cancel: Cancel) -> bool:
        return cancel not in self._active


def end_all(endings: Iterable[Ending], *, seconds: float) -> int:
    """Cancel what is at work, all at once, and wait for its end; return how many have not ended."""
    todo = list(endings)
    for each in todo:
        _cancel_elsewhere(each.cancel)
    deadline = time.monotonic() + seconds
    while (left := sum(not each.ended() for each in todo)) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return left


def _cancel_elsewhere(cancel: Cancel) -> None:
    """Cancel in a thread: what that calls may take a moment, and everybody else would wait for it."""
    threading.Thread(target=cancel.cancel, name="oubliette-cancel", daemon=True).start()
