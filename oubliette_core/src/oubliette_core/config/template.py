"""The configuration that ``oubliette init`` writes: every setting with its default, as a comment.

The settings are commented out because what stands in the file is required of the runtime, and what does not stand
there is preferred. Words and values come from the schema.
"""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs

from oubliette_core.config.home import Home, write_private_file
from oubliette_core.config.schema import AgentConfig, Config, ContainerTypeConfig

_WIDTH = 110
_HEAD = (
    "Oubliette's configuration. JSON with comments: // starts one, and a comma after the last entry is fine.",
    "",
    (
        "Everything below is what holds anyway, or an example, so it is commented out. Uncomment what you want to "
        "change. What you write is required: a runtime that cannot enforce it refuses to run a container. "
        "Check your changes with: oubliette config check"
    ),
)


def template_text() -> str:
    """Return the template: a configuration that says nothing and explains everything."""
    head = [line for paragraph in _HEAD for line in _comment(paragraph, "")]
    defaults = Config()
    sections = ["\n".join(_field(field, getattr(defaults, field.name), "  ")) for field in attrs.fields(Config)]
    return "\n".join([*head, "{", "\n\n".join(sections), "}", ""])


def write_template(home: Home, *, now: datetime | None = None) -> Path | None:
    """Write the template as the home's configuration, for its owner alone (0600), in one step.

    :param now: the time that the backup is named after; None for the current one.
    :returns: where the configuration that was there before is kept, ``oubliette.jsonc.bak-<time>``; None if there was
        none.
    :raises OSError: it cannot be written; what was there still is.
    """
    backup = _backup(home.config_file, now or datetime.now(UTC))
    write_private_file(home.config_file, template_text().encode())
    return backup


def _backup(file: Path, now: datetime) -> Path | None:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        return None
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    backup = file.with_name(f"{file.name}.bak-{stamp}")
    while True:
        try:
            descriptor = os.open(backup, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            backup = backup.with_name(f"{backup.name}-again")
            continue
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, 0o600)
            stream.write(data)
            stream.flush()
            os.fsync(descriptor)
        return backup


def _field(field: attrs.Attribute[Any], value: Any, indent: str) -> Iterator[str]:
    """Yield the words of one setting and the setting as a comment, or a section with all that is in it."""
    yield from _comment(field.metadata["words"], indent)
    if attrs.has(type(value)):
        yield f'{indent}"{field.name}": {{'
        for inner in attrs.fields(type(value)):
            yield from _field(inner, getattr(value, inner.name), f"{indent}  ")
        yield f"{indent}}},"
    else:
        example = field.metadata["example"]
        shown = plain(value) if example is None else example
        yield from (f"{indent}// {line}" for line in _setting(field.name, shown, _WIDTH - len(indent) - 3))


def _setting(name: str, value: Any, width: int) -> Iterator[str]:
    """Yield one setting as it stands in the file, an object that is too long for a line with a line for each key."""
    text = f'"{name}": {json.dumps(value, ensure_ascii=False)},'
    if isinstance(value, dict) and len(text) > width:
        yield f'"{name}": {{'
        for key, inner in value.items():
            yield from (f"  {line}" for line in _setting(key, inner, width - 2))
        yield "},"
    else:
        yield text


def _comment(words: str, indent: str) -> Iterator[str]:
    for line in textwrap.wrap(words, _WIDTH - len(indent) - 3) or [""]:
        yield f"{indent}// {line}".rstrip()


def plain(value: Any) -> Any:
    """Return a default as the user would write it: in the short form where there is one."""
    if isinstance(value, ContainerTypeConfig):
        return value.image
    if isinstance(value, AgentConfig):
        return {
            field.name: plain(getattr(value, field.name))
            for field in attrs.fields(AgentConfig)
            if getattr(value, field.name) != field.default and field.name != "env"
        }
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    return list(value) if isinstance(value, tuple) else value
