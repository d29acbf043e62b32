"""A log is what the main process printed, in its order; following ends with the container or when it is closed."""

from __future__ import annotations

import gc
import threading
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import ContainerNotFoundError, RuntimeLostError, UnsupportedError
from oubliette_core.models import ContainerInfo, ContainerSpec, ContainerStatus, LogSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import busybox_image, docker_archive
from oubliette_docker._connection import Connection
from tests.docker.conftest import MakeContainer, runtime_on
from tests.engine import Engine

Print = Callable[..., ContainerInfo]


@pytest.fixture
def prints(connection: Connection, make_container: MakeContainer) -> Print:
    """Starts a container whose main process is a script, which may be a short one."""

    def start(script: str) -> ContainerInfo:
        container = make_container(command=("/bin/sh", "-c", f"trap 'exit 0' TERM; {script}"))
        connection.request("POST", f"/containers/{container.id}/start")
        return container

    return start


def ended(runtime: Runtime, container: ContainerInfo) -> None:
    """Wait until a container has ended."""
    deadline = time.monotonic() + 60
    while runtime.inspect(container.id).status is not ContainerStatus.EXITED:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def whole(runtime: Runtime, container: ContainerInfo, **fields: Any) -> bytes:
    """Read a log to its end."""
    return b"".join(runtime.logs(container.id, LogSpec(**fields)))


def descriptors() -> int:
    """Count the open descriptors of this process."""
    gc.collect()
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_both_streams_are_there_in_order(runtime: Runtime, prints: Print) -> None:
    """With the bytes that were printed and no others."""
    script = "for i in 1 2 3; do echo out $i; sleep 0.02; echo err $i >&2; sleep 0.02; done; printf '\\377\\000\\n'"
    container = prints(script)
    ended(runtime, container)
    lines = b"".join(b"out %d\nerr %d\n" % (number, number) for number in (1, 2, 3))

    assert lines + b"\xff\0\n" == whole(runtime, container)


def test_a_terminals_log_is_taken_as_it_is(runtime: Runtime, prints: Print, connection: Connection, image: str) -> None:
    """Nothing of it looks like a frame."""
    body = {"Image": image, "Tty": True, "Cmd": ["/bin/sh", "-c", "echo one; echo two >&2"]}
    identity = connection.request("POST", "/containers/create", body=body).json()["Id"]
    try:
        connection.request("POST", f"/containers/{identity}/start")
        connection.request("POST", f"/containers/{identity}/wait")

        assert b"one\r\ntwo\r\n" == b"".join(runtime.logs(identity))
    finally:
        runtime.remove(identity, force=True)


@pytest.mark.parametrize(("tail", "first"), [(None, 1), (100, 1), (3, 8), (1, 10), (0, 11)])
def test_only_the_last_lines(runtime: Runtime, prints: Print, tail: int | None, first: int) -> None:
    """None of them as well."""
    container = prints("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; done")
    ended(runtime, container)

    assert b"".join(b"%d\n" % number for number in range(first, 11)) == whole(runtime, container, tail=tail)


def test_nothing_older_than_a_moment(runtime: Runtime, prints: Print) -> None:
    """To a fraction of a second."""
    container = prints("echo before; sleep 1.2; echo after")
    ended(runtime, container)
    started = runtime.inspect(container.id).started_at
    assert started is not None

    assert b"after\n" == whole(runtime, container, since=started + timedelta(seconds=0.8))
    assert b"before\nafter\n" == whole(runtime, container, since=started - timedelta(seconds=5))
    assert b"" == whole(runtime, container, since=datetime.now(UTC) + timedelta(hours=1))


def test_following_ends_with_the_container(runtime: Runtime, prints: Print) -> None:
    """And gives each line when it is printed."""
    container = prints("echo first; read -r line <>/dev/ptmx & wait $!; echo last")
    log = runtime.logs(container.id, LogSpec(follow=True))

    assert b"first\n" == next(log)
    runtime.stop(container.id)
    assert b"" == b"".join(log)


def test_following_only_what_is_new(runtime: Runtime, prints: Print) -> None:
    """The last lines first, as many as are wanted."""
    container = prints("echo 1; echo 2; echo 3; sleep 1; echo 4")
    deadline = time.monotonic() + 20
    while whole(runtime, container) != b"1\n2\n3\n":
        assert time.monotonic() < deadline

    assert b"3\n4\n" == whole(runtime, container, follow=True, tail=1)


@pytest.mark.parametrize("waiting", [True, False], ids=["by another thread", "between two reads"])
def test_closing_ends_a_follow_at_once(runtime: Runtime, prints: Print, waiting: bool) -> None:
    """And lets go of the connection."""
    container = prints("echo first; sleep 1000")
    whole(runtime, container)
    before = descriptors()
    log: Any = runtime.logs(container.id, LogSpec(follow=True))
    assert b"first\n" == next(log)
    rest: list[bytes] = []
    reader = threading.Thread(target=lambda: rest.extend(log))
    if waiting:
        reader.start()
        time.sleep(0.2)  # until it waits, which nobody can see
    began = time.monotonic()
    log.close()
    if waiting:
        reader.join(10)

    assert time.monotonic() - began < 1
    assert [] == rest == list(log)
    assert descriptors() <= before
    log.close()


def test_a_log_that_nobody_reads_to_its_end_is_let_go_of(runtime: Runtime, prints: Print) -> None:
    """A caller may stop at the line that it looked for."""
    container = prints("echo first; sleep 1000")
    whole(runtime, container)
    before = descriptors()
    next(runtime.logs(container.id, LogSpec(follow=True)))

    assert descriptors() <= before


def test_a_long_log_needs_little_memory(runtime: Runtime, prints: Print) -> None:
    """And a short end of it little time."""
    container = prints(f"yes {'x' * 999} | head -n 30000")
    ended(runtime, container)
    size = 0
    tracemalloc.start()
    try:
        for chunk in runtime.logs(container.id):
            size += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 30_000_000 == size
    assert peak < 4_000_000
    began = time.monotonic()
    assert 10 == whole(runtime, container, tail=10).count(b"\n")
    assert time.monotonic() - began < 5


def test_a_container_that_never_ran_printed_nothing(runtime: Runtime, make_container: MakeContainer) -> None:
    """That is no error; one that is not there is."""
    assert b"" == whole(runtime, make_container())
    with pytest.raises(ContainerNotFoundError):
        runtime.logs("oubliette-test-absent")


def test_a_log_that_is_not_kept_is_an_error(runtime: Runtime, connection: Connection, image: str) -> None:
    """And says why, before anything is read."""
    body = {"Image": image, "HostConfig": {"LogConfig": {"Type": "none"}}}
    identity = connection.request("POST", "/containers/create", body=body).json()["Id"]
    try:
        with pytest.raises(UnsupportedError, match="logging driver none") as caught:
            runtime.logs(identity)
    finally:
        runtime.remove(identity)

    assert (identity, "logs") == (caught.value.subject, caught.value.capability)


def test_an_engine_that_dies_ends_a_follow_with_an_error(private_engine: Engine, busybox: Path, tmp_path: Path) -> None:
    """It is not the end of the log."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"box:latest": busybox_image(busybox)}))
    with runtime_on(private_engine.docker_host) as runtime:
        runtime.load_images(archive)
        command = ("/bin/sh", "-c", "echo first; sleep 1000")
        container = runtime.create(ContainerSpec(image="box:latest", command=command, network="none", init=True))
        runtime.start(container.id)
        log = runtime.logs(container.id, LogSpec(follow=True))
        assert b"first\n" == next(log)
        private_engine.kill()

        with pytest.raises(RuntimeLostError):
            next(log)
