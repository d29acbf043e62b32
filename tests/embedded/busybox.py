"""A busybox for tests that need no engine: the machine's, or one that is fetched, which takes no root."""

from __future__ import annotations

from pathlib import Path

import pytest

from oubliette_core.testing.images import BusyboxNotFoundError, find_busybox
from tests.engine.packages import PackagesUnavailableError, apt_is_here, unpacked


def busybox_or_skip() -> Path:
    """Find a statically linked busybox, or skip the test with the reason."""
    try:
        return find_busybox()
    except BusyboxNotFoundError as error:
        missing = str(error)
    if not apt_is_here():
        pytest.skip(missing)
    try:
        return find_busybox(unpacked(("busybox-static",)).find("busybox"))
    except (PackagesUnavailableError, OSError, BusyboxNotFoundError) as error:
        pytest.skip(f"{missing} It cannot be fetched, either: {error}")
