"""Limits on memory, processor time and processes, where this user may make control groups.

Version 2 (`cgroup v2`_): a group above ours that was delegated to this user, with the controllers handed on. Version 1:
a hierarchy of its own for each controller, in which usually only the superuser may do that.

.. _cgroup v2: https://docs.kernel.org/admin-guide/cgroup-v2.html#delegation
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import RuntimeOperationError
from oubliette_embedded._options import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_embedded._definition import Definition

__all__ = ["ControlGroups", "Groups", "find_control_groups"]

_CONTROLLERS = ("memory", "cpu", "pids")
_PERIOD = 100_000
"""Microseconds in which a container may use its share of the processors."""
_PREFIX = "oubliette-"


@attrs.frozen(kw_only=True)
class Groups:
    """The control groups of one container.

    :param limiting: directories of those that have a limit. :param memory: directory of the one in which the kernel
        counts whom it killed for want of memory; None where that is not known. It may have no limit.
    """

    limiting: tuple[Path, ...] = ()
    memory: Path | None = None


@attrs.frozen(kw_only=True)
class ControlGroups:
    """Where groups can be made.

    :param unified: directory of version 2; None where there is none for us. :param separate: of version 1, by
        controller. :param controllers: what can be limited.
    """

    unified: Path | None = None
    separate: Mapping[str, Path] = attrs.field(factory=dict)
    controllers: frozenset[str] = frozenset()

    def make(self, definition: Definition) -> Groups:
        """Make the groups of a container. :raises RuntimeOperationError: the kernel refuses."""
        try:
            made = dict(self._make(definition))
        except OSError as error:
            self.remove(definition.id)
            raise RuntimeOperationError(
                f"the limits of container {definition.name} could not be set: {error}",
                runtime=RUNTIME,
                subject=definition.id,
                hint="Leave the limits out, or ask what this machine can limit: oubliette runtime show embedded",
            ) from error
        limits = _limits(definition)
        limiting = [directory for name, directory in made.items() if limits[name] is not None]
        return Groups(limiting=tuple(dict.fromkeys(limiting)), memory=made.get("memory"))

    @property
    def oom_file(self) -> str:
        """Name of the file in a memory group that has the count."""
        return "memory.events" if self.unified else "memory.oom_control"

    def _make(self, definition: Definition) -> Iterator[tuple[str, Path]]:
        # Memory is always accounted for: whether the kernel killed for want of it is told by nothing else.
        limits = _limits(definition)
        wanted = [name for name in _CONTROLLERS if name in self.controllers]
        wanted = [name for name in wanted if name == "memory" or limits[name] is not None]
        for name in wanted:
            directory = (self.unified or self.separate[name]) / f"{_PREFIX}{definition.id}"
            directory.mkdir(exist_ok=True)
            yield name, directory
            limit = limits[name]
            if limit is not None:
                for file, text in _settings(name, limit, unified=self.unified is not None):
                    _write(directory / file, text)

    def remove(self, identity: str) -> None:
        """Remove what is left of the groups of a container, in which no process is any more."""
        for base in (self.unified, *self.separate.values()):
            if base is None:
                continue
            with contextlib.suppress(OSError):
                (base / f"{_PREFIX}{identity}").rmdir()


def _limits(definition: Definition) -> dict[str, float | None]:
    return {"memory": definition.memory, "cpu": definition.cpus, "pids": definition.pids}


def _settings(name: str, limit: float, *, unified: bool) -> Iterator[tuple[str, str]]:
    """Give what is to be written where."""
    if name == "pids":
        yield "pids.max", str(limit)
    elif name == "memory":
        # No swap beyond the limit: a container that needs more is killed, and does not just get slow.
        yield ("memory.max", str(limit)) if unified else ("memory.limit_in_bytes", str(limit))
        yield ("memory.swap.max", "0") if unified else ("memory.memsw.limit_in_bytes", str(limit))
    elif unified:
        yield "cpu.max", f"{int(limit * _PERIOD)} {_PERIOD}"
    else:
        yield "cpu.cfs_period_us", str(_PERIOD)
        yield "cpu.cfs_quota_us", str(int(limit * _PERIOD))


def _write(path: Path, text: str) -> None:
    if not path.exists() and "sw" in path.name:
        return  # a kernel that does not account for swap
    path.write_text(text, encoding="ascii")


def find_control_groups(proc: Path = Path("/proc/self")) -> ControlGroups:
    """Find where this process may make control groups. :param proc: of it; tests give another."""
    mounts = dict(_mounts(proc / "mountinfo"))
    own = dict(_own(proc / "cgroup"))
    separate = {}
    for name in _CONTROLLERS:
        if name in mounts and name in own:
            directory = _below(mounts[name], own[name])
            if _is_ours(directory):
                separate[name] = directory
    if separate or "" not in mounts or "" not in own:
        return ControlGroups(separate=separate, controllers=frozenset(separate))
    return _unified(mounts[""], own[""])


def _unified(mount: tuple[str, Path], own: str) -> ControlGroups:
    """Look for the nearest group above ours that is ours to divide, and hands controllers on."""
    root, top = mount
    directory = _below((root, top), own)
    while directory != top and top in directory.parents:
        directory = directory.parent
        if _is_ours(directory):
            with contextlib.suppress(OSError):
                handed_on = (directory / "cgroup.subtree_control").read_text(encoding="ascii").split()
                found = frozenset(handed_on) & set(_CONTROLLERS)
                if found:
                    return ControlGroups(unified=directory, controllers=found)
    return ControlGroups()


def _is_ours(directory: Path) -> bool:
    return os.access(directory, os.W_OK | os.X_OK) and os.access(directory / "cgroup.procs", os.W_OK)


def _below(mount: tuple[str, Path], own: str) -> Path:
    """Return the directory of a group, which may be seen from inside of a container that has but a part of the tree."""
    root, point = mount
    relative = own.removeprefix(root) if root != "/" else own
    return point / relative.strip("/")


def _mounts(mountinfo: Path) -> Iterator[tuple[str, tuple[str, Path]]]:
    """Give the hierarchies that are mounted, by controller; the unified one has an empty name. See proc(5)."""
    for line in _lines(mountinfo):
        fields, _, rest = line.partition(" - ")
        words, (kind, _, *options) = fields.split(), (*rest.split(), "", "")
        if kind == "cgroup2":
            yield "", (words[3], Path(words[4]))
        elif kind == "cgroup":
            for name in _CONTROLLERS:
                if name in ",".join(options).split(","):
                    yield name, (words[3], Path(words[4]))


def _own(cgroup: Path) -> Iterator[tuple[str, str]]:
    """Give the group of this process in each hierarchy, by controller."""
    for line in _lines(cgroup):
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            yield name, path


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
