"""Ctrl-C, SIGTERM and SIGHUP: the first asks the work to stop, and the command ends within two seconds in any case."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Self

import attrs

from oubliette_core.cli.boundary import INTERRUPTED

if TYPE_CHECKING:
    from oubliette_core.models import Cancel

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE = 1.2
"""Seconds that the work has to stop by itself."""
_SAME = 0.2
"""Seconds within which two signals are one request: ``timeout`` sends its signal to the child and to its group."""


@attrs.define
class _Absorbed:
    """A Ctrl-C that is to do something else. Two threads hear of it, in either order."""

    act: Callable[[], None]
    handled: bool = False
    watched: bool = False


class Interrupts:
    """Handles the signals that ask a command to stop, for as long as it is entered.

    Work that can be cancelled runs inside of `cancellable`; any other is left by `KeyboardInterrupt`. A thread reads
    the signals from a pipe, because Python runs no handler while the main thread is in a call that does not return,
    such as a name look-up.
    """

    def __init__(self) -> None:
        self.fired = False
        self._first = 0.0
        self._timer: threading.Timer | None = None
        self._cancel: Cancel | None = None
        self._absorbed: _Absorbed | None = None
        self._restores: list[Callable[[], None]] = []
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # Only the main thread may handle signals, and what the caller ignores (nohup) stays ignored.
        if threading.current_thread() is threading.main_thread():
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            threading.Thread(target=self._watch, args=(reader,), name="oubliette-signals", daemon=True).start()
            self._undo.callback(os.close, writer)
            self._undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writer, warn_on_full_buffer=False))
            for number in _SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._undo.callback(signal.signal, number, signal.signal(number, self._handle))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()
        if self._timer is not None:
            self._timer.cancel()

    @contextlib.contextmanager
    def cancellable(self) -> Iterator[Cancel]:
        """Give what the work has to listen to; once it was asked to stop, end in `KeyboardInterrupt`."""
        from oubliette_core.models import Cancel  # noqa: PLC0415 - help needs no models

        self._cancel = Cancel()
        try:
            yield self._cancel
        finally:
            self._cancel = None
        if self.fired:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def absorbing(self, act: Callable[[], None]) -> Iterator[None]:
        """Have the next Ctrl-C do something else than end the command; one after that ends it all the same.

        :param act: called in a thread, within the block.
        """
        self._absorbed = _Absorbed(act)
        try:
            yield
        finally:
            self._absorbed = None

    @contextlib.contextmanager
    def restoring(self, restore: Callable[[], None]) -> Iterator[None]:
        """Have ``restore`` called at the end of the block, and also when the process leaves in a hurry."""
        self._restores.append(restore)
        try:
            yield
        finally:
            self._restores.remove(restore)
            restore()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        absorbed = self._absorbed
        if number == signal.SIGINT and absorbed is not None and not absorbed.handled:
            absorbed.handled = True
            return
        self.fired = True
        if self._cancel is None:
            raise KeyboardInterrupt

    def _watch(self, reader: int) -> None:
        with open(reader, "rb", buffering=0) as signals:
            while received := signals.read(64):
                asked = [number for number in received if number in _SIGNALS]
                absorbed = self._absorbed
                if signal.SIGINT in asked and absorbed is not None and not absorbed.watched:
                    absorbed.watched = True
                    asked.remove(signal.SIGINT)
                    threading.Thread(target=absorbed.act, name="oubliette-instead", daemon=True).start()
                if asked:
                    self._stop()

    def _stop(self) -> None:
        now = time.monotonic()
        if self._first:
            if now - self._first > _SAME:
                self._leave()
            return
        self._first, self.fired = now, True
        self._timer = threading.Timer(_GRACE, self._leave)
        self._timer.daemon = True
        self._timer.start()
        cancel = self._cancel
        if cancel is not None:
            # What cancels may take its time; the next signal is read meanwhile.
            threading.Thread(target=cancel.cancel, name="oubliette-cancel", daemon=True).start()

    def _leave(self) -> None:
        for restore in reversed(self._restores):
            with contextlib.suppress(Exception):
                restore()
        with contextlib.suppress(OSError):
            os.write(2, b"\nInterrupted.\n")
        os._exit(INTERRUPTED)
