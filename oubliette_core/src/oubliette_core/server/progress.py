"""Progress of a call, from the thread that works to the client that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable

import anyio
import attrs

from oubliette_core.models import ProgressEvent

_INTERVAL = 0.25
_HEARTBEAT = 5.0
_LONGEST_MESSAGE = 8192
_OVER = {"done", "exists"}

Send = Callable[[float, float | None, str], Awaitable[None]]
"""Takes progress, total where known, and a message."""


@attrs.define(kw_only=True)
class _Layer:
    current: int = 0
    total: int = 0
    over: bool = False


class Reporter:
    """Sums up the events of a pull, and tells the client at most four times a second.

    The protocol wants progress that only ever rises, and layers are found, fail and begin again: what is sent is the
    most that was reached. A call without such events tells every few seconds for how long it has been at work.

    :param name: of the tool. :param send: sends one message to the client.
    """

    def __init__(self, name: str, send: Send) -> None:
        self._name = name
        self._send = send
        self._lock = threading.Lock()
        self._layers: dict[str, _Layer] = {}
        self._image = ""
        self._phase = ""
        self._detail = ""
        self._news = False
        self._said: list[str] = []
        self._reached = 0.0
        self._began = self._told = time.monotonic()

    def report(self, event: ProgressEvent) -> None:
        """Take an event. May be called from any thread; returns at once."""
        with self._lock:
            self._news = True
            self._image, self._phase, self._detail = event.image, event.phase, event.detail
            if event.layer:
                layer = self._layers.setdefault(event.layer, _Layer())
                layer.over = event.phase in _OVER
                if event.phase == "downloading":
                    layer.current, layer.total = event.current, event.total or layer.total
                elif layer.over or event.phase in ("verifying", "extracting"):
                    layer.current = layer.total

    def say(self, line: str) -> None:
        """Take a line of text, which is passed on as it is. May be called from any thread; returns at once."""
        with self._lock:
            self._said.append(line)

    async def run(self) -> None:
        """Send what there is to tell, until cancelled."""
        while True:
            await anyio.sleep(_INTERVAL)
            await self.tell()

    async def tell(self) -> None:
        """Send what is new, if anything is, or that time passes."""
        for message in self._messages():
            self._told = time.monotonic()
            await self._send(*message)

    def _messages(self) -> list[tuple[float, float | None, str]]:
        messages: list[tuple[float, float | None, str]] = []
        with self._lock:
            if self._news:
                self._news = False
                messages.append(self._of_pull())
            if self._said:
                said, self._said = self._said, []
                messages.append((self._risen(self._reached + len(said)), None, _end_of("\n".join(said))))
        if not messages and time.monotonic() - self._told >= _HEARTBEAT:
            seconds = time.monotonic() - self._began
            messages.append((self._risen(seconds), None, f"{self._name}: at work for {seconds:.0f} s"))
        return messages

    def _of_pull(self) -> tuple[float, float | None, str]:
        current = sum(layer.current for layer in self._layers.values())
        total = sum(layer.total for layer in self._layers.values())
        over = sum(layer.over for layer in self._layers.values())
        message = f"{self._image}: {self._phase}"
        if self._layers:
            message += f", {over} of {len(self._layers)} layers, {current / 1e6:.1f} of {total / 1e6:.1f} MB"
        if self._phase in ("retrying", "waiting") and self._detail:
            message += f" ({self._detail})"
        reached = self._risen(current)
        return reached, max(float(total), reached) if total else None, message

    def _risen(self, value: float) -> float:
        self._reached = value if value > self._reached else self._reached + 0.001
        return self._reached


def _end_of(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else f"...{text[-_LONGEST_MESSAGE:]}"
