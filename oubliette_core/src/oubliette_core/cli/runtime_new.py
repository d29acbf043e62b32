"""Writing the skeleton of a new runtime's distribution."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from oubliette_core._version import __version__
from oubliette_core.errors import ConflictError, InvalidValueError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 40
_SUFFIX = ".in"


def write_skeleton(name: str, directory: Path | None = None) -> Path:
    """Write a distribution with a runtime that loads and has everything still to do; return its directory.

    :param name: the runtime's name: lower-case words joined by hyphens.
    :param directory: where to; ``oubliette-NAME`` below the working directory when None. Must not exist.
    :raises InvalidValueError: the name cannot be one. :raises ConflictError: there is something at the directory.
    """
    values = _values(name)
    target = Path(f"oubliette-{name}") if directory is None else directory
    try:
        target.mkdir(parents=True)
    except OSError as error:
        raise ConflictError(
            f"{target} cannot be made: {error.strerror}",
            subject=str(target),
            hint="Name a directory that does not exist yet.",
        ) from error
    for words, template in _templates(files("oubliette_core.cli") / "skeleton"):
        path = target.joinpath(*(values["PACKAGE"] if word == "package" else word for word in words))
        path.parent.mkdir(parents=True, exist_ok=True)
        text = template.read_text(encoding="utf-8")
        path.with_name(path.name.removesuffix(_SUFFIX)).write_text(
            re.sub("@([A-Z]+)@", lambda match: values[match[1]], text), encoding="utf-8"
        )
    (target / "src" / values["PACKAGE"] / "py.typed").touch()
    return target


def _values(name: str) -> dict[str, str]:
    """Return what stands for the words between at signs."""
    if name == "auto" or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        shown = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
        raise InvalidValueError(
            f"{shown!r} cannot be the name of a runtime",
            value=shown,
            hint=f"Use lower-case letters, digits and single hyphens, such as 'my-engine'; at most {_LONGEST_NAME}.",
        )
    words = name.split("-")
    major, minor = (int(part) for part in __version__.split(".")[:2])
    return {
        "NAME": name,
        "DISTRIBUTION": f"oubliette-{name}",
        "PACKAGE": "_".join(("oubliette", *words)),
        "CLASS": "".join(word.capitalize() for word in words) + "Runtime",
        "REQUIRES": f">={major}.{minor}.0.dev0,<{major}.{minor + 1}",
    }


def _templates(folder: Traversable, *above: str) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, *above, entry.name)
        elif entry.name.endswith(_SUFFIX):
            yield (*above, entry.name), entry
