"""Showing how pulls get on: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.cli.output import Output
from oubliette_core.cli.text import printable, size
from oubliette_core.models import ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_INTERVAL = 5.0
"""Seconds between two lines about one image where nothing can be drawn in place."""
_SHOW_CURSOR = "\x1b[?25h"
_DOWNLOADED = frozenset({"verifying", "extracting", "exists", "done"})


@attrs.define
class _Image:
    """What is known of one pull. Layers: phase, bytes done, bytes in all."""

    layers: dict[str, tuple[str, int, int]] = attrs.field(factory=dict)
    last: ProgressEvent | None = None
    shown: float = 0.0
    told: set[str] = attrs.field(factory=set)

    def take(self, event: ProgressEvent) -> None:
        """Take an event into account."""
        self.last = event
        if not event.layer:
            return
        _, done, total = self.layers.get(event.layer, ("", 0, 0))
        if event.phase == "downloading":
            done, total = event.current, max(total, event.total or 0, event.current)
        elif event.phase in _DOWNLOADED:
            done = total
        self.layers[event.layer] = (event.phase, done, total)

    @property
    def done(self) -> int:
        return sum(done for _, done, _ in self.layers.values())

    @property
    def total(self) -> int:
        return sum(total for _, _, total in self.layers.values())

    @property
    def is_sized(self) -> bool:
        """Whether no layer is left whose size is not known yet."""
        return not any(phase == "waiting" for phase, _, _ in self.layers.values())

    @property
    def activity(self) -> str:
        """What is being done: to the whole, if that was said last, otherwise to what is furthest from its end."""
        if self.last is None or not self.last.layer:
            return self.last.phase if self.last else ""
        phases = {phase for phase, _, _ in self.layers.values()}
        furthest = (phase for phase in ("retrying", "downloading", "extracting", "verifying") if phase in phases)
        return next(furthest, self.last.phase)

    def __str__(self) -> str:
        if self.activity == "downloading" and self.total:
            return f"downloading {size(self.done)} of {size(self.total)}"
        # Why it is tried again, or who is waited for.
        if self.last is not None and self.last.detail and self.activity == self.last.phase in ("retrying", "waiting"):
            return f"{self.activity} ({self.last.detail})"
        return self.activity


@contextlib.contextmanager
def pull_display(
    output: Output, interrupts: Interrupts, names: Mapping[str, str] = MappingProxyType({})
) -> Iterator[ProgressCallback]:
    """Show pulls while the block runs.

    :param names: what to call an image, by its reference. :returns: what takes the events, from any thread.
    """
    if not output.live:
        yield _Lines(output, names)
        return
    from rich.console import Console  # noqa: PLC0415 - Rich is heavy, and only bars need it
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    bars = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
        TextColumn("{task.fields[activity]}", markup=False),
        TimeElapsedColumn(),
        console=Console(file=output.stderr),
        transient=True,
    )
    with interrupts.restoring(lambda: _show_cursor(output)), bars:
        yield _Bars(bars, names)


def _show_cursor(output: Output) -> None:
    output.stderr.write(_SHOW_CURSOR)
    output.stderr.flush()


class _Lines:
    """Says what is being done to each image, and how far a download is every few seconds."""

    def __init__(self, output: Output, names: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self._output, self._names, self._clock = output, names, clock
        self._images: dict[str, _Image] = {}
        self._lock = threading.Lock()

    def __call__(self, event: ProgressEvent) -> None:
        with self._lock:
            if event.image not in self._images:
                self._images[event.image] = _Image(shown=self._clock())
                name = self._names.get(event.image)
                self._output.note(f"{name}: pulling {event.image}" if name else f"pulling {event.image}")
            image = self._images[event.image]
            image.take(event)
            ended = event.phase == "done" and not event.layer
            # The end is told by whoever started the pull, and knows how it went.
            if not ended and self._due(image):
                image.shown = self._clock()
                image.told.add(str(image) if image.activity == "retrying" else image.activity)
                self._output.note(f"{self._names.get(event.image, event.image)}: {image}")

    def _due(self, image: _Image) -> bool:
        """Tell whether something is to be said: of a download halfway, of each trouble, and now and then."""
        halfway = image.activity == "downloading" and image.is_sized and 2 * image.done >= image.total > 0
        news = halfway or image.activity in ("extracting", "retrying")
        told = {image.activity, str(image)} & image.told
        return (news and not told) or self._clock() - image.shown >= _INTERVAL


class _Bars:
    """Keeps one bar for each image."""

    def __init__(self, bars: Progress, names: Mapping[str, str]) -> None:
        self._bars, self._names = bars, names
        self._images: dict[str, tuple[TaskID, _Image]] = {}
        self._lock = threading.Lock()

    def __call__(self, event: ProgressEvent) -> None:
        with self._lock:
            if event.image not in self._images:
                name = printable(self._names.get(event.image, event.image))
                task = self._bars.add_task(name, total=None, activity="")
                self._images[event.image] = (task, _Image())
            task, image = self._images[event.image]
            image.take(event)
            # Without a total the bar only pulses.
            total = image.total or None
            self._bars.update(task, completed=image.done, total=total, activity=str(image))
