"""What each version of ``container`` can do."""

from __future__ import annotations

import re

import attrs

from oubliette_core.models import Capability

OLDEST = (0, 9)

_LOOPBACK = re.compile(r"127(?:\.\d{1,3}){3}")
_LINE = re.compile(r"container CLI version (\d+)\.(\d+)(?:\.(\d+))?")

_ALWAYS = frozenset(
    {
        Capability.MEMORY_LIMIT,
        Capability.CPU_LIMIT,
        Capability.READ_ONLY,
        Capability.USER,
        Capability.NETWORK_NONE,
        Capability.NETWORK_NAMED,
        Capability.VOLUMES,
        Capability.TMPFS,
        Capability.PLATFORMS,
        Capability.TTY,
        Capability.LOGS_FOLLOW,
        Capability.PERSISTENT_LAYER,
        Capability.VM_ISOLATION,
        Capability.BUILD,
        Capability.COPY_IN,
        Capability.COPY_OUT,
        Capability.REMOVE_IMAGE,
        Capability.LOAD_IMAGES,
        Capability.SAVE_IMAGES,
    }
)


@attrs.frozen(order=True)
class Version:
    """A version of the command-line client."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, line: str) -> Version | None:
        """Read the line that ``--version`` prints; None for that of another program."""
        match = _LINE.search(line)
        return cls(int(match[1]), int(match[2]), int(match[3] or 0)) if match else None

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    def at_least(self, major: int, minor: int, patch: int = 0) -> bool:
        """Whether this is the given version or a later one."""
        return self >= Version(major, minor, patch)

    def capabilities(self) -> frozenset[Capability]:
        """Return what this version enforces.

        There is no limit of processes, no host name and no host network in any version, and ``no_new_privileges`` has
        no meaning where the kernel is the container's own.
        """
        more = set()
        if self.at_least(0, 10):
            more.add(Capability.INIT)
        if self.at_least(0, 12):
            more.add(Capability.CAPABILITIES)
        return _ALWAYS | more

    def fetching(self, image: str) -> list[str]:
        """Return the options of ``image pull``: one line of progress a second, from 0.12 on.

        From 1.3 on the command no longer tries plain HTTP by itself. It is asked to where it did before and where
        nobody can listen in: for registries on this machine.
        """
        options = ["--progress=plain"] if self.at_least(0, 12) else ["--progress=none"]
        host = image.partition("/")[0].partition(":")[0]
        local = "/" in image and (host == "localhost" or _LOOPBACK.fullmatch(host))
        return [*options, "--scheme=http"] if local and self.at_least(1, 3) else options
