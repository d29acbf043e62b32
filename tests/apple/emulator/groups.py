"""The groups `network` and `volume`."""

from collections.abc import Callable
from typing import Any

from tests.apple.emulator import views
from tests.apple.emulator.context import SPACE, Context
from tests.apple.emulator.failures import Failure
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.specs import labels


class _Group:
    """Things of one kind: their records are in the state, the things themselves in the engine."""

    def __init__(self, kind: str, exists: str, path: str) -> None:
        self._kind = kind
        self._exists = exists
        self._path = path

    def create(self, context: Context, parsed: Parsed) -> None:
        """`create`: prints the name."""
        name = parsed.words[0]
        record = {"labels": labels(parsed)}
        if name in context.state.require_service()[self._kind] or (self._kind, name) == ("networks", "default"):
            raise Failure("exists", self._exists.format(name))
        wanted: dict[str, Any] = {"Name": context.engine_name(name), "Labels": {SPACE: context.settings.space}}
        if parsed.flag("internal"):
            wanted["Internal"] = True
        context.engine.call("POST", f"/{self._path}/create", wanted)
        with context.state.change() as data:
            data[self._kind][name] = record
        context.out(name)

    def delete(self, context: Context, parsed: Parsed) -> None:
        """`delete`: prints the names."""
        known = context.state.require_service()[self._kind]
        names = list(known) if parsed.flag("all") else parsed.words
        if "default" in names and self._kind == "networks":
            raise Failure("invalidArgument", "cannot delete a builtin network: default")
        if missing := [name for name in names if name not in known]:
            raise Failure("notFound", f"failed to delete one or more {self._kind}: {_shown(missing)}")
        if used := [name for name in names if not self._delete(context, name)]:
            raise Failure("internalError", f"delete failed for one or more {self._kind}: {_shown(used)}")

    def _delete(self, context: Context, name: str) -> bool:
        try:
            context.engine.call("DELETE", f"/{self._path}/{context.engine_name(name)}")
        except EngineError as error:
            if error.status != 404:
                context.err(f"{self._kind[:-1]} '{name}' is currently in use: {error.text}")
                return False
        with context.state.change() as data:
            data[self._kind].pop(name, None)
        context.out(name)
        return True

    def listed(self, context: Context, parsed: Parsed) -> None:
        """`list`."""
        known: dict[str, Any] = context.state.require_service()[self._kind]
        if parsed.text("format") == "json":
            items = [{"id": name, "configuration": {"name": name, **record}} for name, record in known.items()]
            context.document(items)
        elif parsed.flag("quiet"):
            for name in sorted(known):
                context.out(name)
        else:
            views.table(context, ("NAME",), [[name] for name in sorted(known)])


def _shown(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


_networks = _Group("networks", "network {} already exists", "networks")
_volumes = _Group("volumes", "volume '{}' already exists", "volumes")
COMMANDS: dict[tuple[str, ...], Callable[[Context, Parsed], None]] = {
    ("network", "create"): _networks.create,
    ("network", "delete"): _networks.delete,
    ("network", "list"): _networks.listed,
    ("volume", "create"): _volumes.create,
    ("volume", "delete"): _volumes.delete,
    ("volume", "list"): _volumes.listed,
}
