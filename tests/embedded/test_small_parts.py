"""The small parts: messages, users, records, layers seen as one, the filter, supervisors, options, control groups."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette_core.errors import ConfigError, InvalidSpecError
from oubliette_core.models import Mount
from oubliette_core.testing.kit.calls import eventually
from oubliette_embedded._cgroups import find_control_groups
from oubliette_embedded._definition import Definition
from oubliette_embedded._merged import Merged
from oubliette_embedded._network import find_way
from oubliette_embedded._options import Options, parse_options
from oubliette_embedded._seccomp import FORBIDDEN, seccomp_program
from oubliette_embedded._specs import CAPABILITIES, mask
from oubliette_embedded._summoning import Summoner
from oubliette_embedded.supervisor.plan import Plan
from oubliette_embedded.supervisor.record import is_held, start_time, write_record
from oubliette_embedded.supervisor.users import User, find_user
from oubliette_embedded.supervisor.words import pack, unpack

WORDS = st.lists(st.binary(max_size=20).map(lambda word: word.replace(b"\0", b"")), max_size=6)
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1001::/home/agent:/bin/sh\nbroken\nodd:x:a:b:::\n"
GROUP = b"root:x:0:\nstaff:x:50:agent,other\ndocker:x:999:agent\n:::\n"


def definition(**fields: object) -> Definition:
    """Make a definition."""
    plain: dict[str, object] = {
        "id": "a" * 32,
        "name": "box",
        "image": "app:1",
        "image_id": "sha256:0",
        "labels": {"a": "b"},
        "created_at": 1.5,
        "mounts": (Mount(source="/x", target="/y", read_only=True),),
        "argv": ("sh", "-c", "grüße"),
        "env": {"A": "b\n"},
        "workdir": "/",
        "user": "",
        "stop_signal": 15,
        "network": "default",
        "init": True,
        "read_only": False,
        "capabilities": ("CHOWN",),
        "hostname": "box",
        "memory": None,
        "cpus": None,
        "pids": 7,
    }
    return Definition(**{**plain, **fields})  # type: ignore[arg-type]


@given(st.lists(WORDS, max_size=5))
def test_messages_are_read_as_they_were_written(lists: list[list[bytes]]) -> None:
    """Whatever words they have."""
    assert lists == unpack(pack(*lists))


@given(st.binary(max_size=60))
def test_what_is_no_message_is_refused(data: bytes) -> None:
    """It is a message, or a `ValueError`."""
    try:
        lists = unpack(data)
    except (ValueError, RuntimeError):
        return

    assert data == pack(*lists)


def test_a_plan_is_read_as_it_was_written() -> None:
    """Every field of it."""
    plan = Plan(
        directory=b"/d",
        argv=[b"sh"],
        env=[b"A=b"],
        workdir=b"/",
        user=User(1, 2, [3, 4], "/home"),
        mapped=True,
        capabilities=5,
        stop_signal=15,
        processes=9,
        init=False,
        own_network=True,
        network=[b"pasta"],
        address="10.0.2.100",
        groups=[b"/g"],
        memory_group=b"/m",
        oom_file=b"memory.events",
        output_limit=100,
    )
    found = Plan.read(plan.write())

    assert vars(plan.user) == vars(found.user)
    assert {**vars(plan), "user": None} == {**vars(found), "user": None}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("0", (0, 0, [0], "/root")),
        ("root", (0, 0, [0], "/root")),
        ("agent", (1000, 1001, [1001, 50, 999], "/home/agent")),
        ("1000", (1000, 1001, [1001, 50, 999], "/home/agent")),
        ("agent:staff", (1000, 50, [50], "/home/agent")),
        ("1000:7", (1000, 7, [7], "/home/agent")),
        ("4711", (4711, 0, [0], "/")),
        ("nobody", None),
        ("agent:nobody", None),
        ("odd", None),
        ("4294967295", None),
    ],
)
def test_users_are_those_of_the_image(wanted: str, expected: tuple[int, int, list[int], str] | None) -> None:
    """By name or number, with the groups of theirs or the one that is given; lines that make no sense are no users."""
    found = find_user(wanted, PASSWD, GROUP)

    assert expected == (found and (found.uid, found.gid, found.groups, found.home))


@given(st.text(max_size=12), st.binary(max_size=60), st.binary(max_size=60))
def test_any_user_file_can_be_read(wanted: str, passwd: bytes, group: bytes) -> None:
    """It gives a user or none, and nothing else."""
    found = find_user(wanted, passwd, group)

    assert found is None or (found.uid >= 0 and found.gid >= 0)


def test_a_definition_is_read_as_it_was_written() -> None:
    """And what is none is a `ValueError`."""
    one = definition()

    assert one == Definition.from_json(one.as_json())
    for text in (b"", b"[]", b"{}", b"null", b'{"mounts": 5}'):
        with pytest.raises(ValueError):  # noqa: PT011 - any will do
            Definition.from_json(text)


def test_a_record_is_whole_json(tmp_path: Path) -> None:
    """It replaces the one before at a stroke."""
    directory = os.open(tmp_path, os.O_RDONLY)
    fields: dict[str, str | float | list[int]] = {
        "status": "exited",
        "exit_code": 3,
        "ok": True,
        "first": [1, 2],
        "at": 1.5,
    }
    write_record(directory, {"status": "running"}, durable=False)
    write_record(directory, fields, durable=True)
    os.close(directory)

    assert fields == json.loads((tmp_path / "run.json").read_bytes())
    assert ["run.json"] == [path.name for path in tmp_path.iterdir()]


def test_a_life_is_held_until_its_process_ends(tmp_path: Path) -> None:
    """To ask does not take it, and what the process forked and left behind does not hold it."""
    path = str(tmp_path / "alive")
    before = is_held(path)
    script = (
        "import os, sys; from oubliette_embedded.supervisor.record import hold_life; hold_life(sys.argv[1])\n"
        "if os.fork(): print('held', flush=True); os.read(0, 1)\n"
        "else: os.read(int(sys.argv[2]), 1)"
    )
    waits, ends = os.pipe()
    command = [sys.executable, "-c", script, path, str(waits)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[waits]) as holder:
        assert holder.stdout is not None
        assert b"held\n" == holder.stdout.readline()
        during = [is_held(path), is_held(path)]
        holder.kill()
    after = is_held(path)
    for descriptor in (ends, waits):
        os.close(descriptor)

    assert (False, [True, True], False) == (before, during, after)


def test_the_start_of_a_process_tells_it_from_others() -> None:
    """There is none of process 0."""
    assert start_time(os.getpid()) > 0
    assert start_time(0) == 0


class TestMerged:
    """Layers as the overlay shows them."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Merged:
        """Three layers, in which much is changed."""
        bottom, middle, top = (tmp_path / name for name in ("bottom", "middle", "top"))
        for path, text in {
            bottom / "etc/passwd": "bottom",
            bottom / "etc/only": "bottom",
            bottom / "opt/gone/file": "bottom",
            bottom / "var/hidden/file": "bottom",
            middle / "etc/passwd": "middle",
            top / "var/hidden/new": "top",
        }.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
        (top / "opt").mkdir()
        os.mknod(top / "opt/gone", 0o020000, os.makedev(0, 0))
        os.setxattr(top / "var/hidden", "user.overlay.opaque", b"y")
        (top / "link").symlink_to("/etc/../etc")
        (top / "out").symlink_to("../../../../etc/only")
        (top / "round").symlink_to("round")
        (bottom / "etc/pipe").parent.mkdir(exist_ok=True)
        os.mkfifo(bottom / "etc/pipe")
        return Merged((top, middle, bottom))

    def test_the_upper_file_is_seen(self, tree: Merged) -> None:
        """And a lower one where there is no other."""
        assert (b"middle", b"bot") == (tree.read("/etc/passwd", 99), tree.read("/etc/only", 3))

    def test_what_was_removed_is_not(self, tree: Merged) -> None:
        """Nor what an opaque directory hides."""
        found = [tree.read(path, 99) for path in ("/opt/gone/file", "/var/hidden/file", "/var/hidden/new")]

        assert [b"", b"", b"top"] == found

    def test_links_stay_inside(self, tree: Merged) -> None:
        """However far they climb."""
        assert "/etc/passwd" == tree.resolve("/link/passwd")
        assert "/etc/only" == tree.resolve("/out")
        assert b"bottom" == tree.read("out", 99)
        assert "/no/such/place" == tree.resolve("/no/./such/x/../place")

    def test_what_is_no_way_is_refused(self, tree: Merged) -> None:
        """Circles, and files taken for directories."""
        for path in ("/round", "/etc/passwd/x"):
            with pytest.raises(InvalidSpecError):
                tree.resolve(path)
        assert b"" == tree.read("/round", 9)

    def test_what_is_no_file_is_not_read(self, tree: Merged) -> None:
        """Reading a pipe would wait for ever."""
        assert [b"", b""] == [tree.read("/etc/pipe", 9), tree.read("/etc", 9)]


def test_the_filter_is_one_that_the_kernel_takes() -> None:
    """Each jump stays inside, and it ends with an answer."""
    for machine in ("x86_64", "aarch64"):
        program = seccomp_program(machine)
        rows = [struct.unpack("<HBBI", program[at : at + 8]) for at in range(0, len(program), 8)]

        assert len(rows) < 4096
        assert rows[-1][0] == 0x06
        assert all(at + 1 + max(row[1], row[2]) < len(rows) for at, row in enumerate(rows[:-1]))


def test_the_numbers_of_calls_are_the_kernels() -> None:
    """As far as this machine's headers know them."""
    header = Path("/usr/include/asm-generic/unistd.h")
    x86 = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not (header.exists() and x86.exists()):
        pytest.skip("there are no kernel headers here (linux-libc-dev)")
    known = {}
    for place, file in ((0, x86), (1, header)):
        words = [line.split()[:3] for line in file.read_text(encoding="utf-8").splitlines() if "__NR_" in line]
        pairs = [(row[1].removeprefix("__NR_").removeprefix("__NR3264_"), row[2]) for row in words if len(row) == 3]
        known.update({(place, name): int(number) for name, number in pairs if number.isdigit()})
    wrong = {
        name: numbers
        for name, numbers in FORBIDDEN.items()
        for place in (0, 1)
        if (place, name) in known and known[place, name] != numbers[place]
    }

    assert {} == wrong
    assert len(known) > 500


def test_capabilities_have_the_kernels_numbers() -> None:
    """And make up a mask."""
    assert 0b100001 == mask(("CHOWN", "KILL"))
    assert 0 == mask(())
    assert not {"SYS_ADMIN", "SYS_PTRACE", "SYS_MODULE", "SYS_RAWIO", "MKNOD"} & CAPABILITIES.keys()


def _start_twice(summoner: Summoner) -> None:
    for _ in range(2):
        summoner.summon().close()
        with summoner.preparing():
            pass


def test_who_goes_on_starting_containers_gets_the_next_supervisor_prepared() -> None:
    """It is there when it is wanted, and is let go of with its owner."""
    with contextlib.closing(Summoner()) as summoner:
        _start_twice(summoner)
        prepared = eventually(lambda: summoner._spare)

        assert prepared is not None
        assert prepared is summoner.summon()
        assert prepared.is_there
        prepared.close()


def test_no_supervisor_is_prepared_for_who_has_closed() -> None:
    """Also when the last start is just over."""
    before = {*threading.enumerate()}
    summoner = Summoner()
    _start_twice(summoner)
    summoner.close()
    for thread in {*threading.enumerate()} - before:
        thread.join()

    assert summoner._spare is None


def test_options_are_checked() -> None:
    """All that is wrong is told at once, by its path."""
    environ = {"HOME": "/home/me"}
    given_options = {"root": "/r", "bwrap": "/b", "host_network": True, "network": "none", "output_limit": 100_000}

    assert Path("/home/me/.local/share/oubliette/embedded") == parse_options({}, environ).root
    assert Path("/d/oubliette/embedded") == parse_options({}, {"XDG_DATA_HOME": "/d", **environ}).root
    assert Path("/home/me/.local/share/oubliette/embedded") == parse_options({}, {"XDG_DATA_HOME": "d", **environ}).root
    assert Options(root=Path("/r"), bwrap=Path("/b"), host_network=True, network="none", output_limit=100_000) == (
        parse_options(given_options, environ)
    )
    with pytest.raises(ConfigError) as failed:
        parse_options({"root": "relative", "network": "some", "host_network": 1, "output_limit": 5, "colour": "red"})
    assert 5 == len(failed.value.problems)
    assert all(problem.startswith("runtimes.embedded.") for problem in failed.value.problems)


def test_without_a_program_there_is_no_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The reason says what is missing, and the hint how to get it; one that is not wanted is not taken."""
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = find_way(Options(root=tmp_path))
    unwanted = find_way(Options(root=tmp_path, network="none"))

    assert ((), ()) == (missing.command, unwanted.command)
    assert "pasta or slirp4netns is not installed" in missing.reason
    assert "passt" in missing.hint
    assert "runtimes.embedded.network" in unwanted.reason


class TestControlGroups:
    """Where limits can be set, by what the kernel says of the mounts and of this process."""

    @pytest.fixture
    def machine(self, tmp_path: Path) -> Path:
        """A directory that stands for ``/proc/self``, and the group file system beside it."""
        (tmp_path / "proc").mkdir()
        return tmp_path

    @staticmethod
    def _write(machine: Path, mountinfo: str, cgroup: str) -> Path:
        (machine / "proc/mountinfo").write_text(mountinfo.format(top=machine), encoding="ascii")
        (machine / "proc/cgroup").write_text(cgroup, encoding="ascii")
        return machine / "proc"

    def _unified(self, machine: Path, handed_on: str) -> Path:
        above = machine / "cgroup/user.slice/app.slice"
        (above / "mine.scope").mkdir(parents=True)
        for directory in (above, above / "mine.scope"):
            (directory / "cgroup.procs").write_text("", encoding="ascii")
            (directory / "cgroup.subtree_control").write_text(handed_on, encoding="ascii")
        return self._write(
            machine,
            "30 20 0:26 / {top}/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/user.slice/app.slice/mine.scope\n",
        )

    def test_the_group_above_ours_that_hands_controllers_on(self, machine: Path) -> None:
        """Groups are made beside ours; what is set is what the definition says."""
        found = find_control_groups(self._unified(machine, "cpu memory pids\n"))
        made = found.make(definition(memory=1_000_000, cpus=1.5, pids=None))
        group = machine / "cgroup/user.slice/app.slice" / f"oubliette-{'a' * 32}"
        texts = {path.name: path.read_text(encoding="ascii") for path in group.iterdir()}

        assert {"cpu", "memory", "pids"} == found.controllers
        assert ((group,), group, "memory.events") == (made.limiting, made.memory, found.oom_file)
        assert {"memory.max": "1000000", "cpu.max": "150000 100000"} == texts

    def test_without_controllers_nothing_can_be_limited(self, machine: Path) -> None:
        """As for most users who log in."""
        assert frozenset() == find_control_groups(self._unified(machine, "\n")).controllers

    def test_the_older_version_has_a_tree_for_each(self, machine: Path) -> None:
        """Also seen from a container, which has but a part of it."""
        for name in ("memory", "pids"):
            (machine / name / "own").mkdir(parents=True)
            (machine / name / "own" / "cgroup.procs").write_text("", encoding="ascii")
        mounts = "".join(
            f"3{n} 20 0:2{n} /docker/x {{top}}/{name} rw - cgroup cgroup rw,{name}\n"
            for n, name in enumerate(("memory", "pids", "cpu"))
        )
        found = find_control_groups(
            self._write(machine, mounts, "4:memory:/docker/x/own\n8:pids:/docker/x/own\n1:cpu:/docker/x/own\n")
        )
        made = found.make(definition(memory=None, pids=5))

        assert {"memory", "pids"} == found.controllers
        assert [machine / "pids/own" / f"oubliette-{'a' * 32}"] == list(made.limiting)
        assert "5" == (made.limiting[0] / "pids.max").read_text(encoding="ascii")
        assert made.memory is not None

    def test_a_machine_without_control_groups(self, machine: Path) -> None:
        """Nothing is limited there."""
        assert frozenset() == find_control_groups(machine / "proc").controllers
