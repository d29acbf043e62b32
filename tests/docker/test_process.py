"""A process in a container is talked to as one on this machine is, and nothing of it stays when it is closed."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    RuntimeLostError,
)
from oubliette_core.guest import IDLE_COMMAND
from oubliette_core.models import ByteSource, ContainerSpec, ExecSpec, Process
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import busybox_image, docker_archive
from tests.docker.conftest import MakeContainer, runtime_on
from tests.engine import Engine


class Box:
    """A running container, and how commands are talked to in it."""

    def __init__(self, runtime: Runtime, container: str) -> None:
        self.runtime, self.id = runtime, container

    def open(self, *command: str, **fields: Any) -> Process:
        """Start a command."""
        return self.runtime.open_exec(self.id, ExecSpec(command=command, **fields))

    def sh(self, script: str, **fields: Any) -> Process:
        """Start a script."""
        return self.open("sh", "-c", script, **fields)

    def count(self, name: str) -> int:
        """Count the living processes of this command line."""
        listing = self.runtime.exec(self.id, ExecSpec(command=("ps", "-o", "stat,args"))).stdout.decode()
        return sum(line.endswith(name) and not line.startswith("Z") for line in listing.splitlines())


@pytest.fixture(scope="module")
def box(runtime: Runtime, image: str) -> Iterator[Box]:
    """A container shared by the tests of this module."""
    container = runtime.create(ContainerSpec(image=image, command=IDLE_COMMAND, network="none", init=True))
    runtime.start(container.id)
    yield Box(runtime, container.id)
    runtime.remove(container.id, force=True)


def all_of(source: ByteSource, size: int = 65536) -> bytes:
    """Read a stream to its end."""
    data = bytearray()
    while part := source.read(size):
        data += part
    return bytes(data)


def line_of(source: ByteSource) -> bytes:
    """Read one line, byte by byte."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = source.read(1)
        assert byte, line
        line += byte
    return bytes(line)


def in_thread(function: Any, *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    """Call something in a thread; what it returned is in the list once the thread has ended."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function(*arguments)))
    thread.start()
    return thread, results


def descriptors() -> int:
    """Count the open descriptors of this process."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# -- Talking ----------------------------------------------------------------------------------------------------------


def test_a_question_gets_its_answer(box: Box) -> None:
    """A line goes in, a line comes out, as often as one likes."""
    with box.sh("while read -r line; do echo you said: $line; done; exit 7") as process:
        for number in range(1000):
            process.stdin.write(b"%d\n" % number)

            assert b"you said: %d\n" % number == line_of(process.stdout)
        process.stdin.close()
        assert b"" == process.stdout.read(100)
        assert b"" == process.stderr.read(100)
        assert 7 == process.wait(10)


def test_a_long_conversation_arrives_whole(box: Box) -> None:
    """100,000 lines in both directions at once, and the end of input while output goes on."""
    said = b"".join(b"line number %d\n" % number for number in range(100_000))
    with box.open("cat") as process:
        reader, heard = in_thread(all_of, process.stdout)
        for start in range(0, len(said), 10_000):
            process.stdin.write(said[start : start + 10_000])
        process.stdin.close()
        reader.join(60)

        assert [said] == heard
        assert 0 == process.wait(10)


def test_a_slow_reader_of_one_stream_blocks_nobody_for_good(box: Box) -> None:
    """Far more than is held for it comes on both streams."""
    with box.sh("head -c 6000000 /dev/zero >&2 & head -c 6000000 /dev/zero; wait; echo end") as process:
        reader, quickly = in_thread(all_of, process.stdout)
        slowly = 0
        while part := process.stderr.read(50_000):
            slowly += len(part)
            time.sleep(0.001)
        reader.join(60)

        assert 6_000_000 == slowly
        assert [b"\0" * 6_000_000 + b"end\n"] == quickly
        assert 0 == process.wait(10)


def test_little_is_held_for_a_reader_that_does_not_read(box: Box) -> None:
    """The command waits instead."""
    with box.sh("head -c 200000000 /dev/zero; echo done >&2") as process:
        assert b"\0" == process.stdout.read(1)
        assert process.wait(0.5) is None
        held: Any = process
        assert sum(map(len, held._held.values())) < 4_000_000


def test_a_terminal_has_one_stream_a_size_and_an_end(box: Box) -> None:
    """Closing the input says to it what Ctrl-D says."""
    with box.sh("stty size; read -r x; stty size; cat; echo end >&2; exit 3", tty=True) as process:
        process.resize(33, 99)
        line_of(process.stdout)
        process.resize(44, 111)
        process.stdin.write(b"\n")

        assert b"\r\n" == line_of(process.stdout)
        assert b"44 111\r\n" == line_of(process.stdout)
        process.stdin.close()
        assert b"end\r\n" == all_of(process.stdout)
        assert b"" == process.stderr.read(100)
        assert 3 == process.wait(10)


def test_size_means_nothing_without_a_terminal_or_after_the_end(box: Box) -> None:
    """And is no error."""
    with box.open("true") as process:
        process.resize(10, 10)
        assert 0 == process.wait(10)
    with box.open("true", tty=True) as process:
        assert 0 == process.wait(10)
        process.resize(10, 10)


def test_environment_user_and_directory_are_the_commands(box: Box) -> None:
    """As with exec."""
    with box.sh("echo $A; id -u; pwd", env={"A": "1"}, user="1000:1000", workdir="/tmp") as process:  # noqa: S108
        assert b"1\n1000\n/tmp\n" == all_of(process.stdout)


# -- The end ----------------------------------------------------------------------------------------------------------


def test_waiting_can_be_limited(box: Box) -> None:
    """None means that it still runs."""
    with box.open("cat") as process:
        began = time.monotonic()

        assert process.wait(0) is None
        assert process.wait(0.3) is None
        assert time.monotonic() - began < 3
        process.stdin.close()
        assert 0 == process.wait()
        assert 0 == process.wait(0)


def test_waiting_needs_nobody_who_reads(box: Box) -> None:
    """What was printed can still be read afterwards."""
    with box.sh("echo out; echo err >&2; exit 5") as process:
        assert 5 == process.wait(10)
        assert (b"out\n", b"err\n") == (all_of(process.stdout), all_of(process.stderr))


def test_writing_after_the_end_is_a_broken_pipe(box: Box) -> None:
    """As with a process of this machine."""
    with box.sh("exec <&-; exit 0") as process:
        assert 0 == process.wait(10)
        assert b"" == process.stdout.read(10)
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x" * 10_000_000)
        process.stdin.close()
        process.stdin.close()
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x")


def test_killing_ends_the_whole_tree(box: Box) -> None:
    """And can be asked for twice."""
    with box.sh("setsid sleep 1001 & env -i /bin/sleep 1001 & echo up; sleep 1001") as process:
        line_of(process.stdout)

        assert process.kill()
        assert 0 == box.count("sleep 1001")
        assert 137 == process.wait(10)
        assert b"" == process.stdout.read(10)
        assert process.kill()


def test_closing_kills_what_still_runs(box: Box) -> None:
    """Without waiting for a reader or a writer that is in the middle of something."""
    process = box.sh("setsid sleep 1001 & sleep 1001")
    reader, heard = in_thread(process.stdout.read, 100)

    def write() -> None:
        with pytest.raises(BrokenPipeError):
            process.stdin.write(b"x" * 5_000_000)

    writer, _ = in_thread(write)
    process.close()
    reader.join(5)
    writer.join(5)

    assert not reader.is_alive()
    assert not writer.is_alive()
    assert [b""] == heard
    assert 0 == box.count("sleep 1001")
    process.close()
    assert b"" == process.stdout.read(10)


def test_a_background_child_outlives_a_command_that_ended(box: Box) -> None:
    """Closing is no killing when there is nothing to kill."""
    with box.sh("sleep 1002 >/dev/null 2>&1 & exit 0") as process:
        assert 0 == process.wait(10)

    assert 1 == box.count("sleep 1002")
    with box.sh("kill $(ps -o pid,args | sed -n 's/ sleep 1002$//p')") as process:
        assert 0 == process.wait(10)


# -- Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_run_says_nothing(box: Box, command: str, code: int) -> None:
    """It is an error where the engine tells at once, and otherwise an exit code; never output."""
    try:
        with box.open(command) as process:
            assert code == process.wait(10)
            assert (b"", b"") == (all_of(process.stdout), all_of(process.stderr))
    except CommandNotFoundError as error:
        assert code == error.exit_code  # noqa: PT017 - either way is right


@pytest.mark.parametrize("place", [{"user": "nosuchuser"}, {"workdir": "/no/such"}])
def test_a_place_that_is_not_there_is_an_error(box: Box, place: dict[str, str]) -> None:
    """The engine tells at once."""
    with pytest.raises(CommandNotFoundError) as caught:
        box.open("echo", **place)

    assert 126 == caught.value.exit_code


def test_a_container_has_to_run(runtime: Runtime, make_container: MakeContainer) -> None:
    """And has to be there."""
    container = make_container()
    with pytest.raises(ContainerNotRunningError):
        Box(runtime, container.id).open("true")
    with pytest.raises(ContainerNotFoundError):
        Box(runtime, "oubliette-test-absent").open("true")


def test_a_container_that_is_removed_ends_its_processes(runtime: Runtime, make_container: MakeContainer) -> None:
    """Readers come to their end, and waiting gives an answer."""
    container = make_container(init=True)
    runtime.start(container.id)
    with Box(runtime, container.id).sh("echo up; sleep 1000") as process:
        line_of(process.stdout)
        runtime.remove(container.id, force=True)
        assert b"" == all_of(process.stdout)
        with pytest.raises(RuntimeLostError) as caught:
            process.wait(10)

    assert container.id == caught.value.subject


def test_an_engine_that_dies_is_told_of(private_engine: Engine, busybox: Path, tmp_path: Path) -> None:
    """Readers end, waiting raises, closing works, and nothing stays open."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"box:latest": busybox_image(busybox)}))
    with runtime_on(private_engine.docker_host) as runtime:
        runtime.load_images(archive)
        container = runtime.create(ContainerSpec(image="box:latest", network="none", init=True))
        runtime.start(container.id)
        before = descriptors()
        process = Box(runtime, container.id).sh("echo up; sleep 1000")
        line_of(process.stdout)
        private_engine.kill()

        assert b"" == process.stdout.read(100)
        with pytest.raises(RuntimeLostError):
            process.wait(10)
        began = time.monotonic()
        process.close()
        assert time.monotonic() - began < 3
        assert descriptors() <= before


def test_nothing_is_left_open(box: Box) -> None:
    """However a process ends."""

    def use() -> None:
        with box.open("cat") as process:
            process.stdin.write(b"hello")
            process.stdout.read(5)
        with box.open("true") as process:
            process.wait(10)

    use()
    threads, before = threading.active_count(), descriptors()
    for _ in range(5):
        use()

    assert (threads, before) == (threading.active_count(), descriptors())
