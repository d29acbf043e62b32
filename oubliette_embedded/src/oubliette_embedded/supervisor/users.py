"""Users of an image, as its ``/etc/passwd`` and ``/etc/group`` name them.

Both files may hold anything: lines that are not understood are skipped.
"""

from __future__ import annotations

__all__ = ["User", "find_user"]


class User:
    """As whom a command runs.

    :ivar groups: supplementary groups. :ivar home: its home directory.
    """

    def __init__(self, uid: int, gid: int, groups: list[int], home: str) -> None:
        self.uid = uid
        self.gid = gid
        self.groups = groups
        self.home = home


def find_user(wanted: str, passwd: bytes, group: bytes) -> User | None:
    """Find a user by ``name|uid[:group|gid]``; None when a name is in neither file.

    A number needs no entry: its group is then 0. A group that is given takes the place of all groups of the user.
    """
    name, colon, group_name = wanted.partition(":")
    entries = [line for line in _lines(passwd) if len(line) >= 6 and _is_id(line[2]) and _is_id(line[3])]
    named = [line for line in entries if line[0] == name] or [line for line in entries if line[2] == name]
    if not named and not _is_id(name):
        return None
    login, uid, gid, home = (named[0][0], named[0][2], named[0][3], named[0][5]) if named else ("", name, "0", "/")
    groups = [line for line in _lines(group) if len(line) >= 3 and _is_id(line[2])]
    if colon:
        found = [line[2] for line in groups if line[0] == group_name] or [group_name]
        if not _is_id(found[0]):
            return None
        return User(int(uid), int(found[0]), [int(found[0])], home)
    others = [int(line[2]) for line in groups if len(line) >= 4 and login and login in line[3].split(",")]
    return User(int(uid), int(gid), [int(gid), *others], home)


def _lines(text: bytes) -> list[list[str]]:
    return [line.split(":") for line in text.decode(errors="replace").splitlines()]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text[:11]) < 2**32 - 1
