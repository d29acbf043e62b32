"""The section ``runtimes.apple`` of the configuration, and where the ``container`` command is."""

from __future__ import annotations

import difflib
import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ConfigError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACES = ("/usr/local/bin/container", "/opt/homebrew/bin/container")
INSTALL_HINT = "Install it on an Apple-silicon Mac with macOS 26: brew install container"


@attrs.frozen(kw_only=True)
class Options:
    """What a user can set.

    :param binary: absolute path of the command; None to look for it.
    :param timeout: seconds for each call of the command that does not run something of the user's.
    :param autostart: start Apple's services when they are not running, instead of saying so.
    """

    binary: Path | None = None
    timeout: float = 30.0
    autostart: bool = False


def read(section: Mapping[str, Any]) -> Options:
    """Check the section and return it. :raises ConfigError: with every problem, each with its path."""
    problems = []
    known = {field.name for field in attrs.fields(Options)}
    for key in sorted(set(section) - known):
        close = difflib.get_close_matches(str(key), known, 1)
        problems.append(f"runtimes.apple.{key}: unknown key" + (f"; did you mean {close[0]}?" if close else ""))
    binary, timeout, autostart = section.get("binary"), section.get("timeout", 30.0), section.get("autostart", False)
    if binary is not None and not (isinstance(binary, str) and Path(binary).is_absolute()):
        problems.append("runtimes.apple.binary: expected an absolute path")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 1 <= timeout <= 3600:
        problems.append("runtimes.apple.timeout: expected a number of seconds from 1 to 3600")
    if not isinstance(autostart, bool):
        problems.append("runtimes.apple.autostart: expected true or false")
    if problems:
        raise ConfigError("the section runtimes.apple is not valid", problems=problems)
    return Options(binary=Path(binary) if binary else None, timeout=float(timeout), autostart=autostart)


def locate(options: Options) -> Path:
    """Return the command: as configured, from ``PATH``, or where Apple's and Homebrew's installers put it.

    :raises RuntimeUnavailableError: there is none, or anyone could have put it there.
    """
    if options.binary is not None:
        found: Path | None = options.binary
    else:
        on_path = shutil.which("container", path=_absolute_directories())
        candidates = [Path(on_path)] if on_path else [Path(place) for place in _PLACES]
        found = next((place for place in candidates if os.access(place, os.X_OK)), None)
    if found is None:
        raise RuntimeUnavailableError("Apple's container command is not installed", runtime="apple", hint=INSTALL_HINT)
    _check(found)
    return found


def _absolute_directories() -> str:
    """Leave out of ``PATH`` what depends on the working directory: a project could put a program there."""
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if Path(part).is_absolute())


def _check(binary: Path) -> None:
    try:
        status = binary.stat()
    except OSError as error:
        raise RuntimeUnavailableError(
            f"{binary} cannot be used: {error.strerror}", runtime="apple", hint=INSTALL_HINT
        ) from error
    if not stat.S_ISREG(status.st_mode) or not os.access(binary, os.X_OK):
        raise RuntimeUnavailableError(f"{binary} is not a program", runtime="apple", hint=INSTALL_HINT)
    if status.st_uid not in (0, os.getuid()) or status.st_mode & stat.S_IWOTH:
        raise RuntimeUnavailableError(
            f"{binary} belongs to another user, or anyone may change it",
            runtime="apple",
            hint=f"Look at it: ls -l {binary}",
        )
