"""``python -m tests.embedded.ordinary HOME PROGRAM...``: runs a program as an ordinary user, which only root can.

The user is a number that nobody has. It can reach the interpreter, its packages and the checkout wherever they are:
where a directory on the way is closed to others, such as root's home, the program sees one in its place, in a mount
namespace of its own, that has nothing but what it needs.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from oubliette_embedded.supervisor import kernel

ROOT = Path(__file__).parents[2]
USER = 54321
REACH = "OUBLIETTE_TEST_REACH"
"""Variable with directories that it is to reach besides."""
_PRIVATE = 1 << 18
"""MS_PRIVATE: what is mounted here is not seen elsewhere."""


def command(home: Path, *words: str | Path) -> list[str]:
    """Return the argv that runs a program as the ordinary user, to whom ``home`` is given."""
    home.mkdir(exist_ok=True)
    os.chown(home, USER, USER)
    return [sys.executable, "-m", "tests.embedded.ordinary", str(home), *map(str, words)]


def environment(home: Path) -> dict[str, str]:
    """Return the environment that it has."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "OUBLIETTE_", "CI", "COV"))
    }
    return {**kept, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1", "USER": "somebody"}


def main(home: str, *words: str) -> None:
    """Become the user and execute the program."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | _PRIVATE)
    wanted = {ROOT, Path(sys.prefix), Path(sys.base_prefix), Path(home), *map(Path, os.environ.get(REACH, "").split())}
    for closed, needed in _closed(wanted).items():
        _open_up(closed, needed)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.execvp(words[0], words)  # noqa: S606 - no shell


def _closed(needed: set[Path]) -> dict[Path, list[Path]]:
    """Find the directories that others may not enter, each with what is needed of what is in it."""
    found: dict[Path, list[Path]] = {}
    for path in needed:
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & stat.S_IXOTH:
                found.setdefault(parent, []).append(path)
                break
    return found


def _open_up(closed: Path, needed: list[Path]) -> None:
    held = {path: os.open(path, os.O_PATH) for path in needed}
    kernel.mount("tmpfs", str(closed), "tmpfs", 0, "mode=755")
    for path, descriptor in _outermost(held):
        path.mkdir(parents=True, exist_ok=True)
        kernel.mount(f"/proc/self/fd/{descriptor}", str(path), "", kernel.MS_BIND | kernel.MS_REC)


def _outermost(held: dict[Path, int]) -> Iterator[tuple[Path, int]]:
    """Leave out what is within another."""
    return ((path, descriptor) for path, descriptor in held.items() if not set(path.parents) & held.keys())


if __name__ == "__main__":
    main(*sys.argv[1:])
