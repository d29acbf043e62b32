"""What this runtime can do and enforce on this machine, for this user."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.models import Capability
from oubliette_embedded._cgroups import ControlGroups, find_control_groups
from oubliette_embedded._network import Way, find_way

if TYPE_CHECKING:
    from oubliette_embedded._options import Options

__all__ = ["ELSEWHERE", "PRIORITY", "Surroundings", "wrong_machine"]

PRIORITY = 1
"""Any engine comes first: it can do more."""
ELSEWHERE = "Or use a machine with a container engine: oubliette runtime list"
_MACHINES = ("aarch64", "x86_64")
_ALWAYS = frozenset(
    {
        Capability.CAPABILITIES,
        Capability.EXIT_CODE,
        Capability.HOSTNAME,
        Capability.INIT,
        Capability.LOAD_IMAGES,
        Capability.LOGS_FOLLOW,
        Capability.LOGS_SINCE,
        Capability.NETWORK_NONE,
        Capability.NO_NEW_PRIVILEGES,
        Capability.PERSISTENT_LAYER,
        Capability.PLATFORMS,
        Capability.READ_ONLY,
        Capability.REMOVE_IMAGE,
        Capability.SAVE_IMAGES,
        Capability.TMPFS,
        Capability.TTY,
        Capability.VOLUMES,
    }
)
_BY_CONTROLLER = {
    "cpu": frozenset({Capability.CPU_LIMIT}),
    "memory": frozenset({Capability.MEMORY_LIMIT, Capability.OOM_REPORT}),
    "pids": frozenset({Capability.PIDS_LIMIT}),
}
_TO_MAP_ALL = (0, 1, 6, 7, 21, 31)
"""CAP_CHOWN, DAC_OVERRIDE, SETGID, SETUID, SYS_ADMIN and SETFCAP: what takes it to make containers with all users."""
_LIMITS_HINT = (
    "For limits on memory and processors, start it where control groups are delegated: "
    "systemd-run --user --scope oubliette ..."
)


def wrong_machine() -> str:
    """Tell why this runtime has nothing for this kind of machine; empty when it has."""
    if sys.platform != "linux":
        return "containers without an engine need Linux"
    machine = os.uname().machine
    return "" if machine in _MACHINES else f"processors of the kind {machine} are not supported"


class Surroundings:
    """This machine and this user, looked at when something is first asked about them."""

    def __init__(self, options: Options) -> None:
        self._options = options

    @functools.cached_property
    def mapped(self) -> bool:
        """Whether all users of images exist in containers; else there is one, who is this user outside."""
        return os.geteuid() == 0 and all(_effective() >> number & 1 for number in _TO_MAP_ALL)

    @functools.cached_property
    def groups(self) -> ControlGroups:
        """Where limits can be set."""
        return find_control_groups()

    @functools.cached_property
    def counts_processes(self) -> bool:
        """Whether a limit on a user's processes (RLIMIT_NPROC) is one on a container's.

        Linux 5.14 and later count them in each user namespace apart; the superuser's are never limited.
        """
        major, minor = (int(number) for number in os.uname().release.split("-")[0].split(".")[:2])
        return os.geteuid() != 0 and (major, minor) >= (5, 14)

    @functools.cached_property
    def way(self) -> Way:
        """How containers reach the network."""
        return find_way(self._options)

    def capabilities(self) -> frozenset[Capability]:
        """See `RuntimeSpec.capabilities`."""
        found = set(_ALWAYS)
        for controller in self.groups.controllers:
            found |= _BY_CONTROLLER[controller]
        if self.counts_processes:
            found.add(Capability.PIDS_LIMIT)
        if self._options.host_network:
            found.add(Capability.NETWORK_HOST)
        if self.mapped:
            found.add(Capability.USER)
        if os.geteuid() != 0:
            found.add(Capability.ROOTLESS)
        return frozenset(found)

    def remarks(self) -> tuple[str, str]:
        """Return what there is to say about a machine that can run containers: a detail and a hint."""
        limits = ", ".join(sorted({*self.groups.controllers, *(["pids"] if self.counts_processes else ())}))
        network = f"network by {self.way.name}" if self.way.command else self.way.reason
        detail = f"{network}; {f'limits on {limits}' if limits else 'no limits'}"
        hints = [self.way.hint, "" if "memory" in self.groups.controllers else _LIMITS_HINT]
        return detail, " ".join(hint for hint in hints if hint)


def _effective() -> int:
    """Return this process's effective capabilities, as a mask."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    return 0
