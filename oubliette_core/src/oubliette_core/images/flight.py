"""One pull for all threads that want the same image.

A *flight* is a pull under way, in a thread of its own: it belongs to none of those who wait for it. Who cancels leaves
it, and with the last one it is cancelled. All get its outcome; an error as a fresh exception each, since threads that
raise one object would share its traceback. Nothing is remembered after the landing: the next caller tries anew.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from oubliette_core.errors import OublietteError
from oubliette_core.models import Cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from oubliette_core.models import ProgressCallback, ProgressEvent

__all__ = ["Flights"]

T = TypeVar("T")
_LANDING = 1.5
"""Seconds that the last caller to cancel waits for the end, so that what follows finds nothing half open."""


class _Passenger:
    """Someone who waits for a flight."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self.progress = progress
        self.error: BaseException | None = None


class _Flight(Generic[T]):
    """One pull under way."""

    def __init__(self, work: Callable[[ProgressCallback, Cancel], T]) -> None:
        self.cancel = Cancel()
        self.passengers: list[_Passenger] = []
        self.landed = threading.Event()
        self.changed = threading.Condition()
        self.result: list[T] = []
        self.error: BaseException | None = None
        self._work = work

    def run(self) -> None:
        """Do the work."""
        try:
            self.result.append(self._work(self.announce, self.cancel))
        except BaseException as error:  # noqa: BLE001 - it is raised again in every thread that waits
            self.error = error

    def announce(self, event: ProgressEvent) -> None:
        """Hand progress to everyone on board; one whose callback raises gets off with what it raised."""
        with self.changed:
            passengers = list(self.passengers)
        for passenger in passengers:
            if passenger.progress is None or passenger.error is not None:
                continue
            try:
                passenger.progress(event)
            except BaseException as error:  # noqa: BLE001 - it belongs to that caller, and ends its waiting only
                passenger.error = error
                self.wake()

    def wake(self) -> None:
        """Let everyone on board look again."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, passenger: _Passenger, cancel: Cancel | None) -> bool:
        """Wait for the landing; False when ``cancel`` came first.

        :raises BaseException: what the passenger's own progress callback raised.
        """
        forget = cancel.on_cancel(self.wake) if cancel is not None else None
        try:
            with self.changed:
                while passenger.error is None and not self.landed.is_set():
                    if cancel is not None and cancel.cancelled:
                        return False
                    self.changed.wait()
            if passenger.error is not None:
                raise passenger.error
            return True
        finally:
            if forget is not None:
                forget()

    def outcome(self) -> T:
        """Return the result, or raise the error anew."""
        if self.error is None:
            return self.result[0]
        if not isinstance(self.error, OublietteError):
            raise self.error
        again = copy.copy(self.error)
        again.__traceback__ = None
        raise again from self.error


class Flights(Generic[T]):
    """The pulls under way in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[Hashable, _Flight[T]] = {}

    def fly(
        self,
        keys: Sequence[Hashable],
        work: Callable[[ProgressCallback, Cancel], T],
        *,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        cancelled: Callable[[], OublietteError],
    ) -> T:
        """Join a flight under way, or begin one, and wait for its outcome.

        :param keys: a flight under any of these will do; one that is begun gets the first.
        :param cancelled: makes the error for a caller who cancels.
        """
        if cancel is not None and cancel.cancelled:
            raise cancelled()
        flight, passenger = self._board(keys, work, progress)
        landed = False
        try:
            landed = flight.wait(passenger, cancel)
        finally:
            if not landed:
                self._leave(flight, passenger)
        if not landed:
            raise cancelled()
        return flight.outcome()

    def _board(
        self,
        keys: Sequence[Hashable],
        work: Callable[[ProgressCallback, Cancel], T],
        progress: ProgressCallback | None,
    ) -> tuple[_Flight[T], _Passenger]:
        passenger = _Passenger(progress)
        with self._lock:
            for key in keys:
                if key in self._flying:
                    self._flying[key].passengers.append(passenger)
                    return self._flying[key], passenger
            flight = self._flying[keys[0]] = _Flight(work)
            flight.passengers.append(passenger)
        threading.Thread(target=self._fly, args=(keys[0], flight), name="oubliette-pull", daemon=True).start()
        return flight, passenger

    def _fly(self, key: Hashable, flight: _Flight[T]) -> None:
        flight.run()
        with self._lock:
            self._close(key, flight)
        flight.landed.set()
        flight.wake()

    def _close(self, key: Hashable, flight: _Flight[T]) -> None:
        if self._flying.get(key) is flight:
            del self._flying[key]

    def _leave(self, flight: _Flight[T], passenger: _Passenger) -> None:
        with self._lock:
            flight.passengers.remove(passenger)
            if flight.passengers:
                return
            # From here on nobody boards: who comes now begins anew.
            for key in [key for key, other in self._flying.items() if other is flight]:
                self._close(key, flight)
        flight.cancel.cancel()
        flight.landed.wait(_LANDING)
