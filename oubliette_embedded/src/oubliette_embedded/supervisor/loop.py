"""Waiting for whatever happens first."""

from __future__ import annotations

import os
from collections.abc import Callable
from select import POLLIN, poll

from oubliette_embedded.supervisor.inside import apart

__all__ = ["Loop", "wait_readable"]


class Loop:
    """Calls a function when there is something to read at a descriptor, or when it has ended."""

    def __init__(self) -> None:
        self._poll = poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Call ``handler`` each time."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, POLLIN)

    def forget(self, descriptor: int) -> None:
        """Stop that, before the descriptor is closed."""
        del self._handlers[descriptor]
        self._poll.unregister(descriptor)

    def turn(self, seconds: float | None) -> None:
        """Wait for at most so long, and call whom it concerns."""
        ready = self._poll.poll(None if seconds is None else seconds * 1000)
        calls = [(descriptor, self._handlers[descriptor]) for descriptor, _ in ready]
        for descriptor, handler in calls:
            # An earlier one may have closed the descriptor, and another have its number by now.
            if self._handlers.get(descriptor) is handler:
                _call(handler)

    def in_background(self, work: Callable[[], None]) -> None:
        """Do something in a process of its own, so that nothing has to wait for it."""
        pid = apart(work)
        watched = os.pidfd_open(pid)

        def reap() -> None:
            self.forget(watched)
            os.close(watched)
            os.waitpid(pid, 0)

        self.watch(watched, reap)


def _call(handler: Callable[[], None]) -> None:
    """Call a handler; what goes wrong with one client must not end the container, and is only noted."""
    try:
        handler()
    except Exception:  # noqa: BLE001 - see above
        import traceback  # noqa: PLC0415 - costs more than all else that is imported here

        traceback.print_exc()


def wait_readable(descriptor: int, seconds: float | None = None) -> bool:
    """Wait for one descriptor; False when nothing came in time."""
    waiting = poll()
    waiting.register(descriptor, POLLIN)
    return bool(waiting.poll(None if seconds is None else seconds * 1000))
