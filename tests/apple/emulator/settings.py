"""What an emulator is told by the test that uses it, and what it tells the test.

A folder holds `settings.json`, `faults.json`, the records of the calls, and the state.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from tests.apple.emulator.files import locked, write
from tests.apple.emulator.profiles import Profile


class Settings:
    """The settings of one emulator.

    :ivar engine: address of the engine that runs containers. :ivar space: marks everything made in the engine.
    :ivar hosts: registries that stand for others, such as `docker.io`, all on loopback addresses.
    :ivar lag: seconds by which the record of a foreground container is late. :ivar retry: seconds between two
        attempts to reach a registry.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        given = json.loads((folder / "settings.json").read_bytes())
        self.profile = Profile(given["profile"])
        self.engine: str = given["engine"]
        self.space: str = given["space"]
        self.hosts: dict[str, str] = given.get("hosts", {})
        self.lag: float = given.get("lag", 0.0)
        self.retry: float = given.get("retry", 1.0)
        self.faults = Faults(folder)

    def record(self, argv: list[str]) -> None:
        """Write down this call, with its whole environment."""
        line = json.dumps({"argv": argv, "env": dict(os.environ)}) + "\n"
        number = os.open(self.folder / "calls.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(number, line.encode("utf-8", "surrogateescape"))
        finally:
            os.close(number)


class Faults:
    """What shall go wrong: a fault has a name and a value; a number counts how often it still happens."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "faults.json"

    def get(self, name: str) -> Any:
        """The value of a fault that stays; None without it."""
        try:
            return json.loads(self._path.read_bytes()).get(name)
        except FileNotFoundError:
            return None

    def take(self, name: str) -> bool:
        """Whether a fault happens now; one that is counted happens once less from then on."""
        if not self.get(name):
            return False
        with locked(self._path.with_suffix(".lock")):
            faults = json.loads(self._path.read_bytes())
            left = faults.get(name)
            if left is not True and left:
                faults[name] = left - 1
                write(self._path, faults)
            return bool(left)

    def hang(self, point: str) -> None:
        """Wait for ever when this point was told to hang, as a service does that does not answer."""
        if self.take(f"hang:{point}"):
            while True:
                time.sleep(3600)
