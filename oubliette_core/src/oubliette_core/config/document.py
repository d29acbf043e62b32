"""From a file to plain dicts and lists: limits, JSON or JSON5, repeated keys, and the cache of what was parsed.

The json5 package is pure Python and needs some 50 ms for 3 KB, which every command would pay. So its result is kept
in a private file beside the other caches, good for exactly the text that it was made from.
"""

from __future__ import annotations

import json
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.config.home import write_private_file
from oubliette_core.config.keypath import KeyPath
from oubliette_core.errors import ConfigError

if TYPE_CHECKING:
    from oubliette_core.config.positions import Positions

LARGEST_FILE = 256 * 1024
DEEPEST = 32
_CACHE_FORMAT = 1
_JSON5_MESSAGE = r"(?s:<string>:(?P<line>\d+) (?P<text>.*?)(?: at column (?P<column>\d+))?)"


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong, at one place. The text never repeats what a secret holds."""

    path: KeyPath = ()
    text: str
    line: int | None = None


@attrs.frozen(kw_only=True)
class Document:
    """A configuration file as it stands, or what is wrong with its text.

    :param mode: permission bits of the file.
    """

    tree: dict[str, Any] = attrs.field(factory=dict, repr=False)
    text: str = attrs.field(default="", repr=False)
    mode: int = 0o600
    problems: tuple[Problem, ...] = ()

    def positions(self) -> Positions:
        """Find the lines of the keys; needed only when there is a problem to report."""
        return _positions(self.text)


def read_document(file: Path, cache: Path | None) -> Document:
    """Read a configuration file.

    :param cache: where the parsed result is kept; None to parse anew.
    :returns: the document; its ``problems`` say what is wrong with the text.
    :raises FileNotFoundError: there is no such file.
    :raises ConfigError: it cannot be read, is too large, is no regular file, or somebody else can write it.
    """
    data, mode = _read(file)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Document(mode=mode, problems=(Problem(text="not UTF-8 text", line=line),))
    tree = _cached(cache, text) if cache else None
    if tree is not None:
        return Document(tree=tree, text=text, mode=mode)
    document = attrs.evolve(parse_text(text), mode=mode)
    if cache and not document.problems:
        entry = {"format": _CACHE_FORMAT, "text": text, "tree": document.tree}
        with suppress(OSError):  # a read-only home, or none yet: the next command parses again
            write_private_file(cache, json.dumps(entry).encode("ascii"))
    return document


def parse_text(text: str) -> Document:
    """Parse JSON or JSON5; every repeated key is a problem of its own."""
    positions = _positions(text)
    if positions.depth > DEEPEST:
        return Document(text=text, problems=(Problem(text=f"nested deeper than {DEEPEST} levels"),))
    repeated: list[str] = []

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        built = dict(pairs)
        if len(built) != len(pairs):
            keys = [key for key, _ in pairs]
            repeated.extend(key for key in built if keys.count(key) > 1)
        return built

    try:
        tree = json.loads(text, object_pairs_hook=build)
    except (ValueError, RecursionError):
        repeated.clear()
        tree, problem = _parse_json5(text, build)
        if problem is not None:
            return Document(text=text, problems=(problem,))
    if not isinstance(tree, dict):
        return Document(text=text, problems=(Problem(text="expected an object ({ ... }) around everything"),))
    if repeated:
        return Document(tree=tree, text=text, problems=_repeated(positions, repeated))
    return Document(tree=tree, text=text)


def _positions(text: str) -> Positions:
    # Imported here: a text that was parsed before, and has no problems, does without.
    from oubliette_core.config.positions import find_positions  # noqa: PLC0415

    return find_positions(text, deepest=DEEPEST)


def _parse_json5(text: str, build: Any) -> tuple[Any, Problem | None]:
    # Imported here: a configuration that was seen before, or is plain JSON, does without.
    import json5  # noqa: PLC0415

    try:
        return json5.loads(text, object_pairs_hook=build), None
    except ValueError as error:
        return None, _syntax_problem(str(error))
    except RecursionError:
        return None, Problem(text="too deeply nested to be read")


def _syntax_problem(message: str) -> Problem:
    match = re.fullmatch(_JSON5_MESSAGE, message)
    if match is None:
        return Problem(text="expected an object ({ ... })" if "Empty" in message else "not JSON5")
    words = match["text"].replace('"\n"', "end of line").replace("Unexpected", "unexpected")
    if not words.isprintable():
        words = words.encode("unicode_escape").decode("ascii")
    column = f" at column {match['column']}" if match["column"] else ""
    return Problem(text=f"{words}{column}", line=int(match["line"]))


def _repeated(positions: Positions, keys: list[str]) -> tuple[Problem, ...]:
    if positions.repeated:
        return tuple(Problem(path=path, text="is there twice", line=line) for path, line in positions.repeated)
    return tuple(Problem(text=f"the key {key!r} is there twice in one object") for key in keys)


def _read(file: Path) -> tuple[bytes, int]:
    try:
        # Without O_NONBLOCK the opening of a FIFO waits for ever.
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}", file=str(file)) from error
    try:
        status = os.fstat(descriptor)
        _check_file(file, status)
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(LARGEST_FILE + 1)
    finally:
        os.close(descriptor)
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{file} is larger than {LARGEST_FILE // 1024} KiB", file=str(file))
    return data, stat.S_IMODE(status.st_mode)


def _check_file(file: Path, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{file} is not a regular file", file=str(file))
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigError(
            f"{file} belongs to somebody else (uid {status.st_uid})",
            file=str(file),
            hint="Whoever owns the configuration decides what runs: make the file your own.",
        )
    if mode & 0o002:
        raise ConfigError(
            f"anybody can write to {file} (mode {mode:04o})", file=str(file), hint=f"Close it: chmod 600 {file}"
        )


def _cached(cache: Path, text: str) -> dict[str, Any] | None:
    """Return what was kept for this text; anything that is odd about the cache means that it is not used."""
    try:
        descriptor = os.open(cache, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            entry = json.loads(stream.read())
    except (OSError, ValueError, RecursionError):
        return None
    finally:
        os.close(descriptor)
    if not isinstance(entry, dict) or entry.get("format") != _CACHE_FORMAT or entry.get("text") != text:
        return None
    tree = entry.get("tree")
    return tree if isinstance(tree, dict) else None
