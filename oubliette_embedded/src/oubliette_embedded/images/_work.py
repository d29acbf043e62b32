"""Work that takes long, done in another thread: it tells how far it is, and can be left at any moment.

The thread that asked for the work hands the events to the caller's callback, and watches for a cancel, a deadline and
silence. What blocks (a read from a registry, the search for its address) blocks in threads that it can do without.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from oubliette_core.errors import OperationTimeoutError
from oubliette_core.models import Cancel, ProgressEvent
from oubliette_embedded.images._failures import RUNTIME, Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oubliette_core.models import ProgressCallback

__all__ = ["SILENCE", "Stopped", "Work", "carry_out", "in_parallel"]

SILENCE = 120.0
"""Seconds without any event after which work has stalled."""
_BETWEEN = 0.1
"""Seconds between two events about one layer in one phase: more tell nobody anything."""
_LEAVING = 1.0
"""Seconds that threads get to end once they were told to; those that take longer end alone."""
T = TypeVar("T")
A = TypeVar("A")


class Stopped(Exception):  # noqa: N818 - never leaves the threads that work
    """Nobody waits for this work any more."""


@attrs.frozen
class _Outcome:
    value: Any = None
    error: BaseException | None = None


class Work:
    """What work knows of those who wait for it. Used by several threads at once.

    :param image: what it is about, for its events. :ivar stop: set when nobody waits any more.
    """

    def __init__(self, image: str = "") -> None:
        self.stop = Cancel()
        self.news: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._image = image
        self._lock = threading.Lock()
        self._reached: dict[tuple[str, str], tuple[int, float]] = {}
        self._moved = time.monotonic()
        self._local = 0

    def check(self) -> None:
        """Go on, or not. :raises Stopped: nobody waits any more."""
        if self.stop.cancelled:
            raise Stopped

    def moved(self) -> None:
        """Note that something moved, and go on or not. :raises Stopped: nobody waits any more."""
        self._moved = time.monotonic()
        self.check()

    @property
    def silent_for(self) -> float:
        """Seconds since anything moved; 0 while this machine is at work."""
        return 0.0 if self._local else time.monotonic() - self._moved

    @contextlib.contextmanager
    def local(self) -> Iterator[None]:
        """Do what may keep this machine busy for long without a sign, such as writing all to the disk."""
        with self._lock:
            self._local += 1
        try:
            yield
        finally:
            with self._lock:
                self._local -= 1
                self._moved = time.monotonic()

    def tell(self, layer: str, phase: str, current: int = 0, total: int | None = None, detail: str = "") -> None:
        """Tell of a step, not too often, and never of one that goes back. :raises Stopped: nobody waits any more."""
        self.moved()
        with self._lock:
            before, told = self._reached.get((layer, phase), (0, 0.0))
            current = max(current, before)
            if told and current != total and time.monotonic() - told < _BETWEEN and not detail:
                return
            if told and (current, total) == (before, before) and not detail:
                return
            self._reached[layer, phase] = current, time.monotonic()
        self.news.put(
            ProgressEvent(image=self._image, layer=layer, phase=phase, current=current, total=total, detail=detail)
        )


def carry_out(
    task: Callable[[Work], T],
    *,
    image: str,
    operation: str,
    progress: ProgressCallback | None = None,
    cancel: Cancel | None = None,
    timeout: float | None = None,
    silence: float = SILENCE,
) -> T:
    """Do a task in another thread and return what it returns.

    :param timeout: seconds for all of it. :param silence: seconds without a sign of life.
    :raises Failure: ``cancelled``, ``stalled``, or what the task raises.
    :raises OperationTimeoutError: it took longer than ``timeout``. What ``progress`` raises comes through as well.
    """
    if cancel is not None and cancel.cancelled:
        raise _cancelled()
    work = Work(image)
    deadline = None if timeout is None else time.monotonic() + timeout
    # Wakes the waiting at once; it looks at the cancel itself.
    forget = cancel.on_cancel(lambda: work.news.put(None)) if cancel is not None else lambda: None
    thread = threading.Thread(
        target=lambda: work.news.put(_outcome(task, work)), name=f"{operation} {image}", daemon=True
    )
    thread.start()
    try:
        while True:
            news = _next(work.news, deadline)
            if isinstance(news, ProgressEvent) and progress is not None:
                progress(news)
            if isinstance(news, _Outcome):
                if news.error is not None:
                    raise news.error
                value: T = news.value
                return value
            if cancel is not None and cancel.cancelled:
                raise _cancelled()
            if deadline is not None and time.monotonic() >= deadline:
                raise _timed_out(operation, image, timeout or 0.0)
            if work.silent_for > silence:
                raise Failure(f"nothing came for {silence:g} s", "stalled", retryable=True)
    finally:
        forget()
        work.stop.cancel()
        thread.join(_LEAVING)


def in_parallel(work: Work, tasks: list[Callable[[], A]], most: int) -> list[A]:
    """Do tasks in threads, some at a time, and return their results in order; the first failure ends all the work.

    :param most: how many at a time.
    """
    results: dict[int, A] = {}
    errors: list[BaseException] = []
    left = iter(enumerate(tasks))
    lock = threading.Lock()

    def run() -> None:
        while not errors:
            with lock:
                number, task = next(left, (-1, None))
            if task is None:
                return
            try:
                results[number] = task()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                errors.append(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(most, len(tasks)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive() and not errors:
            thread.join(0.05)
            work.check()
    if errors:
        work.stop.cancel()  # the others, which work for nothing
        for thread in threads:
            thread.join(_LEAVING)
        raise errors[0]
    return [results[number] for number in range(len(tasks))]


def _outcome(task: Callable[[Work], T], work: Work) -> _Outcome:
    try:
        return _Outcome(value=task(work))
    except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
        return _Outcome(error=error)


def _next(news: queue.SimpleQueue[Any], deadline: float | None) -> object:
    wait = 0.5 if deadline is None else max(0.0, min(0.5, deadline - time.monotonic()))
    try:
        return news.get(timeout=wait)
    except queue.Empty:
        return None


def _cancelled() -> Failure:
    return Failure("it was cancelled", "cancelled")


def _timed_out(operation: str, image: str, timeout: float) -> OperationTimeoutError:
    return OperationTimeoutError(
        f"{operation} of {image} did not end within {timeout:g} s",
        operation=operation,
        timeout=timeout,
        runtime=RUNTIME,
        subject=image,
    )
