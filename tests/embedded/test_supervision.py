"""What keeps a container alive, what ends it, and what is found of it afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import RuntimeLostError, StartFailedError
from oubliette_core.models import Capability, ContainerSpec, ContainerStatus, ExecSpec, LogSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import File, files_layer
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import eventually, start, together
from oubliette_embedded import _exec
from oubliette_embedded.supervisor.loop import wait_readable
from oubliette_embedded.supervisor.requests import Connection
from oubliette_embedded.supervisor.service import SOCKET
from tests.embedded.conftest import Boxes, Bring

ROOT = Path(__file__).parents[2]
_LOST = 137


def run_of(root: Path, box: Box) -> dict[str, Any]:
    """Read what is written of a container's run."""
    found: dict[str, Any] = json.loads((root / "containers" / box.id / "run.json").read_bytes())
    return found


def kill(pid: int) -> None:
    """Kill a process and wait until it has ended."""
    descriptor = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not _alive(pid))
    os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except FileNotFoundError:
        return False


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def test_a_container_outlives_who_started_it(root: Path, image: str, runtime: Runtime) -> None:
    """It belongs to nobody's process, session or terminal."""
    container = runtime.create(ContainerSpec(image=image, name="outlives"))
    script = (
        "import sys; from oubliette_core.models import RuntimeSettings;"
        "from oubliette_core.plugins import build_runtime; from oubliette_embedded import EmbeddedRuntime;"
        "build_runtime('embedded', EmbeddedRuntime(RuntimeSettings(options={'root': sys.argv[1]}))).start('outlives')"
    )
    subprocess.run([sys.executable, "-c", script, str(root)], check=True, start_new_session=True)
    box = Box(runtime, container.id)
    supervisor = run_of(root, box)["supervisor"][0]

    assert "still here" == box.says("echo still here")
    assert os.getsid(supervisor) != os.getsid(0)


def test_the_container_ends_with_its_supervisor(root: Path, box: Box) -> None:
    """At once, with all that is in it; that is seen, its files are kept, and it can be started again."""
    box.says("echo kept > /kept; sleep 1234567 >/dev/null 2>&1 &")
    run = run_of(root, box)
    kill(run["supervisor"][0])

    assert eventually(lambda: not _alive(run["first"][0]), 5)
    seen = box.inspect()
    assert (ContainerStatus.EXITED, _LOST) == (seen.status, seen.exit_code)
    assert box.runtime.start(box.id).running
    assert "kept" == box.says("cat /kept")


def test_a_command_tells_that_the_supervisor_was_killed(root: Path, box: Box) -> None:
    """What it had printed is not lost with it, however much that is."""
    script = "head -c 500000 /dev/zero; : >/tmp/printed; sleep 1000"
    running = start(lambda: box.shell(script), "a command")
    assert eventually(lambda: box.shell("test -e /tmp/printed").exit_code == 0)
    kill(run_of(root, box)["supervisor"][0])
    outcome = running.outcome(20)

    assert isinstance(outcome, RuntimeLostError)
    assert (500_000, b"") == (len(outcome.stdout), outcome.stderr)


@pytest.mark.parametrize("tty", [False, True])
def test_a_supervisor_killed_before_it_told_of_the_start_loses_nothing(tmp_path: Path, tty: bool) -> None:
    """The command runs at once; what it prints meanwhile is in the pipe."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening, contextlib.chdir(tmp_path):
        listening.bind(SOCKET)
        listening.listen()
        running = start(lambda: _exec.run(tmp_path, ExecSpec(command=("printer",), tty=tty), None), "a command")
        supervisor, _ = listening.accept()
        with supervisor:
            assert wait_readable(supervisor.fileno(), 20)
            _, streams = Connection(supervisor).request()
            if streams:
                os.write(streams[1], b"so far")
            for stream in streams:
                os.close(stream)
        outcome = running.outcome(20)

    assert isinstance(outcome, RuntimeLostError)
    assert (b"" if tty else b"so far") == outcome.stdout


def test_the_container_ends_with_bubblewrap(root: Path, box: Box) -> None:
    """The supervisor sees it and writes it down."""
    supervisor = run_of(root, box)["supervisor"][0]
    bwrap = next(
        pid for pid in _children(supervisor) if b"bwrap" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    )
    kill(bwrap)
    eventually(lambda: not box.inspect().running)
    seen = box.inspect()

    assert (ContainerStatus.EXITED, _LOST) == (seen.status, seen.exit_code)
    assert eventually(lambda: not _alive(supervisor))


def test_what_a_killed_supervisor_left_is_killed_before_the_next_start(root: Path, boxes: Boxes) -> None:
    """A process that does not end with its parent would write into the same files as its successor."""
    box = boxes()
    run = run_of(root, box)
    # Stopped, it does not notice for now that it was killed.
    os.kill(run["first"][0], signal.SIGSTOP)
    kill(run["supervisor"][0])
    box.runtime.start(box.id)

    assert not _alive(run["first"][0])
    assert "again" == box.says("echo again")


def test_after_a_restart_of_the_machine_nothing_runs(root: Path, boxes: Boxes) -> None:
    """Whatever process has the numbers by then; the container can be started."""
    box = boxes()
    box.runtime.stop(box.id, grace=0)
    changed = {"status": "running", "boot": "of another time", "first": [os.getpid(), 1]}
    file = root / "containers" / box.id / "run.json"
    file.write_text(json.dumps(run_of(root, box) | changed), encoding="ascii")
    seen = box.inspect()

    assert (ContainerStatus.EXITED, _LOST) == (seen.status, seen.exit_code)
    assert box.runtime.start(box.id).running


def test_another_process_with_the_number_is_left_alone(root: Path, boxes: Boxes) -> None:
    """The record says that it runs, and there is a process of this number: it is not the one."""
    box = boxes()
    box.runtime.stop(box.id, grace=0)
    run = run_of(root, box)
    assert eventually(lambda: not _alive(run["supervisor"][0]))
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        changed = {"status": "running", "supervisor": [stranger.pid, 1], "first": [stranger.pid, 1]}
        (root / "containers" / box.id / "run.json").write_text(json.dumps(run | changed), encoding="ascii")
        seen = box.inspect()
        box.runtime.start(box.id)
        left_alone = stranger.poll() is None
        stranger.kill()

    assert (ContainerStatus.EXITED, True) == (seen.status, left_alone)


def test_what_creates_and_removals_left_is_swept_up(root: Path, box: Box, image: str) -> None:
    """A container that was never complete, and one that was never removed to the end."""
    for place in ("new", "trash"):
        (root / place / ("a" * 32) / "upper").mkdir(parents=True)
    (root / "names" / "dangling").symlink_to("b" * 32)
    made = box.runtime.create(ContainerSpec(image=image, name="dangling"))

    assert [] == [*(root / "new").iterdir(), *(root / "trash").iterdir()]
    assert made.id == box.runtime.inspect("dangling").id


def test_a_hundred_containers_at_once(root: Path, image: str, runtime: Runtime) -> None:
    """All run, each runs a command, all are stopped and removed, and nothing is left of them."""
    outcomes = together([lambda: runtime.create(ContainerSpec(image=image)) for _ in range(100)], within=100)
    made = [one.id for one in outcomes if not isinstance(one, Exception)]
    started = [runtime.start(one).running for one in made]
    answers = together(
        [lambda one=one: runtime.exec(one, ExecSpec(command=("/bin/hostname",))).stdout for one in made],  # type: ignore[misc]
        within=100,
    )
    listed = runtime.list_containers(running_only=True)
    removed = together([lambda one=one: runtime.remove(one, force=True) for one in made], within=100)  # type: ignore[misc]

    assert [True] * 100 == started
    assert {f"{one[:12]}\n".encode() for one in made} == set(answers)
    assert (set(made), [True] * 100) == ({info.id for info in listed}, removed)
    assert () == runtime.list_containers()
    assert eventually(lambda: not _processes_of(root))


def _processes_of(root: Path) -> list[int]:
    """Find the processes that have something to do with a root."""
    mark = os.fsencode(root)
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "mountinfo").read_bytes() and int(path.name) != os.getpid():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_output_is_kept_up_to_a_limit(make_runtime: Callable[..., Runtime], image: str, root: Path) -> None:
    """The newest is kept, the tail is right across both files, and the disk holds no more than allowed."""
    runtime = make_runtime(output_limit=200_000)
    script = "i=0; while [ $i -lt 40000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000"
    container = runtime.create(ContainerSpec(image=image, entrypoint=("/bin/sh", "-c", script))).id
    runtime.start(container)
    box = Box(runtime, container)
    assert eventually(lambda: b"".join(runtime.logs(container)).endswith(b"line 39999\n"), 60)
    kept = b"".join(runtime.logs(container))
    sizes = [(root / "containers" / container / name).stat().st_size for name in ("log", "log.old")]
    # The index of lines that arrive one by one takes more room than they do.
    assert 40_000 <= len(kept) <= 200_000 + 65536
    assert all(size < 100_000 + 65536 for size in sizes)
    assert kept.splitlines()[-5000:] == b"".join(runtime.logs(container, LogSpec(tail=5000))).splitlines()
    assert box.inspect().running


def test_background_children_can_go_on_printing(box: Box) -> None:
    """Who reads their output is gone; that must not end them."""
    box.shell("(sleep 0.5; echo late; sleep 0.2; echo > /tmp/alive) &")

    assert eventually(lambda: box.shell("test -e /tmp/alive").exit_code == 0)


def test_a_command_is_killed_with_who_wanted_it(root: Path, image: str, runtime: Runtime, box: Box) -> None:
    """A client that was killed leaves no command running that nobody waits for."""
    script = (
        "import sys; from oubliette_core.models import ExecSpec, RuntimeSettings;"
        "from oubliette_core.plugins import build_runtime; from oubliette_embedded import EmbeddedRuntime;"
        "build_runtime('embedded', EmbeddedRuntime(RuntimeSettings(options={'root': sys.argv[1]})))"
        ".exec(sys.argv[2], ExecSpec(command=('/bin/sh', '-c', 'setsid sleep 7654321 & sleep 7654321')))"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(root), box.id]) as client:
        assert box.wait_for_process("7654321")
        client.kill()

    assert eventually(lambda: box.processes("7654321") == 0)


def test_a_start_that_fails_says_why(image: str, runtime: Runtime) -> None:
    """As a shell would: not found, or not executable, with what was printed."""
    found = {}
    for command in ("/no/such/program", "/etc/passwd"):
        container = runtime.create(ContainerSpec(image=image, entrypoint=(command,)))
        with pytest.raises(StartFailedError) as failed:
            runtime.start(container.id)
        found[command] = failed.value.exit_code, runtime.inspect(container.id).exit_code

    assert {"/no/such/program": (127, 127), "/etc/passwd": (126, 126)} == found


def test_a_busy_main_process_counts_as_running(boxes: Boxes) -> None:
    """One that never rests is watched for a moment only."""
    began = time.monotonic()
    box = boxes(entrypoint=("/bin/sh", "-c", "while :; do :; done"))

    assert box.inspect().running
    assert time.monotonic() - began < 10


def test_a_limit_on_processes_holds_with_an_init_process(runtime: Runtime, boxes: Boxes) -> None:
    """For what the main process starts, which is then not the first one."""
    if Capability.PIDS_LIMIT not in runtime.capabilities():
        pytest.skip("processes cannot be limited here")
    many = "i=0; while :; do sleep 1000 & i=$((i+1)); echo made; done"
    box = boxes(
        entrypoint=("/bin/sh", "-c", 'sh -c "$1" 2>/dev/null; echo full; exec sleep 1000', "sh", many),
        init=True,
        pids=30,
    )
    printed = eventually(lambda: text if b"full" in (text := b"".join(runtime.logs(box.id))) else b"")

    assert 10 < printed.count(b"made") < 30


def test_a_container_with_an_init_process_ends_while_commands_run(boxes: Boxes) -> None:
    """The kernel waits for who has started them, and that is who waits for the container."""
    box = boxes(init=True)
    running = start(lambda: box.run("/bin/sleep", "7654323"), "a command")
    assert box.wait_for_process("7654323")
    began = time.monotonic()
    stopped = box.runtime.stop(box.id, grace=60)

    assert ContainerStatus.EXITED == stopped.status
    assert time.monotonic() - began < 30
    assert isinstance(running.outcome(10), RuntimeLostError)


def test_nothing_of_a_container_is_imported(runtime: Runtime, bring: Bring, boxes: Boxes) -> None:
    """Whoever enters it has its interpreter's paths, and would take what an image has there for its own."""
    traps = {
        f"{path}/{name}.py": "import os; os.write(2, b'imported')\n"
        for path in sys.path
        if path
        for name in ("traceback", "resource", "struct")
    }
    folders = {str(parent): File(mode=0o755) for trap in traps for parent in Path(trap).parents if str(parent) != "/"}
    image = bring(layers=[files_layer({**dict(sorted(folders.items())), **traps})])
    box = boxes(image=image, pids=500 if Capability.PIDS_LIMIT in runtime.capabilities() else None)
    results = [box.run("/bin/true", user=None), box.shell("sleep 1000", timeout=0.2), box.run("/bin/true", tty=True)]

    assert [(0, b""), (None, b""), (0, b"")] == [(one.exit_code, one.stderr) for one in results]
    assert b"imported" not in b"".join(one.stdout for one in results)
