"""What is declared is what the engine enforces on its machine as it is."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import RuntimeUnavailableError
from oubliette_core.models import Capability, Probe
from oubliette_core.runtime import Runtime
from oubliette_docker._capabilities import EngineFacts, capabilities_of, probe
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint
from tests.docker.conftest import runtime_on
from tests.docker.scripted import PING, ScriptedEngine, reply

LIMITS = {Capability.MEMORY_LIMIT, Capability.CPU_LIMIT, Capability.PIDS_LIMIT}
INFO: Mapping[str, Any] = {"MemoryLimit": True, "CpuCfsQuota": True, "PidsLimit": True, "CgroupVersion": "2"}
ROOTLESS = {"SecurityOptions": ["name=seccomp,profile=default", "name=rootless"]}


def test_the_engine_declares_what_the_server_needs(runtime: Runtime) -> None:
    """An engine that builds, copies and limits, and is neither a virtual machine nor without these."""
    declared = runtime.capabilities()

    assert {
        Capability.READ_ONLY,
        Capability.CAPABILITIES,
        Capability.NO_NEW_PRIVILEGES,
        Capability.USER,
        Capability.NETWORK_NONE,
        Capability.BUILD,
        Capability.COPY_IN,
        Capability.COPY_OUT,
        Capability.LOAD_IMAGES,
        Capability.TTY,
    } <= declared
    assert Capability.VM_ISOLATION not in declared


@pytest.mark.parametrize(
    ("key", "capability"),
    [
        ("MemoryLimit", Capability.MEMORY_LIMIT),
        ("CpuCfsQuota", Capability.CPU_LIMIT),
        ("PidsLimit", Capability.PIDS_LIMIT),
    ],
)
def test_a_limit_that_the_kernel_lacks_is_not_declared(key: str, capability: Capability) -> None:
    """Engines take such a limit with a warning, and do not enforce it."""
    declared = capabilities_of({**INFO, key: False}, None)

    assert LIMITS - {capability} == declared & LIMITS


def test_rootless_is_told() -> None:
    """Uid 0 in the container is then an ordinary user outside."""
    assert Capability.ROOTLESS in capabilities_of({**INFO, **ROOTLESS}, None)
    assert Capability.ROOTLESS not in capabilities_of(INFO, None)


def test_rootless_podman_on_cgroup_v1_limits_nothing() -> None:
    """It says that it can, and ignores what it is told: an out-of-memory test has run for half a minute on it."""
    assert set() == capabilities_of({**INFO, **ROOTLESS, "CgroupVersion": "1"}, (4, 3)) & LIMITS
    assert set(LIMITS) == capabilities_of({**INFO, **ROOTLESS}, (5, 4)) & LIMITS


def test_an_old_podman_does_not_tell_why_it_ended() -> None:
    """It calls an end for lack of memory an ordinary one."""
    assert Capability.OOM_REPORT not in capabilities_of(INFO, (4, 3))
    assert Capability.OOM_REPORT in capabilities_of(INFO, (5, 0))


def test_an_engine_without_an_init_program_has_none() -> None:
    """Docker says N/A where it looked for one and found nothing."""
    assert Capability.INIT not in capabilities_of({**INFO, "InitCommit": {"ID": "N/A"}}, None)
    assert Capability.INIT in capabilities_of({**INFO, "InitCommit": {"ID": "de40ad0"}}, None)


def test_the_engine_is_asked_once(tmp_path: Path) -> None:
    """Every create looks at the capabilities."""

    def script(sock: socket.socket, _head: bytes) -> bool:
        sock.sendall(reply(b'{"MemoryLimit": true}'))
        return True

    with ScriptedEngine(tmp_path / "engine.sock", script) as engine, runtime_on(engine.endpoint.url) as runtime:
        found = [runtime.capabilities() for _ in range(3)]
        asked = len(engine.heads)
        runtime.close()
        runtime.capabilities()

    assert (1, 2, 4) == (len(set(found)), asked, len(engine.heads))  # each connection asks for the version first


@pytest.mark.parametrize(
    ("driver", "podman", "expected"),
    [("json-file", False, "local"), ("journald", False, None), ("json-file", True, None)],
)
def test_a_logging_driver_that_somebody_chose_is_kept(
    tmp_path: Path, driver: str, expected: str | None, *, podman: bool
) -> None:
    """Only Docker's built-in choice, which loses bytes and fills disks, is replaced."""

    def script(sock: socket.socket, _head: bytes) -> bool:
        sock.sendall(reply(json.dumps({"LoggingDriver": driver}).encode()))
        return True

    ping = PING.replace(b"Content-Length", b"Libpod-API-Version: 5.4.2\r\nContent-Length") if podman else PING
    with ScriptedEngine(tmp_path / "engine.sock", script, ping) as engine, Connection(engine.endpoint) as connection:
        assert expected == EngineFacts(connection).log_driver()


# -- Probe ------------------------------------------------------------------------------------------------------------


def test_an_engine_that_answers_is_available(runtime: Runtime, connection: Connection) -> None:
    """With its version, and where it is."""
    found = runtime.probe()

    assert (True, 50, "") == (found.available, found.priority, found.hint)
    assert connection.request("GET", "/version").json()["Version"] == found.version
    assert connection.endpoint.url in found.detail


def test_podman_is_called_by_its_name(tmp_path: Path) -> None:
    """Its own version, and not the one of Docker's API."""
    ping = PING.replace(b"Content", b"Libpod-API-Version: 5.4.2\r\nServer: Libpod/5.4.2 (linux)\r\nContent")
    found = probed(tmp_path, ping)

    assert ("5.4.2", True) == (found.version, found.detail.startswith("Podman 5.4.2, API 1.41"))


def test_an_engine_of_another_system_is_not_available(tmp_path: Path) -> None:
    """Docker on Windows has two modes, and one of them is not for us."""
    found = probed(tmp_path, PING.replace(b"Content", b"Ostype: windows\r\nContent"))

    assert (False, "the engine runs windows containers") == (found.available, found.detail)


def test_an_engine_that_keeps_its_version_to_itself_is_available(tmp_path: Path) -> None:
    """A proxy in between may have taken the header away."""
    found = probed(tmp_path, PING)

    assert (True, "") == (found.available, found.version)


def probed(path: Path, ping: bytes) -> Probe:
    """Probe an engine that answers with ``ping``, and with nothing else."""
    with (
        ScriptedEngine(path / "engine.sock", lambda _sock, _head: False, ping) as engine,
        runtime_on(engine.endpoint.url) as runtime,
    ):
        return runtime.probe()


def test_a_frozen_engine_does_not_hold_the_probe(tmp_path: Path) -> None:
    """It accepts, and never answers: two seconds, and no longer."""
    release = threading.Event()

    def script(_sock: socket.socket, _head: bytes) -> bool:
        release.wait(20)
        return False

    # A frozen daemon does not answer the greeting either; this one answers it with half a line.
    with ScriptedEngine(tmp_path / "engine.sock", script, PING[:20]) as engine:
        with runtime_on(engine.endpoint.url) as runtime:
            began = time.monotonic()
            found = runtime.probe()
            seconds = time.monotonic() - began
        release.set()

    assert (False, True) == (found.available, seconds < 2.1)
    assert "did not answer" in found.detail
    assert found.hint


def test_a_search_that_hangs_does_not_hold_the_probe() -> None:
    """Looking up a host's name has no deadline of its own."""
    release = threading.Event()

    def connect() -> Connection:
        release.wait(20)
        return Connection(Endpoint(url="unix:///none"))

    began = time.monotonic()
    found = probe(connect)
    seconds = time.monotonic() - began
    release.set()

    assert (False, True) == (found.available, seconds < 2.1)


def test_what_the_search_finds_wrong_is_told() -> None:
    """A probe never raises."""

    def connect() -> Connection:
        raise RuntimeUnavailableError("there is no docker context 'x'", hint="docker context ls")

    found = probe(connect)

    assert (False, "there is no docker context 'x'", "docker context ls") == (
        found.available,
        found.detail,
        found.hint,
    )
