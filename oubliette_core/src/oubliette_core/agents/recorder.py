"""Writing down what happens in the sessions that this process drives: many events, few transactions."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import OublietteError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.models import Cancel
    from oubliette_core.services.events import EventLog
    from oubliette_core.services.records import Event
    from oubliette_core.services.sessions import StateChange

__all__ = ["Recorder"]

_log = logging.getLogger(__name__)
_GATHER = 0.03
"""Seconds in which what happens is gathered into one transaction; each costs a few milliseconds on a disk."""
_AGAIN = 0.5
_MOST = 20_000
"""Events that may wait to be written; beyond that agents are not listened to."""
_GIVE_UP = 30.0


class Recorder:
    """Writes events and changes of state in the order in which they come, and tells who waits. Safe between threads.

    What was said to be written is in the store when `flush` returns. Where the store cannot be written to, what
    waits is kept and agents are not listened to; after half a minute it is dropped, with a line in the log.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._changed = threading.Condition()
        self._waiting: list[Event | StateChange] = []
        self._added = self._written = 0
        self._hurry = self._closed = False
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="oubliette-recorder", daemon=True)
        self._thread.start()

    def add(self, item: Event | StateChange) -> None:
        """Have something written down soon; returns at once."""
        with self._changed:
            self._waiting.append(item)
            self._added += 1
            if len(self._waiting) == 1:
                self._changed.notify_all()

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be written that no more should come."""
        return len(self._waiting) > _MOST

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was added so far is written; tells whether it is."""
        with self._changed:
            target = self._added
            self._hurry = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._written >= target, timeout)

    def wait(self, ready: Callable[[], bool], timeout: float, cancel: Cancel | None = None) -> bool:
        """Wait until ``ready``, which is asked again whenever something was written; False after ``timeout`` seconds.

        Ends early when cancelled.
        """
        deadline = time.monotonic() + timeout
        forget = cancel.on_cancel(self._wake) if cancel is not None else None
        try:
            while True:
                with self._changed:
                    seen = self._written
                if ready():
                    return True
                with self._changed:
                    left = deadline - time.monotonic()
                    if left <= 0 or self._closed or (cancel is not None and cancel.cancelled):
                        return False
                    if self._written == seen:
                        self._changed.wait(min(left, 1.0))
        finally:
            if forget is not None:
                forget()

    def close(self) -> None:
        """Write what waits, and end. Idempotent."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(5.0)

    def _wake(self) -> None:
        # In a thread that may hold the lock already, or must not wait for it.
        threading.Thread(target=self._notify, name="oubliette-wake", daemon=True).start()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._changed.wait_for(lambda: self._hurry or self._closed, _GATHER)
                batch, self._waiting, self._hurry = self._waiting, [], False
            if self._write(batch):
                with self._changed:
                    self._written += len(batch)
                    self._changed.notify_all()
            else:
                with self._changed:
                    self._waiting = [*batch, *self._waiting]
                    self._changed.wait_for(lambda: self._closed, _AGAIN)
                    if self._closed:
                        return

    def _write(self, batch: list[Event | StateChange]) -> bool:
        try:
            self._log.write(batch)
        except Exception as error:  # noqa: BLE001 - this thread has to go on, whatever a store may do
            now = time.monotonic()
            if self._failing_since is None:
                _log.error(
                    "events of sessions cannot be written: %s", error, exc_info=not isinstance(error, OublietteError)
                )
                self._failing_since = now
            if now - self._failing_since < _GIVE_UP:
                return False
            _log.error("%d events of sessions are lost", len(batch))
        self._failing_since = None
        return True
