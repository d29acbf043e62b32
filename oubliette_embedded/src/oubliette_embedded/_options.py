"""The runtime's own section of the configuration: ``runtimes.embedded``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RUNTIME", "Options", "parse_options"]

RUNTIME = "embedded"
_DEFAULT_OUTPUT_LIMIT = 64 * 1024 * 1024
_NETWORKS = ("auto", "pasta", "slirp4netns", "none")
_SMALLEST_OUTPUT_LIMIT = 64 * 1024


@attrs.frozen(kw_only=True)
class Options:
    """How the runtime is set up.

    :param root: directory of its images, containers and volumes; all processes of this user share it.
    :param bwrap: path of bubblewrap; None to look for one.
    :param host_network: containers may ask for the machine's own network.
    :param network: the program that connects containers: ``pasta``, ``slirp4netns``, ``auto`` for either, or ``none``.
    :param output_limit: bytes that are kept of what a main process prints.
    """

    root: Path
    bwrap: Path | None = None
    host_network: bool = False
    network: str = "auto"
    output_limit: int = _DEFAULT_OUTPUT_LIMIT


def parse_options(options: Mapping[str, Any], environ: Mapping[str, str] | None = None) -> Options:
    """Check the section. :raises ConfigError: with every problem found."""
    problems = [
        f"runtimes.{RUNTIME}.{key}: unknown, expected one of {', '.join(sorted(_KEYS))}"
        for key in sorted(options)
        if key not in _KEYS
    ]
    for key, (is_right, expected) in _KEYS.items():
        if key in options and not is_right(options[key]):
            problems.append(f"runtimes.{RUNTIME}.{key}: expected {expected}, not {options[key]!r}")
    if problems:
        raise ConfigError(problems[0], problems=problems)
    given: dict[str, Any] = {key: Path(value) if key in ("root", "bwrap") else value for key, value in options.items()}
    given.setdefault("root", _default_root(os.environ if environ is None else environ))
    return Options(**given)


def _default_root(environ: Mapping[str, str]) -> Path:
    """Return the directory of the XDG Base Directory Specification; a relative path in the variable is ignored."""
    data = environ.get("XDG_DATA_HOME", "")
    home = Path(data) if data.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".local" / "share"
    return home / "oubliette" / RUNTIME


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


def _is_limit(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= _SMALLEST_OUTPUT_LIMIT


_KEYS = {
    "root": (_is_path, "an absolute path"),
    "bwrap": (_is_path, "an absolute path"),
    "host_network": (lambda value: isinstance(value, bool), "true or false"),
    "network": (lambda value: value in _NETWORKS, f"one of {', '.join(_NETWORKS)}"),
    "output_limit": (_is_limit, f"a number of bytes, at least {_SMALLEST_OUTPUT_LIMIT}"),
}
