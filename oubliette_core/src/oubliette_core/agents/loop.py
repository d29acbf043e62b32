"""An event loop in a thread of its own, for code that blocks to call."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from oubliette_core.errors import OperationCancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from oubliette_core.models import Cancel

__all__ = ["LoopThread"]

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads; starts with the first, until `close`."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def call(self, work: Coroutine[Any, Any, T], *, cancel: Cancel | None = None, subject: str = "") -> T:
        """Run a coroutine to its end and return what it returns.

        :raises OperationCancelledError: cancelled; so was the coroutine.
        """
        future = asyncio.run_coroutine_threadsafe(work, self._started())

        def give_up() -> None:
            future.cancel()

        forget = cancel.on_cancel(give_up) if cancel is not None else None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise OperationCancelledError("the work with the agent was cancelled", subject=subject) from None
        finally:
            if forget is not None:
                forget()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True)
                self._thread.start()
            return self._loop

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        try:
            loop.run_forever()
            loop.run_until_complete(_end_tasks())
        finally:
            loop.close()

    def close(self) -> None:
        """End what runs, and the thread. Idempotent."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(5.0)


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
