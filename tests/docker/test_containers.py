"""A container is what was asked for, and what is said of it is so."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import (
    ContainerNotFoundError,
    ImageNotFoundError,
    InUseError,
    InvalidSpecError,
    NameConflictError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
    StartFailedError,
)
from oubliette_core.models import LABEL_ATTEMPT, Capability, ContainerInfo, ContainerSpec, ContainerStatus, Mount
from oubliette_core.runtime import Runtime
from oubliette_docker._capabilities import EngineFacts
from oubliette_docker._connection import Connection
from oubliette_docker._containers import Containers
from oubliette_docker._credentials import Credentials
from oubliette_docker._endpoint import Surroundings
from oubliette_docker._images import Images
from tests.docker.conftest import MakeContainer, plain, runtime_on
from tests.docker.scripted import ScriptedEngine, reply
from tests.images import ImageMaker

SLEEPS = ("/bin/busybox", "sleep", "1000")


def unique(name: str) -> str:
    """Return a name that no other test has."""
    return f"oubliette-test-{name}-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def run(connection: Connection) -> Callable[[ContainerInfo, str], str]:
    """Runs a shell command in a container, and returns what it prints."""

    def call(container: ContainerInfo, command: str) -> str:
        body = {"Cmd": ["/bin/sh", "-c", command], "AttachStdout": True, "AttachStderr": True, "Tty": True}
        identity = connection.request("POST", f"/containers/{container.id}/exec", body=body).json()["Id"]
        with connection.hijack("POST", f"/exec/{identity}/start", {"Tty": True}) as stream:
            stream.sock.settimeout(20)
            printed = stream.buffered
            while data := stream.sock.recv(65536):
                printed += data
        return printed.decode().replace("\r\n", "\n").strip()

    return call


# -- Create -----------------------------------------------------------------------------------------------------------


def test_a_created_container_is_there_and_does_not_run(
    runtime: Runtime, make_container: MakeContainer, image: str
) -> None:
    """What create returns, inspect and list say too."""
    name = unique("create")
    made = make_container(name=name, labels={"a": "b"}, init=True)
    listed = [info for info in runtime.list_containers({"a": "b"}) if info.id == made.id]

    assert (name, image, ContainerStatus.CREATED, None, None, "b") == (
        made.name,
        plain(made.image),
        made.status,
        made.exit_code,
        made.started_at,
        made.labels["a"],
    )
    assert made == runtime.inspect(name) == runtime.inspect(made.id)
    assert runtime.inspect_image(image).id == made.image_id
    assert made.created_at is not None
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=5)
    assert [(name, ContainerStatus.CREATED)] == [(info.name, info.status) for info in listed]


def test_what_is_asked_for_is_in_force(
    runtime: Runtime,
    make_container: MakeContainer,
    run: Callable[[ContainerInfo, str], str],
    tmp_path: Path,
) -> None:
    """Seen from inside, and not only in what the engine says about it."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_text("from the host")
    made = make_container(
        command=SLEEPS,
        entrypoint=(),
        env={"WORD": "a b=c"},
        workdir="/etc",
        user="1000:1000",
        hostname="inside",
        read_only=True,
        drop_capabilities=("ALL",),
        no_new_privileges=True,
        init=True,
        pids=32,
        memory=64 << 20,
        cpus=0.5,
        mounts=(
            Mount(source=str(tmp_path), target="/host", read_only=True),
            Mount(kind="tmpfs", target="/scratch", size=1 << 20),
        ),
    )
    info = runtime.start(made.id)
    said = run(
        info,
        "echo $WORD; pwd; id -u; id -g; hostname; cat /host/file; echo; touch /x /host/x /scratch/x 2>&1;"
        "grep -E 'CapEff|NoNewPrivs' /proc/self/status; cat /proc/1/cmdline | tr '\\0' ' '",
    ).splitlines()

    assert ["a b=c", "/etc", "1000", "1000", "inside", "from the host"] == said[:6]
    assert ["touch: /x: Read-only file system", "touch: /host/x: Read-only file system"] == said[6:8]
    assert ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"] == said[8:10]
    assert re.search("(docker-init|tini|catatonit|podman-init)", said[10])
    assert {
        Mount(source=str(tmp_path), target="/host", read_only=True),
        Mount(kind="tmpfs", target="/scratch", size=1 << 20),
    } <= set(info.mounts)


def test_limits_are_real(
    runtime: Runtime, make_container: MakeContainer, run: Callable[[ContainerInfo, str], str]
) -> None:
    """The kernel's own numbers, with cgroups of either version; swap does not double the memory."""
    made = runtime.start(make_container(command=SLEEPS, pids=32, memory=64 << 20, cpus=0.5).id)
    said = run(
        made,
        "cd /sys/fs/cgroup; cat memory.max memory/memory.limit_in_bytes pids.max pids/pids.max cpu.max"
        " cpu/cpu.cfs_quota_us memory/memory.memsw.limit_in_bytes memory.swap.max 2>/dev/null",
    ).splitlines()

    assert [str(64 << 20), "32"] == said[:2]
    assert said[2].split()[0] == "50000"
    assert said[3] in (str(64 << 20), "0")


def test_the_images_own_settings_are_kept_or_replaced(
    runtime: Runtime, connection: Connection, make_container: MakeContainer, images: ImageMaker
) -> None:
    """None keeps, an empty entrypoint clears, a command replaces."""
    reference = images.push(entrypoint=["/bin/echo", "own"], command=["word"]).reference
    runtime.pull(reference)
    wanted: list[tuple[dict[str, Any], list[str]]] = [
        ({}, ["/bin/echo", "own", "word"]),
        ({"command": ("a", "b")}, ["/bin/echo", "own", "a", "b"]),
        ({"entrypoint": (), "command": ("c",)}, ["c"]),
        ({"entrypoint": ()}, ["word"]),
        ({"entrypoint": ("d",), "command": ("e",)}, ["d", "e"]),
    ]
    found = []
    for fields, _ in wanted:
        made = make_container(image=reference, **fields)
        config = connection.request("GET", f"/containers/{made.id}/json").json()["Config"]
        found.append([word for word in (*(config["Entrypoint"] or ()), *(config["Cmd"] or ())) if word])

    assert [words for _, words in wanted] == found


def test_an_absent_image_is_not_pulled(runtime: Runtime) -> None:
    """Create never uses the network, and nothing is left behind."""
    labels = {"test": unique("absent")}
    with pytest.raises(ImageNotFoundError) as caught:
        runtime.create(ContainerSpec(image="oubliette-test-absent:latest", labels=labels))

    assert "oubliette-test-absent:latest" == caught.value.subject
    assert () == runtime.list_containers(labels)


def test_an_image_for_another_platform_is_not_run(runtime: Runtime, image: str) -> None:
    """The error says that it is there, and for what."""
    with pytest.raises(ImageNotFoundError, match="linux/amd64"):
        runtime.create(ContainerSpec(image=image, platform="linux/s390x"))


def test_a_taken_name_is_left_alone(runtime: Runtime, make_container: MakeContainer) -> None:
    """Whoever has it keeps it, and what runs in it."""
    name = unique("taken")
    first = runtime.start(make_container(name=name, command=SLEEPS).id)
    with pytest.raises(NameConflictError) as caught:
        make_container(name=name)

    assert name == caught.value.subject
    assert first == runtime.inspect(name)


def test_of_many_creates_with_one_name_one_wins(runtime: Runtime, make_container: MakeContainer) -> None:
    """Never two, never none."""
    name = unique("race")

    def create(_: int) -> str:
        try:
            return make_container(name=name).id
        except NameConflictError:
            return ""

    with ThreadPoolExecutor(16) as pool:
        made = [identity for identity in pool.map(create, range(16)) if identity]

    assert [runtime.inspect(name).id] == made


def test_a_missing_bind_source_is_not_made(runtime: Runtime, image: str, tmp_path: Path) -> None:
    """A typing error must not leave empty directories of root's on the host."""
    source = tmp_path / "no such place"
    spec = ContainerSpec(image=image, name=unique("bind"), mounts=(Mount(source=str(source), target="/x"),))
    with pytest.raises(InvalidSpecError) as caught:
        runtime.create(spec)

    assert str(source) == caught.value.value
    assert not source.exists()
    with pytest.raises(ContainerNotFoundError):
        runtime.inspect(str(spec.name))


def test_a_bind_source_may_be_a_link(
    runtime: Runtime, make_container: MakeContainer, run: Callable[[ContainerInfo, str], str], tmp_path: Path
) -> None:
    """Homes on other disks are links."""
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "file").write_text("seen")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    made = make_container(command=SLEEPS, mounts=(Mount(source=str(tmp_path / "link"), target="/x"),))

    assert "seen" == run(runtime.start(made.id), "cat /x/file")


@pytest.mark.parametrize(
    "fields",
    [{"cpus": 10_000.0}, {"drop_capabilities": ("NO_SUCH",)}, {"workdir": "/etc/passwd"}],
    ids=["cpus", "capability", "workdir"],
)
def test_what_the_engine_refuses_is_an_invalid_specification(
    runtime: Runtime, connection: Connection, image: str, fields: dict[str, Any]
) -> None:
    """It never becomes a container with less than was asked for."""
    if connection.is_podman() and "drop_capabilities" not in fields:
        pytest.skip("Podman finds out when it starts the container, or enforces it as it is")
    name = unique("refused")
    with pytest.raises(InvalidSpecError):
        runtime.create(ContainerSpec(image=image, name=name, **fields))
    with pytest.raises(ContainerNotFoundError):
        runtime.inspect(name)


def test_what_is_printed_is_kept_as_bytes_and_not_without_end(
    runtime: Runtime, connection: Connection, make_container: MakeContainer
) -> None:
    """Docker's first choice replaces what is no text, and fills the disk."""
    made = make_container()
    raw = connection.request("GET", f"/containers/{made.id}/json").json()
    driver = connection.request("GET", "/info").json()["LoggingDriver"] or "json-file"
    expected = "local" if driver == "json-file" and not connection.is_podman() else driver

    assert expected == raw["HostConfig"]["LogConfig"]["Type"]
    assert runtime.inspect(made.id) == made


# -- Start ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", [True, False])
def test_a_started_container_works_at_once(
    runtime: Runtime, make_container: MakeContainer, run: Callable[[ContainerInfo, str], str], *, init: bool
) -> None:
    """The next call may be an exec; starting again changes nothing."""
    info = runtime.start(make_container(command=SLEEPS, init=init).id)
    said = run(info, "echo yes")
    again = runtime.start(info.id)

    assert ("yes", True, info.started_at) == (said, again.running, again.started_at)
    assert info.started_at is not None


@pytest.mark.parametrize("init", [True, False])
@pytest.mark.parametrize("command", [("/no/such",), ("nosuch",)])
def test_a_missing_command_is_a_failed_start(
    runtime: Runtime, make_container: MakeContainer, command: tuple[str, ...], *, init: bool
) -> None:
    """With an init, the engine itself would call it a success."""
    made = make_container(command=command, entrypoint=(), init=init)
    with pytest.raises(StartFailedError, match="the image has no") as caught:
        runtime.start(made.id)

    assert (127, "docker", made.id) == (caught.value.exit_code, caught.value.runtime, caught.value.subject)
    assert (b"No such file" in caught.value.output) == init
    assert "command" in caught.value.hint


@pytest.mark.parametrize("init", [True, False])
def test_a_container_that_ends_at_once_has_failed(
    runtime: Runtime, make_container: MakeContainer, *, init: bool
) -> None:
    """Its code and its last words are what one needs to know."""
    script = "seq 1 5000; echo last; exit 3"
    made = make_container(command=("/bin/sh", "-c", script), entrypoint=(), init=init)
    with pytest.raises(StartFailedError, match="ended as soon as") as caught:
        runtime.start(made.id)

    assert 3 == caught.value.exit_code
    assert caught.value.output.endswith(b"4999\n5000\nlast\n")
    assert len(caught.value.output) <= 4096
    assert (ContainerStatus.EXITED, 3) == (runtime.inspect(made.id).status, runtime.inspect(made.id).exit_code)


def test_a_user_that_does_not_exist_is_a_failed_start(runtime: Runtime, make_container: MakeContainer) -> None:
    """The engine's words name it."""
    made = make_container(user="nobody-there")
    with pytest.raises(StartFailedError, match="nobody-there"):
        runtime.start(made.id)


def test_a_bind_source_that_went_away_is_a_failed_start(
    runtime: Runtime, connection: Connection, make_container: MakeContainer, tmp_path: Path
) -> None:
    """It was there when the container was made; it is not made anew."""
    if connection.is_podman():
        pytest.skip("Podman makes it")
    source = tmp_path / "source"
    source.mkdir()
    made = make_container(mounts=(Mount(source=str(source), target="/x"),))
    source.rmdir()
    with pytest.raises(StartFailedError, match=str(source)):
        runtime.start(made.id)

    assert not source.exists()


def test_a_shell_waits_for_input_that_does_not_come(runtime: Runtime, make_container: MakeContainer) -> None:
    """An image whose command is a shell stays up."""
    made = make_container(command=("/bin/sh",), entrypoint=())
    runtime.start(made.id)

    assert runtime.inspect(made.id).running


# -- Stop -------------------------------------------------------------------------------------------------------------


def test_a_stopped_container_can_be_started_again(
    runtime: Runtime, make_container: MakeContainer, run: Callable[[ContainerInfo, str], str]
) -> None:
    """What was written in it is still there."""
    made = runtime.start(make_container(command=SLEEPS, init=True).id)
    run(made, "echo kept > /file")
    stopped = runtime.stop(made.id)
    again = runtime.stop(made.id)
    said = run(runtime.start(made.id), "cat /file")

    assert (ContainerStatus.EXITED, ContainerStatus.EXITED, "kept") == (stopped.status, again.status, said)
    assert stopped.exit_code is not None


def test_a_deaf_process_is_killed_after_the_grace(runtime: Runtime, make_container: MakeContainer) -> None:
    """Not before, and not much later."""
    made = runtime.start(make_container(command=("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1; done")).id)
    began = time.monotonic()
    stopped = runtime.stop(made.id, grace=1.2)
    seconds = time.monotonic() - began

    assert (ContainerStatus.EXITED, 137) == (stopped.status, stopped.exit_code)
    assert 1.2 <= seconds < 6.2


def test_stopping_what_never_ran_changes_nothing(runtime: Runtime, make_container: MakeContainer) -> None:
    """A created container stays created."""
    made = make_container()

    assert made == runtime.stop(made.id)


def test_a_paused_container_can_be_stopped(
    runtime: Runtime, connection: Connection, make_container: MakeContainer
) -> None:
    """Somebody else paused it; stopping is still stopping."""
    made = runtime.start(make_container(command=SLEEPS, init=True).id)
    connection.request("POST", f"/containers/{made.id}/pause")
    paused = runtime.inspect(made.id).status

    assert (ContainerStatus.PAUSED, ContainerStatus.EXITED) == (paused, runtime.stop(made.id, grace=1).status)


def test_a_kill_from_outside_is_not_for_memory(
    runtime: Runtime, connection: Connection, make_container: MakeContainer
) -> None:
    """137 alone does not say why."""
    made = runtime.start(make_container(command=SLEEPS).id)
    connection.request("POST", f"/containers/{made.id}/kill")
    info = ended(runtime, made)

    told = Capability.OOM_REPORT in runtime.capabilities()

    assert (ContainerStatus.EXITED, 137, False if told else None) == (info.status, info.exit_code, info.oom_killed)


def test_a_kill_for_memory_is_told(runtime: Runtime, make_container: MakeContainer) -> None:
    """The user has to know that it was the limit."""
    eater = "sleep 0.5; x=x; while :; do x=$x$x; done"
    made = runtime.start(make_container(command=("/bin/sh", "-c", eater), memory=8 << 20).id)
    info = ended(runtime, made)

    told = Capability.OOM_REPORT in runtime.capabilities()

    assert (137, True if told else None) == (info.exit_code, info.oom_killed)


def ended(runtime: Runtime, container: ContainerInfo) -> ContainerInfo:
    """Wait until a container has ended."""
    deadline = time.monotonic() + 20
    while (info := runtime.inspect(container.id)).running and time.monotonic() < deadline:
        time.sleep(0.05)
    return info


# -- Remove -----------------------------------------------------------------------------------------------------------


def test_removing_is_idempotent(runtime: Runtime, make_container: MakeContainer) -> None:
    """Created, running or stopped: it is gone, and then there is nothing to remove."""
    created = make_container()
    running = runtime.start(make_container(command=SLEEPS).id)
    stopped = runtime.stop(runtime.start(make_container(command=SLEEPS).id).id, grace=0)
    first = [runtime.remove(info.id, force=True) for info in (created, running, stopped)]
    second = [runtime.remove(info.id, force=True) for info in (created, running, stopped)]

    assert ([True] * 3, [False] * 3) == (first, second)
    assert not runtime.remove(unique("never"))


def test_a_running_container_is_removed_with_force_only(runtime: Runtime, make_container: MakeContainer) -> None:
    """Work in it is not lost by accident."""
    made = runtime.start(make_container(command=SLEEPS).id)
    with pytest.raises(InUseError) as caught:
        runtime.remove(made.id)
    runs = runtime.inspect(made.id).running
    began = time.monotonic()

    assert (made.id, True, True) == (caught.value.subject, runs, runtime.remove(made.id, force=True))
    assert time.monotonic() - began < 5


def test_many_may_remove_one_container(runtime: Runtime, make_container: MakeContainer) -> None:
    """Each of them returns when it is gone."""
    made = runtime.start(make_container(command=SLEEPS).id)

    def remove(_: int) -> bool:
        runtime.remove(made.id, force=True)
        return not runtime.list_containers({LABEL_ATTEMPT: made.labels[LABEL_ATTEMPT]})

    with ThreadPoolExecutor(8) as pool:
        assert [True] * 8 == list(pool.map(remove, range(8)))


def test_named_volumes_stay_and_nameless_ones_go(
    runtime: Runtime, connection: Connection, make_container: MakeContainer
) -> None:
    """A volume with a name is somebody's data; one without would be left behind for ever."""
    volume = unique("volume")
    made = make_container(mounts=(Mount(kind="volume", source=volume, target="/data"),))
    runtime.remove(made.id)
    kept = connection.request("GET", f"/volumes/{volume}").status
    connection.request("DELETE", f"/volumes/{volume}")

    assert 200 == kept
    assert (Mount(kind="volume", source=volume, target="/data"),) == made.mounts


# -- List and names ---------------------------------------------------------------------------------------------------


def test_a_list_is_by_all_labels(runtime: Runtime, make_container: MakeContainer) -> None:
    """Exactly those that carry all of them, in whatever state; nothing found is no error."""
    mark = unique("list")
    one = make_container(labels={"mark": mark, "n": "1"})
    two = runtime.start(make_container(labels={"mark": mark, "n": "2"}, command=SLEEPS).id)

    def found(labels: dict[str, str], **options: bool) -> set[str]:
        return {info.id for info in runtime.list_containers(labels, **options)}

    assert {one.id, two.id} == found({"mark": mark})
    assert {two.id} == found({"mark": mark}, running_only=True)
    assert {one.id} == found({"mark": mark, "n": "1"})
    assert set() == found({"mark": mark, "n": "3"})
    assert {one.id, two.id} <= found({})


def test_a_list_is_one_call(tmp_path: Path) -> None:
    """However many containers there are."""
    entries = [{"Id": f"{number:064x}", "Names": [f"/c{number}"], "State": "running"} for number in range(1000)]

    def script(sock: socket.socket, _head: bytes) -> bool:
        sock.sendall(reply(json.dumps(entries).encode()))
        return True

    with ScriptedEngine(tmp_path / "engine.sock", script) as engine, runtime_on(engine.endpoint.url) as runtime:
        found = runtime.list_containers({"a": "b"})

    assert 1000 == len(found)
    assert 2 == len(engine.heads)  # the version of the API, and the list


@pytest.mark.parametrize("operation", ["inspect", "start", "stop"])
def test_an_unknown_container_is_not_found(runtime: Runtime, operation: str) -> None:
    """With its name, and of the class for it."""
    name = unique("unknown")
    with pytest.raises(ContainerNotFoundError) as caught:
        getattr(runtime, operation)(name)

    assert ("docker", name) == (caught.value.runtime, caught.value.subject)


def test_the_beginning_of_an_id_names_nothing(runtime: Runtime, make_container: MakeContainer) -> None:
    """Engines take it for the container; a mistyped name must not stop or remove somebody else's."""
    made = runtime.start(make_container(command=SLEEPS).id)
    operations: list[Callable[[str], object]] = [runtime.inspect, runtime.start, runtime.stop]
    for operation in operations:
        with pytest.raises(ContainerNotFoundError):
            operation(made.id[:12])

    assert not runtime.remove(made.id[:12], force=True)
    assert runtime.inspect(made.id).running


def test_a_name_that_looks_like_an_id_is_a_name(runtime: Runtime, make_container: MakeContainer) -> None:
    """Hexadecimal digits are letters, too."""
    name = uuid.uuid4().hex[:16]
    made = make_container(name=name)

    assert (made.id, True) == (runtime.inspect(name).id, runtime.remove(name))


# -- Lost answers -----------------------------------------------------------------------------------------------------

INFO = {"Name": "/box", "State": {"Status": "created"}, "Config": {}}


def _containers(connection: Connection) -> Containers:
    credentials = Credentials(Surroundings(environ={}))
    return Containers(connection, EngineFacts(connection), Images(connection, credentials))


def lossy(path: Path, listed: list[list[str]]) -> tuple[ContainerInfo | OublietteError, list[bytes]]:
    """Create on an engine that takes the request and hangs up; ``listed`` is what each search then finds."""
    answers = iter(listed)
    bodies: list[bytes] = []

    def script(sock: socket.socket, head: bytes) -> bool:
        if b"POST" in head:
            bodies.append(sock.recv(65536))
            return False
        if b"/info" in head:
            sock.sendall(reply(b"{}"))
            return True
        if b"/containers/json" in head:
            found = [{"Id": identity, "State": "created"} for identity in next(answers, [])]
            sock.sendall(reply(json.dumps(found).encode()))
            return True
        identity = head.split(b"/")[3].decode()
        sock.sendall(reply(json.dumps({**INFO, "Id": identity}).encode()))
        return True

    with ScriptedEngine(path, script) as engine, Connection(engine.endpoint) as connection:
        try:
            result: ContainerInfo | OublietteError = _containers(connection).create(ContainerSpec(image="x:latest"))
        except OublietteError as error:
            result = error
    return result, [*engine.heads, *bodies]


def test_after_a_lost_answer_our_own_attempt_is_adopted(tmp_path: Path) -> None:
    """Engines go on without their client: a second create would make a second container, or a conflict."""
    result, sent = lossy(tmp_path / "engine.sock", [[], ["c" * 64]])
    creates = [head for head in sent if head.startswith(b"POST")]
    attempt = json.loads(sent[-1])["Labels"][LABEL_ATTEMPT]
    searches = [head for head in sent if b"/containers/json" in head]

    assert isinstance(result, ContainerInfo)
    assert ("c" * 64, 1, 2) == (result.id, len(creates), len(searches))
    assert all(attempt.encode() in head for head in searches)


def test_a_create_that_came_to_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows whether it took effect, and nobody else's container is taken for ours."""
    monkeypatch.setattr("oubliette_docker._containers._SEARCH_FOR", 0.3)
    result, _ = lossy(tmp_path / "engine.sock", [])

    assert isinstance(result, RuntimeLostError)


def test_a_removal_that_somebody_else_began_is_waited_for(tmp_path: Path) -> None:
    """Docker answers 409 while it is at it."""
    looks = iter([reply(json.dumps({**INFO, "Id": "b" * 64, "Name": "/box-1"}).encode())] * 2)

    def script(sock: socket.socket, head: bytes) -> bool:
        busy = reply(b'{"message":"removal of container box is already in progress"}', "409 Conflict")
        gone = reply(b'{"message":"No such container: box"}', "404 Not Found")
        sock.sendall(busy if head.startswith(b"DELETE") else next(looks, gone))
        return True

    with ScriptedEngine(tmp_path / "engine.sock", script) as engine, runtime_on(engine.endpoint.url) as runtime:
        removed = runtime.remove("box-1")

    assert (True, 5) == (removed, len(engine.heads))


def test_a_stop_has_its_grace_and_a_margin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that never answers a stop is not waited for for ever."""
    monkeypatch.setattr("oubliette_docker._containers.STOP_MARGIN", 0.2)
    release = threading.Event()

    def script(sock: socket.socket, head: bytes) -> bool:
        if b"POST" in head:
            release.wait(20)
            return False
        sock.sendall(reply(json.dumps({**INFO, "Id": "b" * 64, "State": {"Status": "running"}}).encode()))
        return True

    with ScriptedEngine(tmp_path / "engine.sock", script) as engine, runtime_on(engine.endpoint.url) as runtime:
        began = time.monotonic()
        with pytest.raises(OperationTimeoutError) as caught:
            runtime.stop("box", grace=0.5)
        seconds = time.monotonic() - began
        release.set()

    assert ("stop", 1.2, True) == (caught.value.operation, caught.value.timeout, 1.2 <= seconds < 3)
    assert any(b"/stop?t=1 " in head for head in engine.heads)


def test_podman_is_told_to_stop_before_it_removes(tmp_path: Path) -> None:
    """Otherwise it sends the stop signal itself, and waits ten seconds."""
    ping = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nLibpod-API-Version: 5.4.2\r\nContent-Length: 2\r\n\r\nOK"

    def script(sock: socket.socket, head: bytes) -> bool:
        sock.sendall(reply(b"") if b"DELETE" in head else reply(b'{"message":"not running"}', "409 Conflict"))
        return True

    with (
        ScriptedEngine(tmp_path / "engine.sock", script, ping) as engine,
        runtime_on(engine.endpoint.url) as runtime,
    ):
        removed = runtime.remove("box-1", force=True)
    calls = [head.split(b"\r\n")[0] for head in engine.heads]

    assert removed
    assert b"POST /v1.41/containers/box-1/stop?t=0 HTTP/1.1" == calls[-2]
    assert b"DELETE /v1.41/containers/box-1?force=true&v=true HTTP/1.1" == calls[-1]
