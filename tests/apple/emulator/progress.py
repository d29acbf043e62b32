"""The lines of progress that pull and run write."""

import os
import time


class Progress:
    """Writes at most one line a second to standard error.

    :param steps: how many there are in all. :param quiet: write nothing.
    """

    def __init__(self, steps: int, *, quiet: bool) -> None:
        self._steps = steps
        self._quiet = quiet
        self._step = 0
        self._title = ""
        self._since = time.monotonic()
        self._last = 0.0

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._step += 1
        self._title = title
        self._write("")

    @property
    def begun(self) -> bool:
        """Whether there has been a step."""
        return self._step > 0

    def amount(self, blobs: int, all_blobs: int, size: int, whole: int) -> None:
        """Tell how far a download is."""
        if time.monotonic() - self._last < 1 or not whole:
            return
        share = min(100, size * 100 // whole)
        megabytes = f"{size / 1e6:.1f}/{whole / 1e6:.1f} MB"
        self._write(f" {share}% ({blobs} of {all_blobs} blobs, {megabytes}, {size / 1e6 / self._seconds():.1f} MB/s)")

    def _seconds(self) -> float:
        return max(0.001, time.monotonic() - self._since)

    def _write(self, amount: str) -> None:
        self._last = time.monotonic()
        if not self._quiet:
            line = f"[{self._step}/{self._steps}] {self._title}{amount} [{int(self._seconds())}s]\n"
            os.write(2, line.encode())
