"""How variables get into a container without being seen in the list of processes.

Whatever stands in the command's argv can be read by everybody on the machine. So values go through a file that only
we can read; a value of several lines, which such a file cannot hold, goes through the command's own environment,
which nobody else can read either.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import InvalidSpecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_HOST_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "LANG", "COLUMNS", "NO_COLOR")
_HOST_PREFIXES = ("CONTAINER_", "DYLD_", "LD_", "LC_", "XDG_", "SSH_", "BUILDKIT_", "__")
_HOST_SUFFIX = "_proxy"
_LINE_ENDS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
"""Whatever some library takes for the end of a line."""


@contextlib.contextmanager
def arguments(env: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Yield the options that set ``env`` in a container, and what has to be in the command's own environment for them.

    :raises InvalidSpecError: a value of several lines belongs to a variable that would change the command itself.
    """
    inherited = {name: value for name, value in env.items() if not _LINE_ENDS.isdisjoint(value)}
    for name in inherited:
        if _changes_the_command(name):
            raise InvalidSpecError(f"variable {name} cannot have several lines with this runtime", value=name)
    written = [f"{name}={value}\n" for name, value in env.items() if name not in inherited]
    options = [f"--env={name}" for name in inherited]
    if not written:
        yield options, inherited
        return
    descriptor, path = tempfile.mkstemp(prefix="oubliette-env-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.writelines(written)
        yield [f"--env-file={path}", *options], inherited
    finally:
        Path(path).unlink()


def _changes_the_command(name: str) -> bool:
    return name in _HOST_NAMES or name.startswith(_HOST_PREFIXES) or name.lower().endswith(_HOST_SUFFIX)
