"""Names and numbers of a fake container's users, from its own ``/etc/passwd`` and ``/etc/group``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette_core.testing.fake.nodes import Identity

if TYPE_CHECKING:
    from oubliette_core.testing.fake.files import Files

__all__ = ["group_number", "home_of", "resolve", "user_name", "user_number"]


def _entries(files: Files, path: str) -> list[list[str]]:
    try:
        text = files.read(path).decode("utf-8", "replace")
    except OSError:
        return []
    return [fields for line in text.splitlines() if len(fields := line.split(":")) > 2]


def user_number(files: Files, name: str) -> int | None:
    """Return a user's number; None when there is no such user."""
    if name.isdigit():
        return int(name)
    return next((int(entry[2]) for entry in _entries(files, "/etc/passwd") if entry[0] == name), None)


def group_number(files: Files, name: str) -> int | None:
    """Return a group's number; None when there is no such group."""
    if name.isdigit():
        return int(name)
    return next((int(entry[2]) for entry in _entries(files, "/etc/group") if entry[0] == name), None)


def user_name(files: Files, number: int) -> str:
    """Return a user's name, or the number as text."""
    return next((entry[0] for entry in _entries(files, "/etc/passwd") if entry[2] == str(number)), str(number))


def home_of(files: Files, number: int) -> str:
    """Return a user's home directory; ``/`` when there is no such user."""
    found = (entry[5] for entry in _entries(files, "/etc/passwd") if entry[2] == str(number) and len(entry) > 5)
    return next(found, "/")


def resolve(files: Files, text: str) -> Identity | None:
    """Return who ``name``, ``uid`` or either with ``:group`` is; None when there is no such user or group."""
    user, colon, group = text.partition(":")
    uid = user_number(files, user)
    if uid is None:
        return None
    if colon:
        gid = group_number(files, group)
        return None if gid is None else Identity(uid, gid)
    found = (entry for entry in _entries(files, "/etc/passwd") if entry[2] == str(uid) and len(entry) > 3)
    return Identity(uid, next((int(entry[3]) for entry in found), 0))
