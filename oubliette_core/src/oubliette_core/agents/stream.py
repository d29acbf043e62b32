"""Streamed text: many small parts become few events, and no secret gets through because it came in two parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from oubliette_core.config.redaction import Redactor
    from oubliette_core.services.records import EventKind

__all__ = ["TextStream"]

_SECONDS = 0.1
_ENOUGH = 4096
_LONGEST = 32 * 1024


class TextStream:
    """Gathers the parts of messages and thoughts for a moment. To be used in one event loop.

    :param emit: takes a text that is whole for now.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, redact: Redactor, emit: Callable[[EventKind, str], None]
    ) -> None:
        self._loop = loop
        self._redact = redact
        self._emit = emit
        self._kind: EventKind | None = None
        self._parts: list[str] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, kind: EventKind, text: str) -> None:
        """Take a part; parts of one kind are one text until something else comes."""
        if kind is not self._kind:
            self.end()
        self._kind = kind
        self._parts.append(text)
        self._size += len(text)
        if self._size >= _ENOUGH:
            self._flush(more=True)
        elif self._timer is None:
            self._timer = self._loop.call_later(_SECONDS, self._flush)

    def end(self) -> None:
        """Emit what is there: what comes next is something else."""
        self._flush(more=False)
        self._kind = None

    def _flush(self, *, more: bool = True) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        text = "".join(self._parts)
        kept = self._redact.unfinished(text) if more else 0
        text, rest = text[: len(text) - kept], text[len(text) - kept :]
        self._parts, self._size = [rest] if rest else [], len(rest)
        text = self._redact(text)
        for start in range(0, len(text), _LONGEST):
            if self._kind is not None:
                self._emit(self._kind, text[start : start + _LONGEST])
