"""The way out of a container, by real programs; they come from the machine or, for root on Debian, out of packages."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oubliette_core.models import Capability, ContainerSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import eventually
from tests.embedded.conftest import Bring
from tests.engine.packages import PackagesUnavailableError, apt_is_here, unpacked

_PACKAGES = ("passt", "slirp4netns")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with pasta and slirp4netns in it."""
    folder = tmp_path_factory.mktemp("programs")
    missing = [name for name in ("pasta", "slirp4netns") if shutil.which(name) is None]
    if not missing:
        return folder
    if not apt_is_here():
        pytest.skip(f"there is no {' and no '.join(missing)} here, nor apt-get to fetch them by")
    try:
        found = unpacked(_PACKAGES)
    except (PackagesUnavailableError, OSError) as error:
        pytest.skip(f"{', '.join(missing)} cannot be had: {error}")
    libraries = found.environment().get("LD_LIBRARY_PATH", "")
    for name in missing:
        script = f'#!/bin/sh\nexec env LD_LIBRARY_PATH="{libraries}" "{found.find(name)}" "$@"\n'
        (folder / name).write_text(script, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture(params=["pasta", "slirp4netns"])
def connected(
    request: pytest.FixtureRequest,
    programs: Path,
    make_runtime: Callable[..., Runtime],
    bring: Bring,
    monkeypatch: pytest.MonkeyPatch,
) -> Box:
    """A container that one of them connects."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("this user may not use /dev/net/tun")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    runtime = make_runtime(network=request.param)
    assert f"network by {request.param}" in runtime.probe().detail
    container = runtime.create(ContainerSpec(image=bring())).id
    runtime.start(container)
    return Box(runtime, container)


class _Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """Greet."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello from outside\n")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - its name there
        """Keep quiet."""


@pytest.fixture
def greeter() -> Iterator[int]:
    """A server on all addresses of this machine; its port."""
    with http.server.ThreadingHTTPServer(("0.0.0.0", 0), _Hello) as server:  # noqa: S104 - to be reached from inside
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _own_address() -> str:
    """Return an address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


def test_a_container_gets_out_and_not_to_the_loopback(connected: Box, greeter: int) -> None:
    """It reaches what the network has, through an address of its own, and nothing that only this machine may reach."""
    ask = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 $1 {greeter}"
    outside = connected.shell(ask, _own_address(), timeout=20)
    within = [connected.shell(ask, host, timeout=5) for host in ("127.0.0.1", "10.0.2.2")]

    assert outside.stdout.endswith(b"hello from outside\n")
    assert [b"", b""] == [one.stdout for one in within]
    assert "10.0.2.100" == connected.inspect().ip_address
    assert "nameserver 10.0.2.3" == connected.says("cat /etc/resolv.conf")
    assert "10.0.2.100" in connected.says("grep -v localhost /etc/hosts")


def test_the_program_ends_with_the_container(connected: Box, root: Path) -> None:
    """And is a child of the container's supervisor until then, so that it ends with that, too."""
    run = json.loads((root / "containers" / connected.id / "run.json").read_bytes())
    supervisor = run["supervisor"][0]
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text(encoding="ascii").split()
    carriers = [Path("/proc") / pid for pid in children if re.search(rb"slirp4netns|pasta", _command_line(pid))]
    connected.runtime.stop(connected.id, grace=0)

    assert 1 == len(carriers)
    assert eventually(lambda: not carriers[0].exists())


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except FileNotFoundError:
        return b""  # the supervisor has children that are there for a moment only


def test_the_machines_own_network_takes_the_configuration_to_say_so(
    make_runtime: Callable[..., Runtime], bring: Bring
) -> None:
    """Then a container that asks for it is in it."""
    runtime = make_runtime(host_network=True)
    container = runtime.create(ContainerSpec(image=bring(), network="host")).id
    box = Box(runtime, runtime.start(container).id)

    assert Capability.NETWORK_HOST not in make_runtime().capabilities()
    assert str(Path("/proc/self/ns/net").readlink()) == box.says("readlink /proc/self/ns/net")
    assert {path.name for path in Path("/sys/class/net").iterdir()} == set(box.says("ls /sys/class/net").split())
