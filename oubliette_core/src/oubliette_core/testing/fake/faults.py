"""What tests script and look at: faults that are to happen, gates that hold calls up, and the calls that came in."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import OperationTimeoutError, RuntimeLostError, RuntimeUnavailableError

if TYPE_CHECKING:
    from oubliette_core.models import Cancel

__all__ = ["Calls", "Fault", "Faults", "Gate", "Switchboard", "renewed"]


def renewed(error: BaseException) -> BaseException:
    """Return a fresh exception of the same class with the same data, so that no two callers share a traceback."""
    again = copy.copy(error)
    again.__traceback__ = again.__context__ = again.__cause__ = None
    return again


class Switchboard:
    """Whether the engine is there, and one place for all calls to wait in.

    :ivar deadline: seconds that a call may hang before it fails, as the contract asks of every engine call.
    """

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.deadline = 30.0
        self.changed = threading.Condition()
        self._gone = False
        self._watchers: list[Callable[[], None]] = []

    @property
    def gone(self) -> bool:
        """Whether the engine has gone away."""
        return self._gone

    def watch(self, function: Callable[[], None]) -> Callable[[], None]:
        """Have ``function`` called when the engine goes away or comes back; returns what takes that back."""
        with self.changed:
            self._watchers.append(function)
        return lambda: self._watchers.remove(function)

    def turn(self, *, gone: bool) -> None:
        """Let the engine go away, or come back."""
        with self.changed:
            self._gone = gone
            self.changed.notify_all()
        for function in list(self._watchers):
            function()

    def wake(self) -> None:
        """Let everyone who waits look again."""
        with self.changed:
            self.changed.notify_all()

    def wait(self, ready: Callable[[], bool], *, cancel: Cancel | None = None, timeout: float | None = None) -> bool:
        """Wait until ``ready``; False when cancelled, gone or too late."""
        forget = cancel.on_cancel(self.wake) if cancel is not None else None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with self.changed:
                while not ready():
                    left = None if deadline is None else deadline - time.monotonic()
                    if self._gone or (cancel is not None and cancel.cancelled) or (left is not None and left <= 0):
                        return False
                    self.changed.wait(left)
                return True
        finally:
            if forget is not None:
                forget()

    def unavailable(self) -> RuntimeUnavailableError:
        """Return the error of a call that found no engine."""
        return RuntimeUnavailableError(
            "the fake engine is not running", runtime=self.name, hint="Let it come back: engine.come_back()"
        )

    def lost(self, subject: str, stdout: bytes = b"", stderr: bytes = b"") -> RuntimeLostError:
        """Return the error of a call in the middle of which the engine went away."""
        return RuntimeLostError(
            f"the fake engine went away while it worked on {subject}",
            runtime=self.name, subject=subject, stdout=stdout, stderr=stderr,
        )  # fmt: skip


class Gate:
    """Holds calls up until it is released.

    :ivar reached: set once a call waits here.
    """

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._released = False
        self.reached = threading.Event()

    def release(self) -> None:
        """Let the calls that wait here, and those that come later, go on."""
        with self._board.changed:
            self._released = True
            self._board.changed.notify_all()

    def wait(self, *, cancel: Cancel | None = None, timeout: float | None = None) -> bool:
        """Wait for the release; False when cancelled, when the engine has gone or after ``timeout`` seconds."""
        self.reached.set()
        return self._board.wait(lambda: self._released, cancel=cancel, timeout=timeout)


@attrs.define(kw_only=True)
class Fault:
    """One fault that is to happen. Made by `Faults.add`.

    :ivar gate: holds the call up; `Fault.release` lets it go on. :ivar reached: set once a call waits.
    """

    hook: str
    error: BaseException | None
    on_call: int | None
    left: int | None
    after: int | None
    delay: float
    gate: Gate | None = None

    @property
    def reached(self) -> threading.Event:
        """Set once a call hangs."""
        assert self.gate is not None, "this fault does not hang"
        return self.gate.reached

    def release(self) -> None:
        """Let the calls that hang go on."""
        if self.gate is not None:
            self.gate.release()


class Faults:
    """The faults that are to happen."""

    def __init__(self, board: Switchboard) -> None:
        self._board = board
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(
        self,
        hook: str,
        *,
        error: BaseException | None = None,
        on_call: int | None = None,
        times: int | None = 1,
        hang: bool = False,
        after: int | None = None,
        delay: float = 0.0,
    ) -> Fault:
        """Script a fault.

        :param hook: name of the hook it happens in. :param error: what is raised (a fresh copy each time).
        :param on_call: only in the call of this number, counted from 1 over the engine's life.
        :param times: how often; None for always. :param hang: hold the call up until released, cancelled or the
            engine's deadline (`OperationTimeoutError`).
        :param after: break the connection (`RuntimeLostError`) after so many bytes of an exec's, a log's or an
            archive's output, or so many events of a pull.
        :param delay: seconds before each chunk of a log.
        """
        gate = Gate(self._board) if hang else None
        fault = Fault(hook=hook, error=error, on_call=on_call, left=times, after=after, delay=delay, gate=gate)
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Take back everything that was scripted, and release what hangs."""
        with self._lock:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def take(self, hook: str, number: int) -> Fault | None:
        """Return the fault that happens in call ``number`` of a hook, if there is one."""
        with self._lock:
            for fault in self._faults:
                if fault.hook == hook and fault.left != 0 and fault.on_call in (None, number):
                    fault.left = None if fault.left is None else fault.left - 1
                    return fault
        return None

    def enter(self, fault: Fault | None, subject: str, cancel: Cancel | None) -> bool:
        """Let the beginning of a call fail or hang as scripted; False when it was cancelled meanwhile.

        :raises OperationTimeoutError: it hung for longer than the deadline.
        """
        if fault is None:
            return True
        if fault.gate is not None and not fault.gate.wait(cancel=cancel, timeout=self._board.deadline):
            if self._board.gone:
                raise self._board.lost(subject)
            if cancel is not None and cancel.cancelled:
                return False
            raise OperationTimeoutError(
                f"{fault.hook} did not end within {self._board.deadline:g} s",
                operation=fault.hook, timeout=self._board.deadline, runtime=self._board.name, subject=subject,
            )  # fmt: skip
        if fault.error is not None:
            raise renewed(fault.error)
        return True


class Calls(Mapping[str, int]):
    """How often each hook was called: ``calls["pull"]``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._arguments: dict[str, list[dict[str, Any]]] = {}

    def note(self, hook: str, arguments: dict[str, Any]) -> int:
        """Count a call; returns its number."""
        with self._changed:
            made = self._arguments.setdefault(hook, [])
            made.append(arguments)
            self._changed.notify_all()
            return len(made)

    def of(self, hook: str) -> tuple[dict[str, Any], ...]:
        """Return the arguments of each call of a hook."""
        with self._changed:
            return tuple(self._arguments.get(hook, ()))

    def wait_for(self, hook: str, count: int = 1, *, timeout: float = 10.0) -> bool:
        """Wait until a hook has been called so often; False after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self[hook] >= count, timeout)

    def clear(self) -> None:
        """Forget all calls."""
        with self._changed:
            self._arguments.clear()

    def __getitem__(self, hook: str) -> int:
        return len(self._arguments.get(hook, ()))

    def __iter__(self) -> Any:
        return iter(tuple(self._arguments))

    def __len__(self) -> int:
        return len(self._arguments)
