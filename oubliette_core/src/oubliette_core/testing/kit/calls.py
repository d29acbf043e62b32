"""Calls that end, whatever the runtime under test does: a kit that hangs reports nothing.

Waiting is for events, with an upper bound; nothing here sleeps for a fixed time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar, cast

__all__ = ["SLACK", "CallerError", "NeverEndedError", "Pending", "bounded", "eventually", "start", "together"]

ResultT = TypeVar("ResultT")

SLACK = 1.0
"""Seconds that a call may take longer than promised: the machine that runs the kit has other things to do."""
_LOOK_EVERY = 0.02


class NeverEndedError(AssertionError):
    """A call did not end within its time; the thread that is in it is left behind."""


class CallerError(Exception):
    """What the kit's own callbacks raise, to see where it goes."""


class Pending(Generic[ResultT]):
    """A call that runs in a thread of its own, from construction on.

    :param what: names the call in the message when it does not end.
    """

    def __init__(self, call: Callable[[], ResultT], what: str) -> None:
        self._call = call
        self._what = what
        self._result: ResultT | None = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        # A daemon, so that a runtime that hangs cannot keep the interpreter from exiting.
        self._thread = threading.Thread(target=self._run, name=f"kit-{what}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            self._error = error
        finally:
            self._ended.set()

    @property
    def ended(self) -> bool:
        """Whether the call has returned or raised."""
        return self._ended.is_set()

    def result(self, within: float) -> ResultT:
        """Return what the call returned, or raise what it raised.

        :raises NeverEndedError: it had not ended after ``within`` seconds.
        """
        if not self._ended.wait(within):
            raise NeverEndedError(f"{self._what} did not end within {within:g} s")
        self._thread.join()
        if self._error is not None:
            raise self._error
        return cast("ResultT", self._result)

    def outcome(self, within: float) -> ResultT | Exception:
        """Return what the call returned, or the error that it raised.

        :raises NeverEndedError: it had not ended after ``within`` seconds.
        """
        try:
            return self.result(within)
        except NeverEndedError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            return error


def start(call: Callable[[], ResultT], what: str = "a call") -> Pending[ResultT]:
    """Begin a call in a thread of its own."""
    return Pending(call, what)


def bounded(call: Callable[[], ResultT], within: float, what: str = "a call") -> ResultT:
    """Make a call that must end within so many seconds.

    :raises NeverEndedError: it did not.
    """
    return Pending(call, what).result(within)


def together(calls: Sequence[Callable[[], ResultT]], within: float = 60.0) -> list[ResultT | Exception]:
    """Make calls at the same moment; give what each returned or raised, in their order."""
    barrier = threading.Barrier(len(calls))

    def after_all_are_there(call: Callable[[], ResultT]) -> Callable[[], ResultT]:
        def run() -> ResultT:
            barrier.wait(within)
            return call()

        return run

    pending = [start(after_all_are_there(call), f"call {number}") for number, call in enumerate(calls)]
    return [one.outcome(within) for one in pending]


def eventually(look: Callable[[], ResultT], within: float = 10.0) -> ResultT:
    """Look until there is something to see, for at most ``within`` seconds; give what was seen last."""
    deadline = time.monotonic() + within
    while True:
        seen = look()
        if seen or time.monotonic() > deadline:
            return seen
        time.sleep(_LOOK_EVERY)
