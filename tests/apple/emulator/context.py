"""What every command of the emulator works with."""

import json
import os
import random
import re
import sys
import time
from typing import Any

from tests.apple.emulator.failures import Failure
from tests.apple.emulator.http import Engine, EngineError
from tests.apple.emulator.profiles import Profile
from tests.apple.emulator.settings import Settings
from tests.apple.emulator.state import Record, State
from tests.apple.emulator.store import Store

SPACE = "dev.oubliette.emulator"
"""Label of everything in the engine that belongs to an emulator."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_UNQUOTED = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"


class Context:
    """One call of the command."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.profile: Profile = settings.profile
        self.faults = settings.faults
        self.state = State(settings.folder)
        self.store = Store(settings.folder)
        self.engine = Engine(settings.engine)

    def out(self, line: str) -> None:
        """Write a line to standard output."""
        sys.stdout.write(line + "\n")

    def err(self, line: str) -> None:
        """Write a line to standard error."""
        sys.stdout.flush()
        os.write(2, line.encode() + b"\n")

    def engine_name(self, name: str) -> str:
        """The name in the engine of a container, volume or network."""
        return f"emulator-{self.settings.space}-{name}"

    def document(self, value: Any, *, pretty: bool = False) -> None:
        """Print a value as JSON: keys in order and readable only from 1.0 on, and every slash escaped."""
        text = _pretty(value) if pretty and self.profile.at_least(1, 0) else _compact(value)
        garbage = "\nfatal: unexpected trailing output" if self.faults.take("garbage") else ""
        self.out(text + garbage)

    def containers(self) -> dict[str, Record]:
        """Return the containers, with the state that they have now."""
        self.state.require_service()
        found = self.state.containers()
        running = [
            name
            for name, record in found.items()
            if record["state"] == "running" and time.time() > record.get("late", 0)
        ]
        if not running or self.faults.get("stuck-running"):
            return found
        labels = f'{{"label":["{SPACE}={self.settings.space}"],"status":["running"]}}'
        alive = {
            name
            for item in self.engine.call("GET", f"/containers/json?filters={quote(labels)}")
            for name in item["Names"]
        }
        ended = {name: found[name]["boot"] for name in running if f"/{self.engine_name(name)}" not in alive}
        return self._ended(ended) if ended else found

    def _ended(self, ended: dict[str, int]) -> dict[str, Record]:
        removed = []
        with self.state.change() as data:
            for name, boot in ended.items():
                record = data["containers"].get(name)
                if not record or record["boot"] != boot:
                    continue
                record["state"] = "stopped"
                if record["rm"]:
                    del data["containers"][name]
                    removed.append(name)
        for name in removed:
            self.remove(name)
        return self.state.containers()

    def remove(self, name: str) -> None:
        """Remove a container from the engine, or wait until another call has."""
        while True:
            try:
                self.engine.call("DELETE", f"/containers/{self.engine_name(name)}?force=1&v=1")
                return
            except EngineError as error:
                if error.status == 404:
                    return
                if error.status != 409 or "already in progress" not in error.text:
                    raise
            time.sleep(0.03)

    def container(self, name: str) -> Record | None:
        """Return a container by its whole id; None where there is none."""
        return self.containers().get(name)

    def shuffled(self, items: list[Any]) -> list[Any]:
        """The items in an order that nobody can rely on."""
        return random.sample(items, len(items))

    def check_name(self, name: str) -> None:
        """Refuse what cannot be the id of a container."""
        if self.profile.at_least(1, 2) and len(name) > 63:
            raise Failure("invalidArgument", f"container ID {name} is not a valid container ID")
        if not _NAME.fullmatch(name):
            text = f"container ID {name} is not a valid container ID"
            raise Failure("invalidArgument", text if self.profile.at_least(1, 2) else f"invalid entity name {name}")


def quote(text: str) -> str:
    """Escape a value in a query."""
    return "".join(chr(byte) if chr(byte) in _UNQUOTED else f"%{byte:02X}" for byte in text.encode())


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True).replace("/", "\\/")


def _pretty(value: Any, depth: int = 0) -> str:
    inner = "  " * (depth + 1)
    if isinstance(value, (dict, list)) and not value:
        start, end = ("{", "}") if isinstance(value, dict) else ("[", "]")
        return f"{start}\n\n{'  ' * depth}{end}"
    if isinstance(value, dict):
        lines = [f"{inner}{_compact(key)} : {_pretty(value[key], depth + 1)}" for key in sorted(value)]
        return "{\n" + ",\n".join(lines) + f"\n{'  ' * depth}}}"
    if isinstance(value, list):
        lines = [f"{inner}{_pretty(item, depth + 1)}" for item in value]
        return "[\n" + ",\n".join(lines) + f"\n{'  ' * depth}]"
    return _compact(value)
