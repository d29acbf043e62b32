"""Pulls are shown by bars on a terminal, and by few lines elsewhere."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterable

from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.cli.output import Output
from oubliette_core.cli.progress import _Lines, pull_display
from oubliette_core.models import ProgressEvent

IMAGE = "registry.example.com/ml:v2"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _event(phase: str, layer: str = "", current: int = 0, total: int | None = None) -> ProgressEvent:
    return ProgressEvent(image=IMAGE, phase=phase, layer=layer, current=current, total=total)


PULL = (
    _event("resolving"),
    _event("waiting", "a"),
    _event("exists", "b"),
    _event("downloading", "a", 1_000_000, 4_000_000),
    _event("downloading", "a", 3_000_000, 4_000_000),
    _event("downloading", "a", 4_000_000, 4_000_000),
    _event("extracting", "a", 1, 2),
    _event("done", "a"),
    _event("done"),
)


def _shown(events: Iterable[ProgressEvent], stderr: io.StringIO) -> str:
    output = Output({}, stdin=io.StringIO(), stdout=io.StringIO(), stderr=stderr)
    with pull_display(output, Interrupts(), {IMAGE: "ml"}) as progress:
        for event in events:
            progress(event)
    return stderr.getvalue()


def test_where_nothing_can_be_drawn_a_quick_pull_is_a_few_lines() -> None:
    """A log is not filled with hundreds of lines."""
    assert (f"ml: pulling {IMAGE}\nml: downloading 3.0 MB of 4.0 MB\nml: extracting\n") == _shown(PULL, io.StringIO())


def test_a_slow_pull_says_now_and_then_how_far_it_is() -> None:
    """And at once when it has to be tried again."""
    stderr = io.StringIO()
    output = Output({}, stdin=io.StringIO(), stdout=io.StringIO(), stderr=stderr)
    seconds = 0.0
    lines = _Lines(output, {IMAGE: "ml"}, clock=lambda: seconds)
    lines(_event("resolving"))
    for second in range(12):
        seconds = float(second)
        lines(_event("downloading", "a", second * 1_000_000, 12_000_000))
    lines(ProgressEvent(image=IMAGE, phase="retrying", detail="timed out; next attempt in 1 s"))
    lines(ProgressEvent(image=IMAGE, phase="retrying", detail="timed out; next attempt in 1 s"))
    lines(ProgressEvent(image=IMAGE, phase="retrying", detail="timed out; next attempt in 2 s"))

    assert [
        f"ml: pulling {IMAGE}",
        "ml: downloading 5.0 MB of 12.0 MB",
        "ml: downloading 10.0 MB of 12.0 MB",
        "ml: retrying (timed out; next attempt in 1 s)",
        "ml: retrying (timed out; next attempt in 2 s)",
    ] == stderr.getvalue().splitlines()


def test_on_a_terminal_there_is_a_bar_which_is_gone_at_the_end() -> None:
    """The outcome is printed by whoever knows it."""
    shown = _shown(PULL, _Terminal())

    assert "ml" in shown
    assert shown.endswith("\x1b[?25h")


def test_the_name_of_an_image_is_no_markup_and_no_escape_sequence() -> None:
    """References come from a configuration that others may have written."""
    event = ProgressEvent(image="[red]\x1b[2Jx", phase="resolving")

    assert "pulling [red]\\x1b[2Jx\n" == _shown([event], io.StringIO())
    assert "[red]\\x1b[2Jx" in _shown([event], _Terminal())


def test_rich_is_loaded_for_bars_only() -> None:
    """It costs more than the command itself."""
    program = """
import io, sys
from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.cli.output import Output
from oubliette_core.cli.progress import pull_display
output = Output({}, stdin=io.StringIO(), stdout=io.StringIO(), stderr=io.StringIO())
with pull_display(output, Interrupts(), {}):
    print("rich" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert "False\n" == done.stdout
