"""A command's result is what it did: its own exit code, its own output, and the truth about what is left of it."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    RuntimeLostError,
    RuntimeOperationError,
)
from oubliette_core.guest import EXEC_VARIABLE, IDLE_COMMAND
from oubliette_core.models import Cancel, ContainerSpec, ExecResult, ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import busybox_image, docker_archive
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint
from oubliette_docker._exec import Execs
from oubliette_docker._exec_calls import ExecCalls
from tests.core.boxes import until
from tests.docker.conftest import MakeContainer, runtime_on
from tests.docker.scripted import ScriptedEngine, reply
from tests.engine import Engine

AGENT = "1000:1000"
KEPT = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")
LATEST = 2.0
"""A call ends within so many seconds of its deadline, of a cancel, or of its command's exit."""


class Box:
    """A running container, and how commands are run in it."""

    def __init__(self, runtime: Runtime, container: str) -> None:
        self.runtime, self.id = runtime, container

    def run(self, *command: str, cancel: Cancel | None = None, **fields: Any) -> ExecResult:
        """Run a command."""
        return self.runtime.exec(self.id, ExecSpec(command=command, **fields), cancel=cancel)

    def sh(self, script: str, **fields: Any) -> ExecResult:
        """Run a script."""
        return self.run("sh", "-c", script, **fields)

    def processes(self, pattern: str) -> list[str]:
        """List the living processes whose line of `ps` (state, user, command) matches."""
        lines = self.run("ps", "-o", "stat,user,args").stdout.decode(errors="replace").splitlines()
        return [line for line in lines if re.search(pattern, line) and not line.startswith("Z")]


@pytest.fixture(scope="module")
def box(runtime: Runtime, image: str) -> Iterator[Box]:
    """A container with the privileges that Oubliette leaves, shared by the tests of this module."""
    spec = ContainerSpec(
        image=image,
        command=IDLE_COMMAND,
        network="none",
        init=True,
        pids=512,
        drop_capabilities=("ALL",),
        add_capabilities=KEPT,
    )
    container = runtime.create(spec)
    runtime.start(container.id)
    yield Box(runtime, container.id)
    runtime.remove(container.id, force=True)


@pytest.fixture
def lost_box(private_engine: Engine, busybox: Path, tmp_path: Path) -> Iterator[Box]:
    """A container on an engine that the test may kill and freeze."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"box:latest": busybox_image(busybox)}))
    with runtime_on(private_engine.docker_host) as runtime:
        runtime.load_images(archive)
        container = runtime.create(ContainerSpec(image="box:latest", network="none", init=True))
        runtime.start(container.id)
        yield Box(runtime, container.id)


def descriptors() -> int:
    """Count the open descriptors of this process."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def after(seconds: float, action: Callable[[], object]) -> threading.Timer:
    """Do something in another thread a little later."""
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


def until_quiet(box: Box, pattern: str) -> None:
    """Wait until no process matches; a container that is full of them may not even have room for the question."""
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(RuntimeOperationError):
            if not box.processes(pattern):
                return
        assert time.monotonic() < deadline, "the killer did not go on"


# -- Results ----------------------------------------------------------------------------------------------------------


def test_both_streams_arrive_apart(box: Box) -> None:
    """Each whole, and in its order."""
    result = box.sh("for i in 1 2 3; do echo out $i; echo err $i >&2; done; exit 3")

    assert 3 == result.exit_code
    assert b"out 1\nout 2\nout 3\n" == result.stdout
    assert b"err 1\nerr 2\nerr 3\n" == result.stderr
    assert [False] * 4 == [result.timed_out, result.cancelled, result.killed, result.truncated]
    assert 0 < result.duration < 60


@pytest.mark.parametrize("code", [0, 1, 126, 127, 255])
def test_every_exit_code_is_passed_through(box: Box, code: int) -> None:
    """Also those that mean "not found" when a shell says them."""
    assert code == box.sh(f"exit {code}").exit_code


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_death_by_a_signal_is_a_result(box: Box, name: str) -> None:
    """As shells report it."""
    assert 128 + signal.Signals[f"SIG{name}"] == box.sh(f"kill -{name} $$").exit_code


def test_words_are_never_read_by_a_shell(box: Box) -> None:
    """A command is an argv."""
    words = ("$(id)", "`id`", "a b", "", "*", "\\", "'", '"', "-n", "line\nbreak")

    assert "".join(f"[{word}]" for word in words).encode() == box.run("printf", "[%s]", *words).stdout


def test_environment_user_and_directory_are_of_that_exec_only(box: Box) -> None:
    """The next one has its own."""
    script = "echo $COLOUR; id -u; id -g; pwd"
    first = box.sh(script, env={"COLOUR": "red"}, user=AGENT, workdir="/tmp")  # noqa: S108
    second = box.sh(script)

    assert b"red\n1000\n1000\n/tmp\n" == first.stdout
    assert b"\n0\n0\n/\n" == second.stdout


def test_variables_that_shells_do_not_pass_on_arrive(box: Box) -> None:
    """A name with a dot is a name to programs."""
    variables = box.run("env", env={"npm.config": "1", "PLAIN": "2"}).stdout.split()

    assert {b"npm.config=1", b"PLAIN=2"} <= set(variables)


def test_every_byte_arrives(box: Box) -> None:
    """12 MB of anything, on both streams at once."""
    script = """
        head -c 12000000 /dev/urandom >/tmp/random; md5sum </tmp/random
        cat /tmp/random >&2 & cat /tmp/random; wait; rm /tmp/random
    """
    result = box.sh(script)
    digest, _, content = result.stdout.partition(b"  -\n")

    assert 12_000_000 == len(content) == len(result.stderr)
    assert content == result.stderr
    assert digest.decode() == box.run("md5sum", stdin=content).stdout.decode().split()[0]


def test_output_past_the_limit_is_dropped_and_said_so(box: Box) -> None:
    """The command still comes to its end, and memory stays bounded."""
    tracemalloc.start()
    try:
        result = box.run("head", "-c", "100000000", "/dev/zero", output_limit=1_000_000)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert (0, True, b"\0" * 1_000_000) == (result.exit_code, result.truncated, result.stdout)
    assert peak < 8_000_000


@pytest.mark.parametrize(("limit", "truncated"), [(5, False), (4, True), (0, True)])
def test_the_limit_is_exact(box: Box, limit: int, truncated: bool) -> None:
    """What just fits is not truncated."""
    result = box.run("echo", "1234", output_limit=limit)

    assert (b"1234\n"[:limit], truncated) == (result.stdout, result.truncated)


def test_a_terminal_has_one_stream(box: Box) -> None:
    """As every terminal."""
    result = box.sh("test -t 0 && test -t 1 && test -t 2 && echo out; echo err >&2; exit 4", tty=True)

    assert (4, b"out\r\nerr\r\n", b"") == (result.exit_code, result.stdout, result.stderr)


def test_nothing_is_lost_to_a_client_that_was_not_scheduled(box: Box, engine: Engine) -> None:
    """The first output may come together with the header of the engine's answer."""
    program = f"""
import os, signal
from oubliette_core.models import ExecSpec
from oubliette_docker import _http
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint
from oubliette_docker._exec import Execs
from oubliette_docker._exec_calls import ExecCalls

read_header = _http.Exchange._read_header
def frozen(self, *arguments):
    os.kill(os.getpid(), signal.SIGSTOP)
    read_header(self, *arguments)
connection = Connection(Endpoint(url={engine.docker_host!r}))
connection.api_version()
_http.Exchange._read_header = frozen
result = Execs(connection).run({box.id!r}, ExecSpec(command=("echo", "first words")))
print(result.exit_code, result.stdout)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    stops = 0
    while os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]):
        time.sleep(0.3)  # how long it is frozen is the point
        stops += 1
        process.send_signal(signal.SIGCONT)
    assert process.stdout is not None
    with process.stdout as said:
        assert "0 b'first words\\n'\n" == said.read()
    process.returncode = 0
    assert stops >= 3


def test_short_commands_are_never_empty(box: Box) -> None:
    """However fast they end."""
    results = [box.run("echo", str(number)) for number in range(100)]

    assert [(0, b"%d\n" % number) for number in range(100)] == [(each.exit_code, each.stdout) for each in results]


def test_parallel_commands_do_not_mix(box: Box) -> None:
    """Fifty at once, each with an output of its own."""

    def run(number: int) -> ExecResult:
        return box.sh(
            "cat; cat /proc/self/environ >&2; exit $CODE", stdin=b"%d," % number * 20_000, env={"CODE": str(number)}
        )

    with ThreadPoolExecutor(50) as pool:
        results = list(pool.map(run, range(50)))

    assert list(range(50)) == [result.exit_code for result in results]
    assert all(b"%d," % number * 20_000 == result.stdout for number, result in enumerate(results))


def test_an_ordinary_command_costs_three_calls(box: Box, endpoint: Endpoint) -> None:
    """Create, start, inspect: what the engine's own client needs as well."""
    made: list[str] = []

    class Counting(Connection):
        def _begin(self, request: Any, *arguments: Any) -> Any:
            made.append(f"{request.method} {request.target.rpartition('/')[2]}")
            return super()._begin(request, *arguments)

    with Counting(endpoint) as connection:
        connection.api_version()
        made.clear()
        result = Execs(connection).run(box.id, ExecSpec(command=("true",)))

    assert 0 == result.exit_code
    assert ["POST exec", "POST start", "GET json"] == made


# -- Standard input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stdin", [b"", b"few\0\xff", b"0123456789" * 1_000_000], ids=["none", "few", "10 MB"])
def test_standard_input_is_given_and_ends(box: Box, stdin: bytes) -> None:
    """Without any there is an end of file too."""
    result = box.run("cat", stdin=stdin)

    assert (0, len(stdin)) == (result.exit_code, len(result.stdout))
    assert stdin == result.stdout


@pytest.mark.parametrize("stdin", [b"", b"line\n", b"no line"])
def test_input_ends_at_a_terminal_too(box: Box, stdin: bytes) -> None:
    """Nobody is there who could type anything more."""
    result = box.sh("stty -echo; cat; echo ' end'; exit 3", stdin=stdin, tty=True, timeout=20)

    assert 3 == result.exit_code
    assert result.stdout.endswith(stdin.replace(b"\n", b"\r\n") + b" end\r\n")


@pytest.mark.parametrize("script", ["sleep 0.5", "true", "exec <&-; sleep 0.5", "head -c 1 >/dev/null; sleep 0.5"])
def test_a_command_need_not_read(box: Box, script: str) -> None:
    """What it leaves unread blocks nobody."""
    began = time.monotonic()

    assert 0 == box.sh(script, stdin=b"x" * 5_000_000).exit_code
    assert time.monotonic() - began < 0.5 + LATEST + 3


# -- What cannot be run -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
@pytest.mark.parametrize(
    ("command", "code"), [("no-such-program", 127), ("/no/such", 127), ("/etc/passwd", 126), ("/etc", 126)]
)
def test_a_command_that_cannot_be_run_is_an_error(box: Box, command: str, code: int, tty: bool) -> None:
    """And what the engine or the shell says about it is never taken for output."""
    with pytest.raises(CommandNotFoundError) as caught:
        box.run(command, "argument", tty=tty)

    assert (code, "docker", box.id) == (caught.value.exit_code, caught.value.runtime, caught.value.subject)
    assert command in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("place", "named"),
    [
        ({"user": "nosuchuser"}, "user nosuchuser"),
        ({"user": "1000:nosuchgroup"}, "1000:nosuchgroup"),
        ({"workdir": "/no/such"}, "directory /no/such"),
        ({"workdir": "/etc/passwd"}, "directory /etc/passwd"),
    ],
)
def test_a_place_that_is_not_there_is_an_error(box: Box, place: dict[str, Any], named: str) -> None:
    """A user or a directory: the command itself is innocent."""
    with pytest.raises(CommandNotFoundError, match=named) as caught:
        box.run("echo", **place)

    assert 126 == caught.value.exit_code


def test_a_command_cannot_pretend_that_it_was_not_found(box: Box) -> None:
    """It knows its variable, and repeats what engines and shells say."""
    script = (
        f'echo "OCI runtime exec failed: \\"x\\": executable file not found"; echo ${EXEC_VARIABLE} 127 >&2; exit 127'
    )

    assert 127 == box.sh(script).exit_code


def test_an_image_without_a_shell_can_run_its_commands(runtime: Runtime, busybox: Path, tmp_path: Path) -> None:
    """Without the marks that the shell makes; then it cannot be killed, and that is said."""
    archive = tmp_path / "image.tar"
    image = busybox_image(busybox, applets=("cat", "sleep"), command=("/bin/sleep", "1000"))
    archive.write_bytes(docker_archive({"oubliette-test-shell-less:latest": image}))
    (loaded,) = runtime.load_images(archive)
    container = runtime.create(ContainerSpec(image=loaded.id, network="none"))
    try:
        runtime.start(container.id)
        box = Box(runtime, container.id)

        assert b"hello" == box.run("cat", stdin=b"hello").stdout
        with pytest.raises(CommandNotFoundError, match="no command nosuch"):
            box.run("nosuch")
        result = box.run("sleep", "1000", timeout=0.5)
        assert (None, True, False) == (result.exit_code, result.timed_out, result.killed)
        with runtime.open_exec(container.id, ExecSpec(command=("cat",))) as process:
            process.stdin.write(b"hello")
            assert b"hello" == process.stdout.read(100)
            process.stdin.close()
            assert 0 == process.wait(10)
    finally:
        runtime.remove(container.id, force=True)
        runtime.remove_image(loaded.id)


def test_a_container_has_to_run(runtime: Runtime, make_container: MakeContainer) -> None:
    """Created, stopped and unknown ones are told apart."""
    container = make_container(init=True)
    with pytest.raises(ContainerNotRunningError):
        Box(runtime, container.id).run("true")
    runtime.start(container.id)
    runtime.stop(container.id)
    with pytest.raises(ContainerNotRunningError):
        Box(runtime, container.id).run("true")
    with pytest.raises(ContainerNotFoundError):
        Box(runtime, "oubliette-test-absent").run("true")
    with pytest.raises(ContainerNotFoundError):
        Box(runtime, container.id[:12]).run("true")


def test_a_paused_container_does_not_run(
    runtime: Runtime, make_container: MakeContainer, connection: Connection
) -> None:
    """The engine would wait with it."""
    container = make_container(init=True)
    runtime.start(container.id)
    connection.request("POST", f"/containers/{container.id}/pause")
    with pytest.raises(ContainerNotRunningError):
        Box(runtime, container.id).run("true")
    connection.request("POST", f"/containers/{container.id}/unpause")

    assert 0 == Box(runtime, container.id).run("true").exit_code


# -- Children ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("child", ["sleep 1002", "yes"], ids=["silent", "talking"])
def test_a_child_that_holds_the_output_delays_nothing(box: Box, child: str) -> None:
    """It goes on running, and a later exec sees it. What becomes of one that talks is up to the engine."""
    began = time.monotonic()
    result = box.sh(f"{child} & echo started; exit 5")

    assert time.monotonic() - began < 1 + LATEST
    assert 5 == result.exit_code
    assert b"started\n" in result.stdout
    if child == "sleep 1002":
        assert 1 == len(box.processes(f"{child}$"))
    box.sh("kill $(ps -o pid,args | sed -n 's/ sleep 1002$//p; s/ {yes} .*$//p')")


def test_a_command_may_close_its_output_and_run_on(box: Box) -> None:
    """The end of the output is not the end of the command."""
    result = box.sh("exec >&- 2>&-; sleep 1; exit 3")

    assert 3 == result.exit_code
    assert result.duration > 1


# -- Deadlines and cancelling -----------------------------------------------------------------------------------------

_TREE = (
    "setsid sleep 1001 & env -i /bin/sleep 1001 & (setsid sh -c 'sleep 1001 & sleep 1001' &) ; echo partial; sleep 1001"
)


@pytest.mark.parametrize("user", [None, AGENT], ids=["root", "agent"])
@pytest.mark.parametrize("tty", [False, True], ids=["pipes", "terminal"])
def test_the_deadline_kills_everything_that_was_started(box: Box, tty: bool, user: str | None) -> None:
    """Detached or not; what was printed is returned, and others are left alone."""
    other = box.runtime.open_exec(box.id, ExecSpec(command=("sleep", "1003")))
    began = time.monotonic()
    result = box.sh(_TREE, timeout=1, tty=tty, user=user)

    assert time.monotonic() - began < 1 + LATEST
    assert (None, True, False, True) == (result.exit_code, result.timed_out, result.cancelled, result.killed)
    assert b"partial" == result.stdout.strip()
    assert [] == box.processes("sleep 1001")
    assert other.wait(0) is None
    other.close()


def test_a_cancel_kills_as_the_deadline_does(box: Box) -> None:
    """From another thread, at any moment."""
    cancel = Cancel()
    timer = after(0.5, cancel.cancel)
    began = time.monotonic()
    result = box.sh(_TREE, cancel=cancel)
    timer.join()

    assert time.monotonic() - began < 0.5 + LATEST
    assert (None, False, True, True) == (result.exit_code, result.timed_out, result.cancelled, result.killed)
    assert b"partial\n" == result.stdout
    assert [] == box.processes("sleep 1001")


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.04, 0.06])
def test_a_deadline_before_the_start_leaves_nothing(box: Box, seconds: float) -> None:
    """The engine may still be starting the command when it is to be killed."""
    result = box.run("sleep", "1001", timeout=seconds)

    assert result.timed_out
    assert result.duration < seconds + LATEST
    assert [] == box.processes("sleep 1001")


def test_many_commands_that_are_cancelled_at_once_are_all_killed(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killer for each would take so long together that most would not be done in time."""
    killers: list[str] = []
    create = ExecCalls.create_killer

    def counting(calls: ExecCalls, container: str, *arguments: Any, **options: Any) -> str:
        killers.append(container)
        return create(calls, container, *arguments, **options)

    monkeypatch.setattr(ExecCalls, "create_killer", counting)
    cancel = Cancel()
    script = "(setsid sleep 1001 &); echo begun; sleep 1001"
    with ThreadPoolExecutor(40) as pool:
        runs = [pool.submit(box.run, "sh", "-c", script, cancel=cancel) for _ in range(40)]
        try:
            until(lambda: len(box.processes("root +sleep 1001$")) == 2 * 40, 60)
        finally:
            began = time.monotonic()
            cancel.cancel()
        results = [run.result() for run in runs]
    took = time.monotonic() - began

    assert [(True, True, b"begun\n")] * 40 == [(each.cancelled, each.killed, each.stdout) for each in results]
    assert [] == box.processes("sleep 1001")
    assert len(killers) < 10
    assert took < LATEST + 1


def test_a_cancel_that_came_before_starts_nothing(box: Box) -> None:
    """And is no error."""
    cancel = Cancel()
    cancel.cancel()
    result = box.run("sleep", "1001", cancel=cancel)

    assert (None, True) == (result.exit_code, result.cancelled)
    assert [] == box.processes("sleep 1001")


def test_a_deadline_that_does_not_come_changes_nothing(box: Box) -> None:
    """Nor does a cancel."""
    result = box.run("echo", "done", timeout=60, cancel=Cancel())

    assert (0, b"done\n", False, False) == (result.exit_code, result.stdout, result.timed_out, result.cancelled)


def test_a_command_that_talks_without_end_is_killed(box: Box) -> None:
    """Also one that reads nothing of what it is given."""
    result = box.run("yes", timeout=0.5, stdin=b"x" * 1_000_000, output_limit=1000)

    assert (True, True, True) == (result.timed_out, result.killed, result.truncated)
    assert result.duration < 0.5 + LATEST
    assert [] == box.processes("yes")


@pytest.mark.parametrize(
    "storm",
    [
        """awk 'BEGIN { while (1) system("sleep 1001 &") }'""",
        """awk 'BEGIN { while (1) system("setsid sleep 1001 &") }'""",
        "bomb() { bomb & bomb & wait; }; bomb",
    ],
    ids=["program", "sessions", "bomb"],
)
def test_a_fork_storm_ends_at_the_deadline(box: Box, storm: str) -> None:
    """The container may be full of processes, and the machine busy: then it is not called killed too early."""
    for _ in range(3):
        result = box.sh(storm, timeout=1, user=AGENT)
        assert result.timed_out
        assert result.duration < 1 + LATEST
        if result.killed:
            break
        until_quiet(box, "1001|bomb")

    assert result.killed
    assert [] == box.processes("1001|bomb")


def test_what_escaped_is_not_called_killed(box: Box) -> None:
    """A process that wiped off every mark can only be told of."""
    result = box.sh("ulimit -m 1000; env -i /bin/setsid /bin/sh -c '/bin/sleep 1001 &'; sleep 1001", timeout=1)

    assert (True, False) == (result.timed_out, result.killed)
    box.sh("kill $(ps -o pid,args | sed -n 's/ .bin.sleep 1001$//p')")


def test_without_the_capability_to_kill_the_commands_user_does_it(
    runtime: Runtime, make_container: MakeContainer
) -> None:
    """Root that may not kill others is no help."""
    container = make_container(init=True, drop_capabilities=("ALL",))
    runtime.start(container.id)
    result = Box(runtime, container.id).sh(_TREE, timeout=1, user=AGENT)

    assert (True, True) == (result.timed_out, result.killed)
    assert result.duration < 1 + LATEST


# -- Losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "remove"])
def test_a_container_that_ends_takes_its_commands_along(
    runtime: Runtime, make_container: MakeContainer, how: str
) -> None:
    """That is no result of the command; what it printed is kept."""
    container = make_container(init=True)
    runtime.start(container.id)
    box = Box(runtime, container.id)
    actions: dict[str, Callable[[], object]] = {
        "stop": lambda: runtime.stop(container.id, grace=0),
        "remove": lambda: runtime.remove(container.id, force=True),
    }
    timer = after(0.5, actions[how])
    began = time.monotonic()
    with pytest.raises(RuntimeLostError) as caught:
        box.sh("echo partial; echo too >&2; sleep 1000")
    timer.join()

    assert (b"partial\n", b"too\n") == (caught.value.stdout, caught.value.stderr)
    assert time.monotonic() - began < 0.5 + 3
    assert container.id == caught.value.subject


def test_an_engine_that_dies_is_never_a_success(lost_box: Box, private_engine: Engine) -> None:
    """What was printed is kept; sockets and threads are not."""
    lost_box.run("true")
    threads, before = threading.active_count(), descriptors()
    timer = after(1, private_engine.kill)
    began = time.monotonic()
    with pytest.raises(RuntimeLostError) as caught:
        lost_box.sh("echo partial; sleep 1000")
    timer.join()

    assert b"partial\n" == caught.value.stdout
    assert time.monotonic() - began < 1 + 5
    assert threads == threading.active_count()
    assert descriptors() <= before


def test_a_frozen_engine_does_not_hold_the_deadline_up(lost_box: Box, private_engine: Engine) -> None:
    """Frozen in the middle or before; afterwards everything works again."""
    before = descriptors()
    timer = after(0.7, private_engine.pause)
    in_the_middle = lost_box.sh("echo partial; sleep 1000", timeout=1.5)
    timer.join()
    from_the_start = lost_box.run("true", timeout=0.5)
    cancel = Cancel()
    timer = after(0.5, cancel.cancel)
    cancelled = lost_box.run("true", cancel=cancel)
    timer.join()
    private_engine.resume()

    assert (True, False, b"partial\n") == (in_the_middle.timed_out, in_the_middle.killed, in_the_middle.stdout)
    assert in_the_middle.duration < 1.5 + LATEST
    assert (True, False) == (from_the_start.timed_out, from_the_start.killed)
    assert from_the_start.duration < 0.5 + LATEST
    assert (True, False) == (cancelled.cancelled, cancelled.killed)
    assert cancelled.duration < 0.5 + LATEST
    assert 0 == lost_box.run("true").exit_code
    assert descriptors() <= before + 1


def test_nothing_is_left_open(box: Box) -> None:
    """Neither by results nor by errors, deadlines and cancels."""

    def use() -> None:
        box.run("cat", stdin=b"x" * 100_000)
        box.run("sleep", "1001", timeout=0.1, cancel=Cancel())
        with pytest.raises(CommandNotFoundError):
            box.run("nosuch")
        with pytest.raises(CommandNotFoundError):
            box.run("echo", user="nosuchuser")

    use()
    threads, before = threading.active_count(), descriptors()
    for _ in range(5):
        use()

    assert (threads, before) == (threading.active_count(), descriptors())


def _scripted_exec(states: list[bytes], output: bytes) -> Callable[[socket.socket, bytes], bool]:
    """Make an engine that runs commands and says of them, one after the other, what ``states`` are."""

    def script(connection: socket.socket, head: bytes) -> bool:
        length = re.search(rb"Content-Length: (\d+)", head)
        missing = int(length[1]) if length else 0
        while missing:
            missing -= len(connection.recv(missing))
        if b"/containers/" in head:
            connection.sendall(reply(b'{"Id": "e1", "State": {"Running": true}}', "201 Created"))
        elif b"/start " in head:
            connection.sendall(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n" + output)
            return False
        else:
            connection.sendall(reply(states.pop(0) if len(states) > 1 else states[0]))
        return True

    return script


RUNNING = b'{"Running": true, "ExitCode": null, "Pid": 7}'
UNKNOWN = b'{"Running": false, "ExitCode": null, "Pid": 7}'
ENDED = b'{"Running": false, "ExitCode": 3, "Pid": 7}'
OUTPUT = b"\1\0\0\0\0\0\0\3out"


def test_news_of_the_end_may_come_late(tmp_path: Path) -> None:
    """As long as the engine says that the command runs, it does."""
    script = _scripted_exec([RUNNING, RUNNING, UNKNOWN, RUNNING, ENDED], OUTPUT)
    with ScriptedEngine(tmp_path / "e.sock", script) as engine, Connection(engine.endpoint) as connection:
        result = Execs(connection).run("box", ExecSpec(command=("x",)))

    assert (3, b"out") == (result.exit_code, result.stdout)


def test_without_an_exit_code_there_is_no_result(tmp_path: Path) -> None:
    """The end of the output proves nothing."""
    script = _scripted_exec([UNKNOWN], OUTPUT)
    began = time.monotonic()
    with (
        ScriptedEngine(tmp_path / "e.sock", script) as engine,
        Connection(engine.endpoint) as connection,
        pytest.raises(RuntimeLostError) as caught,
    ):
        Execs(connection).run("box", ExecSpec(command=("x",)))

    assert b"out" == caught.value.stdout
    assert 4 < time.monotonic() - began < 8


@pytest.mark.parametrize("tail", [b"\1\0\0\0\0\0", b"\1\0\0\0\0\0\0\x09out"], ids=["in a header", "in a frame"])
def test_output_cut_in_a_frame_is_kept(tmp_path: Path, tail: bytes) -> None:
    """The exit code decides, not how the stream ended."""
    with (
        ScriptedEngine(tmp_path / "e.sock", _scripted_exec([ENDED], OUTPUT + tail)) as engine,
        Connection(engine.endpoint) as connection,
    ):
        result = Execs(connection).run("box", ExecSpec(command=("x",)))

    assert 3 == result.exit_code
    assert result.stdout in (b"out", b"outout")
