"""What is declared is in force, as seen from inside; what is not declared is refused, or left out and listed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.errors import InvalidSpecError, StartFailedError, UnsupportedError
from oubliette_core.models import Capability, ExecSpec, LogSpec, Mount
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import Maker, unique

_MIB = 1024 * 1024
_MEMORY = 256 * _MIB
"""More than the least that there is of a container of its own kernel, and less than `EnforcedCases` tries to use."""
_GRACE = 5.0
_SETTINGS: dict[Capability, tuple[str, object]] = {
    Capability.MEMORY_LIMIT: ("memory", 64 * _MIB),
    Capability.CPU_LIMIT: ("cpus", 1.0),
    Capability.PIDS_LIMIT: ("pids", 50),
    Capability.READ_ONLY: ("read_only", True),
    Capability.CAPABILITIES: ("drop_capabilities", ("ALL",)),
    Capability.NO_NEW_PRIVILEGES: ("no_new_privileges", True),
    Capability.INIT: ("init", True),
    Capability.HOSTNAME: ("hostname", "named"),
    Capability.USER: ("user", "1000:1000"),
    Capability.NETWORK_NONE: ("network", "none"),
    Capability.NETWORK_HOST: ("network", "host"),
    Capability.NETWORK_NAMED: ("network", "some-network"),
    Capability.VOLUMES: ("mounts", (Mount(kind="volume", source="some-volume", target="/volume"),)),
    Capability.TMPFS: ("mounts", (Mount(kind="tmpfs", target="/scratch"),)),
}
"""For each capability that a `ContainerSpec` can ask for, a setting that does."""
_BURN = """
read -r now _ < /proc/uptime; end=$(( ${now%.*} + 4 ))
while [ "${now%.*}" -lt "$end" ]; do read -r now _ < /proc/uptime; done
read -r line < /proc/self/stat; set -- ${line#*) }; echo "$(( ${12} + ${13} ))"
"""


class EnforcedCases(Cases):
    """Declared capabilities, seen from inside."""

    def test_honesty_pids(self, make: Maker) -> None:
        box = make.running(pids=30)
        script = "i=0; while [ $i -lt 60 ]; do sleep 1000 >/dev/null 2>&1 & echo started; i=$((i+1)); done"
        started = box.shell(script).stdout.count(b"started")

        assert 1 <= started < 30

    def test_honesty_memory(self, make: Maker) -> None:
        box = make.running(memory=_MEMORY)
        greedy = box.shell("head -c 400000000 /dev/zero | tail -c 300000000 | wc -c", timeout=60)

        assert b"300000000" != greedy.stdout.strip()
        assert "modest" == box.says("echo modest")

    def test_honesty_cpus(self, make: Maker) -> None:
        box = make.running(cpus=1.0)
        used = sum(map(int, box.says('for i in 1 2 3; do sh -c "$1" & done; wait', _BURN).split()))

        # In hundredths of a second, as clock ticks are on Linux; the loops run for three to four seconds.
        assert used < 400 * 1.25

    def test_honesty_read_only(self, make: Maker, kit_folder: Path) -> None:
        box = make.running(read_only=True, mounts=(make.bind(kit_folder),))
        results = [box.shell(f"echo x > {path}").exit_code for path in ("/kit/new", "/kit/data", "/new", "/etc/passwd")]

        assert 0 not in results
        assert "x" == box.says("echo x > /shared/new; cat /shared/new")

    def test_honesty_capabilities(self, make: Maker) -> None:
        box = make.running(drop_capabilities=("ALL",), add_capabilities=("CHOWN", "KILL"))
        asked = _mask(0, 5)
        found = {box.status(field, process) for field in ("CapEff", "CapBnd", "CapPrm") for process in ("1", "self")}

        assert {asked} == found

    def test_honesty_capabilities_dropped_one(self, make: Maker) -> None:
        before = int(make.running().status("CapBnd"), 16)
        after = int(make.running(drop_capabilities=("CHOWN",)).status("CapBnd"), 16)

        assert before & ~1 == after

    def test_honesty_no_new_privileges(self, make: Maker) -> None:
        box = make.running(no_new_privileges=True)

        assert ("1", "1") == (box.status("NoNewPrivs", "1"), box.status("NoNewPrivs"))

    def test_honesty_init(self, runtime: Runtime, make: Maker) -> None:
        box = make.running("/bin/sleep", "1000", init=True)
        started = time.monotonic()
        stopped = runtime.stop(box.id, grace=_GRACE)
        took = time.monotonic() - started

        # A sleep that is process 1 itself does not react to the stop signal: after the grace it is killed.
        assert make.stage.exit_code(128 + 15) == stopped.exit_code
        assert took < _GRACE

    def test_honesty_hostname(self, make: Maker) -> None:
        box = make.running(hostname="kit-host")

        assert ("kit-host", "kit-host") == (box.says("hostname"), box.says("cat /etc/hostname"))

    def test_honesty_network_none(self, make: Maker) -> None:
        box = make.running(network="none")

        assert "lo" == box.says("ls /sys/class/net")
        assert "" == box.inspect().ip_address

    def test_honesty_network_host(self, make: Maker) -> None:
        one, other, apart = make.running(network="host"), make.running(network="host"), make.running()
        spaces = [box.says("readlink /proc/self/ns/net") for box in (one, other, apart)]

        assert spaces[0] == spaces[1] != spaces[2]

    def test_honesty_network_named(self, make: Maker) -> None:
        with pytest.raises((InvalidSpecError, StartFailedError)):
            make.running(network=f"kit-{unique()}")

        assert [] == make.listed(running_only=True)

    def test_honesty_rootless(self, make: Maker, kit_folder: Path) -> None:
        box = make.running(mounts=(make.bind(kit_folder),))
        box.says("id -u; touch /shared/made")

        assert os.geteuid() == (kit_folder / "made").stat().st_uid

    def test_honesty_vm(self, make: Maker) -> None:
        boots = {make.running().says("cat /proc/sys/kernel/random/boot_id") for _ in range(2)}

        assert 2 == len(boots)

    def test_honesty_all_at_once(self, make: Maker) -> None:
        wished = {
            "pids": 100,
            "init": True,
            "no_new_privileges": True,
            "memory": _MEMORY,
            "hostname": "kit-host",
        }
        box = make.running(**wished, preferred=frozenset(wished))

        assert "works" == box.says("echo works")


class UndeclaredCases(Cases):
    """Capabilities that are not declared."""

    def test_honesty_required_refused(self, runtime: Runtime, make: Maker) -> None:
        relay = Relay(runtime, frozenset(_SETTINGS))
        face = relay.face()
        for capability, (name, value) in _SETTINGS.items():
            with pytest.raises(UnsupportedError) as refused:
                face.create(make.spec(**{name: value}))

            assert (capability.value, runtime.name) == (refused.value.capability, refused.value.runtime)
        assert [] == relay.calls
        assert [] == make.listed()

    def test_honesty_lacking_refused(self, runtime: Runtime, make: Maker) -> None:
        lacking = sorted(set(_SETTINGS) - runtime.capabilities())
        for capability in lacking:
            name, value = _SETTINGS[capability]
            with pytest.raises(UnsupportedError) as refused:
                make.created(**{name: value})

            assert capability.value == refused.value.capability
        assert [] == make.listed()

    def test_honesty_preferred_listed(self, runtime: Runtime, make: Maker) -> None:
        withheld = frozenset(_SETTINGS) - {Capability.VOLUMES, Capability.TMPFS, Capability.NETWORK_HOST}
        wished = {name: value for name, value in (_SETTINGS[one] for one in withheld) if name != "network"}
        relay = Relay(runtime, withheld)
        spec = make.spec(**wished, network="none", preferred=frozenset({*wished, "network"}))
        made = relay.face().create(spec)
        left_out = tuple(sorted((*wished, "network")))

        assert (None, None, False, "default") == (
            relay.created[0].memory,
            relay.created[0].hostname,
            relay.created[0].read_only,
            relay.created[0].network,
        )
        assert [left_out] * 3 == [
            made.not_enforced,
            runtime.inspect(made.id).not_enforced,
            make.listed()[0].not_enforced,
        ]

    def test_honesty_preferred_enforced(self, make: Maker) -> None:
        box = make.running(no_new_privileges=True, preferred=frozenset({"no_new_privileges"}))

        assert "1" == box.status("NoNewPrivs")
        assert () == box.inspect().not_enforced

    def test_honesty_calls_refused(self, runtime: Runtime, box: Box) -> None:
        relay = Relay(runtime, frozenset(Capability))
        face = relay.face()
        true = ("/bin/true",)
        calls: dict[Capability, Callable[[], object]] = {
            Capability.TTY: lambda: face.exec(box.id, ExecSpec(command=true, tty=True)),
            Capability.USER: lambda: face.open_exec(box.id, ExecSpec(command=true, user="0")),
            Capability.LOGS_FOLLOW: lambda: face.logs(box.id, LogSpec(follow=True)),
        }
        for capability, call in calls.items():
            with pytest.raises(UnsupportedError) as refused:
                call()

            assert capability.value == refused.value.capability
        assert [] == relay.calls


class DefaultCases(Cases):
    """What nobody has to ask for, and what Oubliette asks for everywhere."""

    def test_defaults_hardened(self, make: Maker) -> None:
        wished = {
            "drop_capabilities": ("ALL",),
            "add_capabilities": ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"),
            "no_new_privileges": True,
            "pids": 200,
            "init": True,
        }
        box = make.running(**wished, preferred=frozenset(wished))
        left_out = box.inspect().not_enforced
        seen = {"no_new_privileges": box.status("NoNewPrivs"), "drop_capabilities": box.status("CapEff")}
        expected = {"no_new_privileges": "1", "drop_capabilities": _mask(0, 1, 3, 5, 6, 7)}

        assert {name: expected[name] for name in seen if name not in left_out} == {
            name: value for name, value in seen.items() if name not in left_out
        }
        assert "works" == box.says("echo works")

    def test_defaults_no_engine_socket(self, box: Box) -> None:
        found = box.shell("ls -d /var/run/*.sock /run/*.sock /var/run/docker* /run/containerd* 2>/dev/null").stdout

        assert found == b""

    def test_defaults_own_processes(self, box: Box) -> None:
        own = Path("/proc/self/cmdline")
        words = own.read_bytes() if own.exists() else b"no such machine"

        assert words not in box.shell("cat /proc/[0-9]*/cmdline 2>/dev/null; :").stdout
        assert int(box.says("ls -d /proc/[0-9]* | wc -l")) < 200

    def test_defaults_own_files(self, box: Box, kit_folder: Path) -> None:
        (kit_folder / "secret").write_text("outside", encoding="ascii")

        assert box.run("/bin/cat", str(kit_folder / "secret")).exit_code != 0

    def test_defaults_no_devices(self, box: Box) -> None:
        assert "" == box.says("ls -d /dev/mem /dev/kmem /dev/sd* /dev/vd* /dev/nvme* /dev/kvm 2>/dev/null; :")

    def test_defaults_not_privileged(self, box: Box) -> None:
        full = (1 << 38) - 1

        assert int(box.status("CapEff"), 16) & full != full
        assert box.shell("mkdir -p /kit/mount; mount -t tmpfs none /kit/mount").exit_code != 0


def _mask(*bits: int) -> str:
    """Write a set of Linux capabilities, by number, as the kernel does."""
    return f"{sum(1 << bit for bit in bits):016x}"
