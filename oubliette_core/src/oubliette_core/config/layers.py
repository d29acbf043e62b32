"""The layers of the configuration, laid over each other before they are checked: file, environment, command line."""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from oubliette_core.config.document import Document, Problem
from oubliette_core.config.keypath import KeyPath, format_path, parse_path
from oubliette_core.config.schema import DEFAULT_IMAGES, DEV_IMAGES, SHIPPED_AGENTS, Config, ContainerTypeConfig
from oubliette_core.models import PullPolicy

ENVIRONMENT: Mapping[str, str] = MappingProxyType(
    {
        "CONTAINER_RUNTIME": "runtime",
        "OUBLIETTE_SERVER_HOST": "server.host",
        "OUBLIETTE_SERVER_PORT": "server.port",
    }
)
"""Environment variables that stand for a setting; one that is empty counts as not set."""

_SWITCH = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


class Source(enum.StrEnum):
    """Where a value comes from, the weakest first."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"
    COMMAND_LINE = "command line"


@attrs.frozen
class Variables:
    """The environment, which does not show itself."""

    _values: Mapping[str, str] = attrs.field(repr=False)

    def get(self, name: str) -> str:
        """Return a variable's value; empty if it is not set."""
        return self._values.get(name, "")

    def words(self, name: str) -> frozenset[str]:
        """Return the names that a variable lists, with commas or spaces between them."""
        return frozenset(re.split(r"[\s,]+", self.get(name))) - {""}


@attrs.frozen(kw_only=True)
class Layers:
    """Everything that was said, as one tree in the form of the file.

    :param sources: of each value that somebody said.
    :param origins: what to name as the origin of a value that is not in the file.
    :param problems: what is wrong with the layers themselves, and with names that refer to nothing.
    """

    tree: dict[str, Any] = attrs.field(factory=dict, repr=False)
    sources: dict[KeyPath, Source] = attrs.field(factory=dict)
    origins: dict[KeyPath, str] = attrs.field(factory=dict)
    problems: list[Problem] = attrs.field(factory=list)
    dev: bool = False


def lay(document: Document, variables: Variables, overrides: Mapping[str, object]) -> Layers:
    """Lay the environment and the command line over the file."""
    tree = _full_form(document.tree)
    layers = Layers(
        tree=tree,
        sources=dict.fromkeys(_leaves(tree), Source.FILE),
        problems=list(document.problems),
        dev=_SWITCH.get(variables.get("OUBLIETTE_DEV").lower(), False),
    )
    if variables.get("OUBLIETTE_DEV") and variables.get("OUBLIETTE_DEV").lower() not in _SWITCH:
        layers.problems.append(Problem(text="the environment variable OUBLIETTE_DEV: expected 1 or 0"))
    for name, setting in ENVIRONMENT.items():
        if text := variables.get(name):
            value = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
            _put(layers, parse_path(setting), value, Source.ENVIRONMENT, f"from {name}")
    for setting, given in overrides.items():
        path = parse_path(setting)
        if path[:1] == ("credentials",):
            layers.problems.append(Problem(path=path, text="a secret has no place on a command line"))
        else:
            _put(layers, path, given, Source.COMMAND_LINE, "from the command line")
    layers.problems.extend(_dangling(tree))
    _merge_agents(tree)
    return layers


def apply_dev(config: Config, sources: dict[KeyPath, Source]) -> tuple[Config, dict[KeyPath, Source]]:
    """Turn dev mode on: nothing is pulled, and the default types are the images that were built on this machine."""
    containers = dict(config.containers)
    changed: dict[KeyPath, Source] = {("containers", name, "pull"): Source.ENVIRONMENT for name in containers}
    if not any(path[0] == "containers" for path in sources):
        containers = {name: ContainerTypeConfig(image=image) for name, image in DEV_IMAGES.items()}
        changed |= {("containers", name, "image"): Source.ENVIRONMENT for name in containers}
    never = {name: attrs.evolve(entry, pull=PullPolicy.NEVER) for name, entry in containers.items()}
    return attrs.evolve(config, containers=never), {**sources, **changed}


def problem_lines(problems: Iterable[Problem], document: Document, layers: Layers) -> Iterator[str]:
    """Yield each problem as a line for people, in the order in which they stand in the file."""
    known = list(problems)
    if not known:
        return
    positions = document.positions()
    placed = []
    for problem in known:
        around = (problem.path[:length] for length in range(len(problem.path), 0, -1))
        origin = next((layers.origins[path] for path in around if path in layers.origins), "")
        line = problem.line if problem.line or origin else positions.line_of(problem.path)
        place = origin or (f"line {line}" if line else "")
        prefix = f"{format_path(problem.path)}: " if problem.path else ""
        placed.append((line or 0, f"{prefix}{problem.text}{f' ({place})' if place else ''}"))
    yield from (text for _, text in sorted(placed, key=lambda entry: entry[0]))


def _full_form(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy in which every short form stands in full, and an empty map of container types is left out."""
    full = dict(tree)
    if full.get("containers") == {}:
        del full["containers"]
    _replace_texts(full, "containers", lambda text: {"image": text})
    _replace_texts(full, "models", _model)
    if isinstance(full.get("credentials"), dict):
        full["credentials"] = dict(full["credentials"])
        _replace_texts(full["credentials"], "providers", lambda text: {"api_key": text})
    return full


def _replace_texts(parent: dict[str, Any], key: str, full_form: Callable[[str], dict[str, str]]) -> None:
    entries = parent.get(key)
    if isinstance(entries, dict):
        parent[key] = {name: full_form(entry) if isinstance(entry, str) else entry for name, entry in entries.items()}


def _model(text: str) -> dict[str, str]:
    provider, slash, model = text.partition("/")
    return {"provider": provider, "model": model} if slash else {"model": text}


def _leaves(value: object, path: KeyPath = ()) -> Iterator[KeyPath]:
    """Yield the path of every single value; an empty object says nothing."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    else:
        yield path


def _put(layers: Layers, path: KeyPath, value: object, source: Source, origin: str) -> None:
    """Set one value, unless the file has something else than objects on the way: that is a problem of its own."""
    *way, last = path
    place: Any = layers.tree
    for key in way:
        place = place.setdefault(key, {})
        if not isinstance(place, dict):
            return
    place[last] = value
    for known in [known for known in layers.sources if known[: len(path)] == path]:
        del layers.sources[known]
    layers.sources[path] = source
    layers.origins[path] = origin


def _merge_agents(tree: dict[str, Any]) -> None:
    """Lay the entries for agents over the shipped ones of their names; an agent that is not named stays as shipped."""
    written = tree.get("agents")
    if isinstance(written, dict):
        shipped = {name: _plain(entry) for name, entry in SHIPPED_AGENTS.items()}
        named = {
            name: {**shipped.get(name, {}), **entry} if isinstance(entry, dict) else entry
            for name, entry in written.items()
        }
        tree["agents"] = {**shipped, **named}


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in entry.items()}


def _dangling(tree: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield each name that refers to nothing, and each half of a pair."""
    yield from _unknown(tree, ("defaults", "container", "type"), tree.get("containers", DEFAULT_IMAGES))
    agents = tree.get("agents", {})
    if isinstance(agents, dict):
        yield from _unknown(tree, ("defaults", "agent", "name"), {**SHIPPED_AGENTS, **agents})
    model = _at(tree, ("defaults", "agent", "model"))
    if isinstance(model, str) and "/" not in model:
        yield from _unknown(tree, ("defaults", "agent", "model"), tree.get("models", {}))
    halves = [key for key in ("tls_certificate", "tls_key") if _at(tree, ("server", key)) is not None]
    if len(halves) == 1:
        yield Problem(path=("server", halves[0]), text="tls_certificate and tls_key are only of use together")


def _unknown(tree: Mapping[str, Any], path: KeyPath, known: object) -> Iterator[Problem]:
    name = _at(tree, path)
    if isinstance(name, str) and isinstance(known, Mapping) and name not in known:
        near = difflib.get_close_matches(name, known, 1)
        names = ", ".join(format_path((key,)) for key in near or known)
        advice = f"did you mean {names}?" if near else f"configured are {names or 'none'}"
        yield Problem(path=path, text=f"there is no {name!r}; {advice}")


def _at(tree: Mapping[str, Any], path: KeyPath) -> object:
    value: Any = tree
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value
