"""What a container has in its hands, and what it reaches for in vain."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from oubliette_core.errors import StartFailedError
from oubliette_core.models import ContainerSpec, ExecSpec, Mount
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import File, files_layer
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import eventually
from oubliette_embedded._seccomp import FORBIDDEN
from tests.embedded.conftest import Boxes, Bring
from tests.embedded.programs import system_call

_MACHINE = 0 if os.uname().machine == "x86_64" else 1
_AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only where all users are mapped, which takes root")
_GETPID, _CLONE, _CLONE3, _UNSHARE, _SOCKET, _IOCTL, _PERSONALITY = (
    numbers[_MACHINE] for numbers in ((39, 172), (56, 220), (435, 435), (272, 97), (41, 198), (16, 29), (135, 92))
)
_NEW_USER, _NEW_NET = 0x10000000, 0x40000000


def call(name: str, *arguments: int | bytes) -> bytes:
    """Make a program that makes a forbidden call."""
    number = FORBIDDEN[name][_MACHINE]
    assert number is not None
    return system_call(number, *arguments)


PROGRAMS: dict[str, tuple[bytes, int]] = {
    "allowed": (system_call(_GETPID), 0),
    "ptrace": (call("ptrace", 0), errno.EPERM),
    "process_vm_readv": (call("process_vm_readv", 1), errno.EPERM),
    "mount": (call("mount", b"none", b"/mnt", b"tmpfs", 0), errno.EPERM),
    "umount2": (call("umount2", b"/proc/sys", 0), errno.EPERM),
    "pivot_root": (call("pivot_root", b"/", b"/"), errno.EPERM),
    "move_mount": (call("move_mount"), errno.EPERM),
    "open_tree": (call("open_tree", -100 & (2**64 - 1), b"/", 1), errno.EPERM),
    "fsopen": (call("fsopen", b"tmpfs", 0), errno.EPERM),
    "keyctl": (call("keyctl", 0, -3 & (2**64 - 1), 1), errno.EPERM),
    "add_key": (call("add_key", b"user", b"name", b"data", 4, -3 & (2**64 - 1)), errno.EPERM),
    "setns": (call("setns", 0, 0), errno.EPERM),
    "bpf": (call("bpf"), errno.EPERM),
    "perf_event_open": (call("perf_event_open"), errno.EPERM),
    "userfaultfd": (call("userfaultfd"), errno.EPERM),
    "io_uring_setup": (call("io_uring_setup"), errno.EPERM),
    "open_by_handle_at": (call("open_by_handle_at"), errno.EPERM),
    "init_module": (call("init_module"), errno.EPERM),
    "kexec_load": (call("kexec_load"), errno.EPERM),
    "reboot": (call("reboot"), errno.EPERM),
    "syslog": (call("syslog", 10), errno.EPERM),
    "clock_settime": (call("clock_settime"), errno.EPERM),
    "unshare-user": (system_call(_UNSHARE, _NEW_USER), errno.EPERM),
    "unshare-net": (system_call(_UNSHARE, _NEW_NET), errno.EPERM),
    "clone-user": (system_call(_CLONE, _NEW_USER | 17), errno.EPERM),
    "clone3": (system_call(_CLONE3), errno.ENOSYS),
    "unknown": (system_call(600), errno.ENOSYS),
    "vsock": (system_call(_SOCKET, 40, 1, 0), errno.EAFNOSUPPORT),
    "type-into-terminal": (system_call(_IOCTL, 0, 0x5412, b"x"), errno.EPERM),
    "personality": (system_call(_PERSONALITY, 0x0400000), errno.EPERM),  # addresses that are not random
    "personality-asked": (system_call(_PERSONALITY, 0xFFFFFFFF), 0),
}
"""By name: a program, and the error that it has to get; 0 for none."""


def test_system_calls_that_lead_out_are_refused(bring: Bring, boxes: Boxes) -> None:
    """Each of them, to the superuser of the container, in a command and in the main process alike."""
    files = {f"/try/{name}": File(content=program, mode=0o755) for name, (program, _) in PROGRAMS.items()}
    image = bring(layers=[files_layer({"/try": File(mode=0o755), **files})])
    box = boxes(image=image)
    found = {name: box.run(f"/try/{name}").exit_code for name in PROGRAMS}
    script = "cd /try; for p in *; do ./$p; echo $p $?; done; exec sleep 1000"
    main = boxes(image=image, entrypoint=("/bin/sh", "-c", script))
    printed = _wait_for(main, b"vsock ")

    assert {name: code for name, (_, code) in PROGRAMS.items()} == found
    assert [f"{name} {PROGRAMS[name][1]}" for name in sorted(PROGRAMS)] == printed.splitlines()


def _wait_for(box: Box, end: bytes) -> str:
    """Read what a main process prints until the line that begins so."""

    def look() -> bytes:
        printed = b"".join(box.runtime.logs(box.id))
        return printed if b"\n" + end in printed and printed.endswith(b"\n") else b""

    return eventually(look).decode()


def test_no_process_has_more_than_it_must(boxes: Boxes) -> None:
    """Main process and commands: no capability, none to be had, nothing to be gained by executing, and a filter."""
    for box in (boxes(), boxes(init=True)):
        wanted = {"CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16, "CapInh": "0" * 16}
        wanted |= {"NoNewPrivs": "1", "Seccomp": "2"}
        for process in ("1", "self"):
            assert wanted == {name: box.status(name, process) for name in wanted}, process


def test_a_command_is_where_the_main_process_is(box: Box) -> None:
    """In its namespaces, all but the one that commands are told apart by."""
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts")
    script = 'for kind in "$@"; do readlink /proc/$PID/ns/$kind; done'

    assert box.says(script, *kinds, env={"PID": "1"}) == box.says(script, *kinds, env={"PID": "self"})


def test_namespaces_are_not_this_machines(box: Box) -> None:
    """None of them is shared with the outside."""
    kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
    inside = box.says('for kind in "$@"; do readlink /proc/self/ns/$kind; done', *kinds).split()

    assert set() == {str(Path(f"/proc/self/ns/{kind}").readlink()) for kind in kinds} & set(inside)


def test_nothing_is_inherited_but_the_streams(box: Box) -> None:
    """No descriptor, by which the outside could be reached, and no variable."""
    os.environ["OUBLIETTE_TEST_SECRET"] = "not for containers"
    try:
        env = box.says("env")
    finally:
        del os.environ["OUBLIETTE_TEST_SECRET"]
    names = {line.partition("=")[0] for line in env.splitlines()}

    assert "0 1 2" == box.says("echo /proc/1/fd/* | sed 's,/proc/1/fd/,,g'")
    assert ["0", "1", "2"] == box.says("ls /proc/$$/fd; :").split()
    assert {"HOME", "HOSTNAME", "PATH", "PWD", "SHLVL"} >= names


def test_signals_do_what_they_do_by_default(box: Box) -> None:
    """Python ignores some, and a shell may have had others ignored: that does not get into containers."""
    command = box.run("/bin/grep", "-E", "^Sig(Ign|Blk):", "/proc/self/status").stdout.decode().split()

    assert ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16] == command


def test_settings_of_the_kernel_cannot_be_written(box: Box) -> None:
    """Neither those of the whole machine nor the way to them."""
    before = Path("/proc/sys/kernel/core_pattern").read_bytes()
    script = """
    for file in sys/kernel/core_pattern sys/vm/drop_caches sys/kernel/hostname sysrq-trigger; do
        if echo x >/proc/$file; then echo wrote $file; fi
    done 2>/dev/null
    """

    assert "" == box.says(f"{script}:")
    assert before == Path("/proc/sys/kernel/core_pattern").read_bytes()


def test_what_the_kernel_tells_too_much_is_hidden(box: Box) -> None:
    """Files are empty, directories have nothing in them."""
    files = "for f in kcore keys timer_list sched_debug latency_stats kpageflags; do cat /proc/$f; done 2>/dev/null"

    assert "" == box.says(f"{files}; ls /proc/scsi /proc/acpi /sys/firmware 2>/dev/null | grep -v ':$'; :")


def test_the_system_files_are_those_of_the_own_network(boxes: Boxes) -> None:
    """And cannot be written."""
    box = boxes(network="none")

    assert "lo" == box.says("ls /sys/class/net")
    assert box.shell("echo 1 > /sys/class/net/lo/mtu").exit_code != 0


def test_devices_are_the_harmless_ones(box: Box) -> None:
    """None can be made, either."""
    found = set(box.says("ls /dev").split())
    files = {"console", "fd", "mqueue", "pts", "shm", "stderr", "stdin", "stdout"}

    assert found <= files | {"core", "full", "null", "ptmx", "random", "tty", "urandom", "zero"}
    assert box.shell("mknod /tmp/disk b 254 0").exit_code != 0
    assert box.shell("mknod /tmp/memory c 1 1").exit_code != 0


def test_the_first_processs_root_is_the_containers(box: Box) -> None:
    """``/proc/1/root`` leads to nowhere else, and neither does its working directory."""
    assert box.says("ls -id /") == box.says("ls -id /proc/1/root/.").replace("/proc/1/root/.", "/")
    assert box.says("cat /etc/oubliette-image") == box.says("cat /proc/1/cwd/etc/oubliette-image")


def test_processes_of_the_machine_are_out_of_sight_and_reach(box: Box) -> None:
    """There is nothing to see of them, and killing everything kills what is in the container."""
    own = str(os.getpid())
    cmdlines = box.shell("cat /proc/[0-9]*/cmdline").stdout

    assert Path("/proc/self/cmdline").read_bytes() not in cmdlines
    assert b"oubliette" not in cmdlines
    box.shell(f"kill -9 {own} 1; kill -9 -1")
    assert box.inspect().running
    assert Path(f"/proc/{own}").exists()


def test_files_of_the_machine_are_not_there(box: Box, tmp_path: Path) -> None:
    """Not by their path, nor by the path under which the sandbox was made."""
    (tmp_path / "secret").write_text("outside", encoding="ascii")
    places = (str(tmp_path), f"/oldroot{tmp_path}", f"/newroot{tmp_path}", f"/proc/1/root/oldroot{tmp_path}")

    assert [b""] * 4 == [box.shell(f"cat {place}/secret 2>/dev/null").stdout for place in places]
    assert "" == box.says("ls -d /oldroot /newroot 2>/dev/null; :")


def test_what_listens_on_this_machine_cannot_be_reached(box: Box) -> None:
    """Neither by its loopback address nor by an abstract socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        assert box.shell(f"nc -w 2 127.0.0.1 {port} </dev/null").exit_code != 0


def test_a_program_that_links_to_its_predecessor_gets_a_copy(bring: Bring, boxes: Boxes) -> None:
    """``/proc/self/exe`` of what executes a command is nothing of this machine: it lies in memory, unchangeable."""
    links = {"/bin/again": File(link="/proc/self/exe"), "/bin/script": File(content=b"#!/proc/self/exe\n", mode=0o755)}
    image = bring(layers=[files_layer(links)])
    box = boxes(image=image)
    crashed = 128 + 11  # it is called without what it expects

    assert [crashed, crashed] == [box.run("/bin/again").exit_code, box.run("/bin/script").exit_code]
    with pytest.raises(StartFailedError) as failed:
        boxes(image=image, entrypoint=("/bin/again",))
    assert crashed == failed.value.exit_code


def test_the_init_process_is_a_copy(boxes: Boxes) -> None:
    """With an init process it is bubblewrap's program that can be reached, from memory, and not be written."""
    box = boxes(init=True)

    assert "/memfd:bwrap (deleted)" == box.says("readlink /proc/1/exe")
    assert box.shell("echo x > /proc/1/exe").exit_code != 0
    assert box.shell("sleep 5 & exec 3>/proc/1/exe").exit_code != 0


@_AS_ROOT
def test_a_setuid_program_gives_nothing(bring: Bring, boxes: Boxes, busybox: Path) -> None:
    """Be it of the image, or made by the superuser of the container."""
    program = File(content=busybox.read_bytes(), mode=0o4755)
    box = boxes(image=bring(layers=[files_layer({"/bin/busybox-of-image": program})]))
    box.says("cp /bin/busybox /bin/busybox-made && chmod 4755 /bin/busybox-made")
    made = box.says("stat -c %a /bin/busybox-made")
    found = [box.run(f"/bin/busybox-{one}", "id", "-u", user="1000:1000").stdout for one in ("of-image", "made")]

    assert ("4755", [b"1000\n", b"1000\n"]) == (made, found)


@_AS_ROOT
def test_other_users_of_the_container_are_real(box: Box) -> None:
    """What belongs to one is closed to the other, and their files have the same owners outside."""
    box.says("echo secret > /kept; chmod 600 /kept")

    assert box.run("/bin/cat", "/kept", user="1000:1000").exit_code == 1
    assert b"1000 1000\n" == box.run("/bin/stat", "-c", "%u %g", "/home/agent").stdout


def test_links_of_an_image_do_not_lead_mounts_out(bring: Bring, boxes: Boxes, tmp_path: Path) -> None:
    """A mount goes to where a link leads inside of the image; nothing is made outside."""
    outside, shared = tmp_path / "outside", tmp_path / "shared"
    outside.mkdir()
    shared.mkdir()
    (shared / "given").write_text("given", encoding="ascii")
    links = {
        "/etc/hosts": File(link=f"/oldroot{outside}/hosts"),
        "/etc/resolv.conf": File(link="../../../../../run/deep/resolv.conf"),
        "/job": File(link=f"/oldroot{outside}/job"),
        "/climb": File(link=f"../../..{outside}/climb"),
    }
    image = bring(layers=[files_layer(links)])
    box = boxes(image=image, mounts=tuple(Mount(source=str(shared), target=name) for name in ("/job", "/climb")))

    assert ["given", "given"] == [box.says("cat /job/given"), box.says("cat /climb/given")]
    assert [] == list(outside.iterdir())
    assert "localhost" in box.says("cat /etc/hosts")


def test_links_in_a_mount_do_not_lead_other_mounts_out(runtime: Runtime, image: str, tmp_path: Path) -> None:
    """What a container can write to may have any link in it by the next start: that is refused."""
    outside, shared = tmp_path / "outside", tmp_path / "shared"
    outside.mkdir()
    shared.mkdir()
    (shared / "inner").symlink_to(f"/oldroot{outside}")
    mounts = (Mount(source=str(shared), target="/shared"), Mount(kind="tmpfs", target="/shared/inner/new"))
    container = runtime.create(ContainerSpec(image=image, mounts=mounts))
    with pytest.raises(StartFailedError) as failed:
        runtime.start(container.id)

    assert "symbolic link" in failed.value.message
    assert [] == list(outside.iterdir())


def test_files_of_users_that_a_container_made_are_only_read(boxes: Boxes, box: Box) -> None:
    """A user file that is a pipe, a device or a link somewhere does no harm."""
    box.says("rm /etc/passwd /etc/group; mkfifo /etc/passwd; ln -s /proc/1/environ /etc/group")

    assert b"fine\n" == box.run("/bin/echo", "fine", timeout=20).stdout
    box.runtime.stop(box.id, grace=0)
    assert box.runtime.start(box.id).running


def test_a_working_directory_that_became_a_link_does_not_lead_out(boxes: Boxes) -> None:
    """At the next start it is what it leads to inside."""
    box = boxes(workdir="/job/here")
    box.says("cd /; rmdir /job/here; ln -s / /job/here")
    box.runtime.stop(box.id, grace=0)
    box.runtime.start(box.id)

    assert "bin" in box.says("ls").split()
    spec = ExecSpec(command=("/bin/ls",), workdir="/job/here/..")
    with pytest.raises(Exception, match="must not contain"):
        box.runtime.exec(box.id, spec)
