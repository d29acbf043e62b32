"""Whether the engine can be used, and what it really enforces."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import OublietteError
from oubliette_core.models import Capability, Probe
from oubliette_docker._errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oubliette_docker._connection import Connection

__all__ = ["EngineFacts", "probe"]

PROBE_TIMEOUT = 2.0
PRIORITY = 50
_ALWAYS = frozenset(Capability) - {
    Capability.MEMORY_LIMIT,
    Capability.CPU_LIMIT,
    Capability.PIDS_LIMIT,
    Capability.INIT,
    Capability.OOM_REPORT,
    Capability.ROOTLESS,
    Capability.VM_ISOLATION,
}


class EngineFacts:
    """What one engine says about itself, asked for once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._info: Mapping[str, Any] | None = None

    def capabilities(self) -> frozenset[Capability]:
        """Return what the engine enforces on its machine as it is."""
        with translated("capabilities", ""):
            return capabilities_of(self._ask(), self._connection.podman_version())

    def log_driver(self) -> str | None:
        """Return the logging driver that containers are to have; None for the engine's own choice.

        Docker's first choice keeps text only, and all of it: bytes that are no UTF-8 are lost, and a container that
        prints without end fills the disk. Its other driver for local files keeps bytes, and the last 100 MB.
        """
        if self._connection.is_podman() or self._ask().get("LoggingDriver") != "json-file":
            return None
        return "local"

    def _ask(self) -> Mapping[str, Any]:
        info = self._info
        if info is None:
            info = self._info = self._connection.request("GET", "/info").json()
        return info


def capabilities_of(info: Mapping[str, Any], podman: tuple[int, int] | None) -> frozenset[Capability]:
    """Return the capabilities of an engine that answers ``GET /info`` with ``info``.

    :param podman: its version, when it is Podman.
    """
    rootless = any("name=rootless" in option for option in info.get("SecurityOptions") or ())
    found = set(_ALWAYS)
    if rootless:
        found.add(Capability.ROOTLESS)
    # Podman without root on cgroup v1 takes limits, and ignores them.
    if not (podman and rootless and str(info.get("CgroupVersion")) == "1"):
        limits = {
            Capability.MEMORY_LIMIT: "MemoryLimit",
            Capability.CPU_LIMIT: "CpuCfsQuota",
            Capability.PIDS_LIMIT: "PidsLimit",
        }
        found |= {capability for capability, key in limits.items() if info.get(key) is True}
    # Docker looks for the program that its containers' init is, and says so when there is none.
    if (info.get("InitCommit") or {}).get("ID") != "N/A":
        found.add(Capability.INIT)
    if podman is None or podman >= (5, 0):  # before that it never says that memory was the reason
        found.add(Capability.OOM_REPORT)
    return frozenset(found)


def probe(connect: Callable[[], Connection]) -> Probe:
    """See `RuntimeSpec.probe`.

    :param connect: finds the engine; may raise what the search for it raises.
    """
    found: list[Probe] = []
    # Looking up the name of a remote engine's host cannot be given a deadline, so all of it is done aside.
    thread = threading.Thread(target=lambda: found.append(_probe(connect)), name="oubliette-docker-probe", daemon=True)
    thread.start()
    thread.join(PROBE_TIMEOUT - 0.1)
    if found:
        return found[0]
    return Probe(
        available=False,
        priority=PRIORITY,
        detail=f"the engine did not answer within {PROBE_TIMEOUT:g} s",
        hint="See whether it responds: docker version",
    )


def _probe(connect: Callable[[], Connection]) -> Probe:
    deadline = time.monotonic() + PROBE_TIMEOUT - 0.2
    try:
        connection = connect()
        api = connection.api_version(deadline - time.monotonic())
        name, version, system = connection.software()
    except OublietteError as error:
        return Probe(available=False, priority=PRIORITY, detail=error.message, hint=error.hint)
    found = Probe(available=system == "linux", version=version, priority=PRIORITY)
    if not found.available:
        detail = f"the engine runs {system} containers"
        return attrs.evolve(found, detail=detail, hint="Switch it to Linux containers.")
    endpoint = connection.endpoint
    where = f"{endpoint.url} ({endpoint.origin})" if endpoint.origin else endpoint.url
    return attrs.evolve(found, detail=f"{name} {version or '(of no version)'}, API {api[0]}.{api[1]}, at {where}")
