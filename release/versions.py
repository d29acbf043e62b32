"""The version that is released, and what is new in it."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["ROOT", "ReleaseError", "check", "is_final", "notes"]

ROOT = Path(__file__).parents[1]
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:(?:a|b|rc)[0-9]+)?")


class ReleaseError(Exception):
    """The release cannot go on; the message says why."""


def check(tag: str, root: Path = ROOT) -> str:
    """Return the version of a tag.

    :raises ReleaseError: the distributions have another version, or a changelog says nothing about it.
    """
    version = tag.removeprefix("v")
    if tag == version or not _VERSION.fullmatch(version):
        raise ReleaseError(f"{tag} is no tag of a version, such as v1.2.0 or v1.2.0rc1")
    file = root / "oubliette_core/src/oubliette_core/_version.py"
    found = re.search(r'__version__ = "(.*)"', file.read_text(encoding="utf-8"))
    if found is None or found[1] != version:
        raise ReleaseError(f"{file} has version {found[1] if found else 'nothing'}, and the tag is {tag}")
    notes(version, root)
    return version


def is_final(version: str) -> bool:
    """Tell whether a version is what everyone is to get, and no preview of it."""
    return re.fullmatch(r"[0-9.]+", version) is not None


def notes(version: str, root: Path = ROOT) -> str:
    """Return what the changelogs say about a version, each under the name of its distribution.

    :raises ReleaseError: one of them says nothing.
    """
    parts = []
    for changelog in sorted(root.glob("*/CHANGELOG.md")):
        name = changelog.parent.name.replace("_", "-")
        heading = re.compile(rf"^## \[{re.escape(version)}\].*\n((?:(?!^## ).*\n?)*)", re.MULTILINE)
        found = heading.search(changelog.read_text(encoding="utf-8"))
        if found is None or not found[1].strip():
            raise ReleaseError(f"{changelog} has no section [{version}]")
        parts.append(f"## {name}\n\n{found[1].strip()}\n")
    return "\n".join(parts)
