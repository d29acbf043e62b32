"""What the service of the emulator knows, kept in a file for all its processes."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.apple.emulator.failures import unreachable
from tests.apple.emulator.files import locked, write

Record = dict[str, Any]
"""What is known of a container: `configuration` as inspect prints it, `state`, `started`, and what is never printed."""

_EMPTY: dict[str, Any] = {"up": True, "kernel": True, "containers": {}, "images": {}, "networks": {}, "volumes": {}}


class State:
    """The state in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / "state.json"
        self._lock = folder / "state.lock"

    def read(self) -> dict[str, Any]:
        """Return the state as it is now."""
        try:
            return {**_EMPTY, **json.loads(self._path.read_bytes())}
        except FileNotFoundError:
            return json.loads(json.dumps(_EMPTY))  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Give the state to change; nobody else changes it meanwhile. Nothing is written when the block fails."""
        with locked(self._lock):
            data = self.read()
            yield data
            write(self._path, data)

    @contextlib.contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Hold the one lock that the service has for creating and booting, whichever the container."""
        with locked(self.folder / "boot.lock"):
            yield

    def require_service(self) -> dict[str, Any]:
        """Return the state, or fail as a call does when the service is down."""
        data = self.read()
        if not data["up"]:
            raise unreachable()
        return data

    def containers(self) -> dict[str, Record]:
        """Return the containers that are made; one whose maker was killed in the middle is none."""
        found = self.read()["containers"]
        return {name: record for name, record in found.items() if not record.get("maker")}


def maker_lives(record: Record) -> bool:
    """Whether the process that is making this container still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(record.get("maker") or os.getpid(), 0)
        return True
    return False


def new_id() -> str:
    """Return a random UUID in lower case."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def now() -> float:
    """Return the time, in whole seconds as the command keeps it."""
    return float(int(time.time()))
