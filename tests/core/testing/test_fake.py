"""The fake runtime does what a test scripts, tells what it was asked, and ends when it is told to.

What it does as a runtime is defended by the conformance kit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from pathlib import Path

import pytest

from oubliette_core import (
    Cancel,
    Capability,
    ContainerNotFoundError,
    ContainerNotRunningError,
    ContainerSpec,
    ContainerStatus,
    ExecSpec,
    ImageBuildError,
    ImagePullError,
    LogSpec,
    OperationTimeoutError,
    ProgressEvent,
    Runtime,
    RuntimeLostError,
    RuntimeSettings,
    RuntimeUnavailableError,
    StartFailedError,
    UnsupportedError,
    build_runtime,
)
from oubliette_core.models import BuildSpec, Mount
from oubliette_core.testing.fake import FakeEngine, FakeRuntime, Task
from oubliette_core.testing.fake.images import VERSION_FILE

IMAGE = "example.com/tools:1"
IDLE = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done")


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A fake whose registry has an image."""
    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish(IMAGE, env={"WHO": "image"}, files={"/etc/motd": b"hello\n"})
    yield fake
    fake.engine.shut_down()


@pytest.fixture
def runtime(fake: FakeRuntime) -> Runtime:
    """The typed face of it."""
    return build_runtime("fake", fake)


@pytest.fixture
def box(runtime: Runtime) -> Callable[..., bytes]:
    """A running container ``box``: call it with a script to get what that prints."""
    runtime.pull(IMAGE)
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE))
    runtime.start("box")

    def run(script: str, **spec: object) -> bytes:
        result = runtime.exec("box", ExecSpec(command=("sh", "-c", script), **spec))  # type: ignore[arg-type]
        assert (0, b"") == (result.exit_code, result.stderr), result
        return result.stdout

    return run


# -- The registry -----------------------------------------------------------------------------------------------------


def test_a_pull_shows_each_layer_and_one_end(runtime: Runtime) -> None:
    """What a display is fed with in tests is what engines feed it with."""
    events: list[ProgressEvent] = []
    info = runtime.pull(IMAGE, progress=events.append)
    phases = [event.phase for event in events if event.layer == events[1].layer]

    assert ("resolving", "") == (events[0].phase, events[0].layer)
    assert ["downloading"] * 3 + ["extracting", "done"] == phases
    assert [(0, 2_000_000), (1_000_000, 2_000_000), (2_000_000, 2_000_000)] == [
        (event.current, event.total) for event in events[1:4]
    ]
    assert ("done", "") == (events[-1].phase, events[-1].layer)
    assert ((IMAGE,), 3_000_000, "linux/amd64", UTC) == (
        info.references,
        info.size,
        info.platform,
        info.created_at.tzinfo if info.created_at else None,
    )


def test_a_new_version_has_another_id_and_is_seen_from_inside(fake: FakeRuntime, runtime: Runtime) -> None:
    """The layers that did not change are not downloaded again."""
    old = runtime.pull(IMAGE)
    digest = fake.registry.publish(IMAGE, "2")
    events: list[ProgressEvent] = []
    new = runtime.pull(IMAGE, progress=events.append)
    runtime.create(ContainerSpec(image=IMAGE, name="new", command=("cat", VERSION_FILE)))
    with pytest.raises(StartFailedError) as ended:
        runtime.start("new")

    assert old.id != new.id
    assert f"example.com/tools@{digest}" in new.digests
    assert "exists" in [event.phase for event in events]
    assert b"2\n" == ended.value.output
    assert 2 == fake.registry.requests[IMAGE]


def test_a_failure_is_scripted_with_the_error_itself(fake: FakeRuntime, runtime: Runtime) -> None:
    """The third pull meets the limit, those before and after it do not; each error is a fresh exception."""
    limit = ImagePullError("slow down", reason="rate_limited", retry_after=60.0)
    fake.faults.add("pull", error=limit, on_call=3)
    runtime.pull(IMAGE)
    runtime.pull(IMAGE)
    with pytest.raises(ImagePullError, match="slow down") as caught:
        runtime.pull(IMAGE)
    runtime.pull(IMAGE)

    assert caught.value is not limit
    assert ("rate_limited", 60.0) == (caught.value.reason, caught.value.retry_after)
    assert 4 == fake.calls["pull"]


def test_a_registry_fails_as_often_as_it_is_told(fake: FakeRuntime, runtime: Runtime) -> None:
    """Then it answers again; `heal` takes back what is left."""
    fake.registry.fail(IMAGE, ImagePullError("down", reason="unreachable"), times=2)
    for _ in range(2):
        with pytest.raises(ImagePullError, match="down"):
            runtime.pull(IMAGE)
    runtime.pull(IMAGE)
    fake.registry.fail(IMAGE, ImagePullError("down", reason="unreachable"))
    with pytest.raises(ImagePullError, match="down"):
        runtime.pull(IMAGE)
    fake.registry.heal(IMAGE)

    assert IMAGE in runtime.pull(IMAGE).references


@pytest.mark.parametrize(("platform", "reason"), [(None, "not_found"), ("linux/s390x", "no_platform")])
def test_what_is_not_offered_cannot_be_pulled(runtime: Runtime, platform: str | None, reason: str) -> None:
    """A reference that nobody published, and a platform that it is not there for."""
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(IMAGE if platform else "example.com/absent:1", platform=platform)

    assert (reason, False) == (caught.value.reason, caught.value.retryable)


def test_a_stalled_pull_is_released(fake: FakeRuntime, runtime: Runtime) -> None:
    """The test waits for the event, not for time."""
    gate = fake.registry.stall(IMAGE)
    with ThreadPoolExecutor(1) as pool:
        pulling = pool.submit(runtime.pull, IMAGE)
        assert gate.reached.wait(10)
        assert not pulling.done()
        gate.release()

        assert pulling.result(10).id == runtime.inspect_image(IMAGE).id


def test_a_stalled_pull_ends_at_its_limits(fake: FakeRuntime, runtime: Runtime) -> None:
    """Silence, and the time for the whole pull."""
    fake.registry.stall(IMAGE)
    with pytest.raises(OperationTimeoutError, match=r"longer than 0.05 s"):
        runtime.pull(IMAGE, timeout=0.05)
    fake.engine.stall = 0.05
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(IMAGE)

    assert ("stalled", True) == (caught.value.reason, caught.value.retryable)
    assert not runtime.exists(IMAGE)


def test_a_slow_pull_is_cancelled_at_once(fake: FakeRuntime, runtime: Runtime) -> None:
    """Also in the middle of a scripted delay."""
    fake.registry.slow(IMAGE, 30.0)
    cancel = Cancel()
    threading.Timer(0.05, cancel.cancel).start()
    began = time.monotonic()
    with pytest.raises(ImagePullError) as caught:
        runtime.pull(IMAGE, cancel=cancel)

    assert "cancelled" == caught.value.reason
    assert time.monotonic() - began < 2


# -- Faults -----------------------------------------------------------------------------------------------------------


def test_a_call_hangs_until_it_is_released(fake: FakeRuntime, runtime: Runtime) -> None:
    """Any hook can hang; afterwards it does what it was asked for."""
    fault = fake.faults.add("exists", hang=True)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(runtime.exists, IMAGE)
        assert fault.reached.wait(10)
        assert not asking.done()
        fault.release()

        assert asking.result(10) is False


def test_a_call_that_hangs_ends_at_the_deadline(fake: FakeRuntime, runtime: Runtime) -> None:
    """As every engine call does, with an error that names the call."""
    fake.engine.board.deadline = 0.05
    fake.faults.add("list_containers", hang=True)
    with pytest.raises(OperationTimeoutError) as caught:
        runtime.list_containers()

    assert ("list_containers", 0.05) == (caught.value.operation, caught.value.timeout)


def test_what_hangs_can_be_cancelled(fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]) -> None:
    """A pull says so with its error, an exec with its result."""
    assert box("true") == b""
    for hook, call in (
        ("pull", lambda cancel: runtime.pull(IMAGE, cancel=cancel)),
        ("exec", lambda cancel: runtime.exec("box", ExecSpec(command=("true",)), cancel=cancel)),
    ):
        fault, cancel = fake.faults.add(hook, hang=True), Cancel()
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(call, cancel)
            assert fault.reached.wait(10)
            cancel.cancel()
            error = asking.exception(10)
        if hook == "pull":
            assert isinstance(error, ImagePullError)
            assert "cancelled" == error.reason
        else:
            assert (None, None, True) == (error, asking.result().exit_code, asking.result().cancelled)  # type: ignore[attr-defined]


def test_a_pull_breaks_off(fake: FakeRuntime, runtime: Runtime) -> None:
    """After so many events; nothing is kept."""
    fake.faults.add("pull", after=3)
    events: list[ProgressEvent] = []
    with pytest.raises(RuntimeLostError):
        runtime.pull(IMAGE, progress=events.append)

    assert 3 == len(events)
    assert not runtime.exists(IMAGE)


def test_an_exec_breaks_off_with_what_it_printed(
    fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]
) -> None:
    """A broken connection is never a success, and its output is not lost."""
    assert b"" == box("true")
    fake.faults.add("exec", after=4)
    with pytest.raises(RuntimeLostError) as caught:
        runtime.exec("box", ExecSpec(command=("sh", "-c", "echo abcdefgh; sleep 60")))

    assert b"abcd" == caught.value.stdout
    fake.faults.add("open_exec", after=4)
    with runtime.open_exec("box", ExecSpec(command=("sh", "-c", "echo abcdefgh"))) as process:
        assert b"abcd" == process.stdout.read(100)
        with pytest.raises(RuntimeLostError):
            process.stdout.read(100)


def test_logs_are_slow_and_break_off(fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]) -> None:
    """What follows a log is tested with chunks that take their time."""
    del box
    runtime.create(ContainerSpec(image=IMAGE, name="talks", command=("sh", "-c", "echo one; echo two; sleep 60")))
    runtime.start("talks")
    fake.faults.add("logs", delay=0.05)
    began = time.monotonic()

    assert [b"one\n", b"two\n"] == list(runtime.logs("talks"))
    assert time.monotonic() - began >= 0.1

    fake.faults.add("logs", after=6)
    chunks = runtime.logs("talks")

    assert [b"one\n", b"tw"] == [next(chunks), next(chunks)]
    with pytest.raises(RuntimeLostError):
        next(chunks)


def test_clearing_releases_and_forgets(fake: FakeRuntime, runtime: Runtime) -> None:
    """Nothing of a test reaches the next one."""
    fault = fake.faults.add("exists", hang=True, times=None)
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(runtime.exists, IMAGE)
        assert fault.reached.wait(10)
        fake.faults.clear()

        assert asking.result(10) is False
    assert runtime.exists(IMAGE) is False


# -- The engine -------------------------------------------------------------------------------------------------------


def test_an_engine_that_goes_away_is_unavailable(
    fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]
) -> None:
    """Later calls find nothing, calls under way are lost; its containers live on."""
    assert b"" == box("true")
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(runtime.exec, "box", ExecSpec(command=("sh", "-c", "echo so far; sleep 60")))
        fake.registry.publish("example.com/other:1")
        gate = fake.registry.stall("example.com/other:1")
        pulling = pool.submit(runtime.pull, "example.com/other:1")
        assert gate.reached.wait(10)
        _until(lambda: b"sleep" in b"".join(task.argv[0].encode() for task in _tasks(fake)))
        fake.engine.go_away()
        lost, other = running.exception(10), pulling.exception(10)

    assert isinstance(lost, RuntimeLostError)
    assert b"so far\n" == lost.stdout
    assert isinstance(other, RuntimeLostError)
    assert not runtime.probe().available
    with pytest.raises(RuntimeUnavailableError):
        runtime.inspect("box")
    fake.engine.come_back()
    assert runtime.inspect("box").running


def _tasks(fake: FakeRuntime) -> list[Task]:
    kernel = fake.engine.container("box").kernel
    assert kernel is not None
    with kernel.lock:
        return list(kernel.tasks.values())


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        threading.Event().wait(0.002)


def test_several_runtimes_share_an_engine() -> None:
    """As several connections to one daemon do."""
    engine = FakeEngine()
    first, second = (build_runtime("fake", FakeRuntime(RuntimeSettings(), engine)) for _ in range(2))
    engine.add_image(IMAGE)
    made = first.create(ContainerSpec(image=IMAGE))
    first.close()

    assert made.id == second.inspect(made.name).id
    engine.shut_down()
    assert () == second.list_containers()


def test_calls_are_counted_with_their_arguments(fake: FakeRuntime, runtime: Runtime) -> None:
    """What was asked of the runtime, and how often."""
    runtime.exists(IMAGE)
    runtime.exists("example.com/other", platform="linux/arm64")

    assert 2 == fake.calls["exists"]
    assert 0 == fake.calls["pull"]
    assert {"image": "example.com/other:latest", "platform": "linux/arm64"} == fake.calls.of("exists")[1]
    assert not fake.calls.wait_for("pull", timeout=0.01)
    fake.calls.clear()
    assert {} == dict(fake.calls)


def test_capabilities_can_be_taken_away() -> None:
    """For tests of what is done without them."""
    engine = FakeEngine(without=[Capability.USER])
    engine.add_image(IMAGE)
    runtime = build_runtime("fake", FakeRuntime(RuntimeSettings(), engine))

    with pytest.raises(UnsupportedError):
        runtime.create(ContainerSpec(image=IMAGE, user="1000"))
    assert ("user",) == runtime.create(
        ContainerSpec(image=IMAGE, user="1000", preferred=frozenset({"user"}))
    ).not_enforced


def test_a_paused_container_runs_nothing(fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]) -> None:
    """It has a state of its own, and goes on where it was."""
    assert b"hello\n" == box("cat /etc/motd")
    fake.engine.container("box").pause()

    assert ContainerStatus.PAUSED is runtime.inspect("box").status
    with pytest.raises(ContainerNotRunningError):
        runtime.exec("box", ExecSpec(command=("true",)))
    fake.engine.container("box").pause(paused=False)
    assert b"image\n" == box("echo $WHO")


def test_a_container_can_be_killed_from_outside(fake: FakeRuntime, runtime: Runtime, box: Callable[..., bytes]) -> None:
    """As by the kernel, or by someone else's hand."""
    assert b"" == box("true")
    fake.engine.container("box").kill()

    assert (ContainerStatus.EXITED, 137) == (runtime.inspect("box").status, runtime.inspect("box").exit_code)
    with pytest.raises(ContainerNotFoundError):
        fake.engine.container("other")


def test_shutting_down_leaves_no_thread(fake: FakeRuntime, box: Callable[..., bytes]) -> None:
    """Processes are threads: when the engine is shut down they have ended."""
    box("sleep 1000 & setsid sleep 1000 &")
    threads = [task._thread for task in _tasks(fake)]
    fake.engine.shut_down()
    for thread in threads:
        thread.join(10)

    assert 4 <= len(threads)
    assert not any(thread.is_alive() for thread in threads)


# -- Commands ---------------------------------------------------------------------------------------------------------


def test_a_test_brings_its_own_program(fake: FakeRuntime, runtime: Runtime) -> None:
    """A Python function that is found like any command, also by scripts."""

    def greet(task: Task) -> int:
        task.write(f"hello {' '.join(task.argv[1:])} from {task.cwd} as {task.env.get('NAME')}: ")
        task.write(task.read_all().upper())
        return task.complain("that was all") + 4

    fake.engine.programs["greet"] = greet
    runtime.pull(IMAGE)
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE))
    runtime.start("box")
    command = ("sh", "-c", "cd /tmp; echo input | NAME=me greet you; echo $?")
    result = runtime.exec("box", ExecSpec(command=command))

    assert b"hello you from /tmp as me: INPUT\n5\n" == result.stdout
    assert b"greet: that was all\n" == result.stderr


def test_a_bug_in_a_program_is_shown(fake: FakeRuntime, runtime: Runtime) -> None:
    """With its traceback, on the command's own standard error."""

    def broken(_task: Task) -> int:
        raise ZeroDivisionError("a bug")

    fake.engine.programs["broken"] = broken
    runtime.pull(IMAGE)
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE))
    runtime.start("box")
    result = runtime.exec("box", ExecSpec(command=("broken",)))

    assert 1 == result.exit_code
    assert b"ZeroDivisionError: a bug" in result.stderr


def test_a_program_that_never_rests_is_stopped_where_it_checks(fake: FakeRuntime, runtime: Runtime) -> None:
    """A deadline ends it, and the result says truly that nothing is left."""

    def spin(task: Task) -> int:
        while True:
            task.check()

    fake.engine.programs["spin"] = spin
    runtime.pull(IMAGE)
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE))
    runtime.start("box")
    result = runtime.exec("box", ExecSpec(command=("spin",), timeout=0.1))

    assert (None, True, True) == (result.exit_code, result.timed_out, result.killed)
    assert "spin" not in [task.argv[0] for task in _tasks(fake)]


def test_a_program_that_cannot_be_stopped_is_not_called_killed(fake: FakeRuntime, runtime: Runtime) -> None:
    """``killed`` is True only when it was seen that nothing is left."""
    release = threading.Event()

    def deaf(_task: Task) -> int:
        release.wait(30)
        return 0

    fake.engine.programs["deaf"] = deaf
    runtime.pull(IMAGE)
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE))
    runtime.start("box")
    result = runtime.exec("box", ExecSpec(command=("deaf",), timeout=0.1))
    release.set()

    assert (True, False) == (result.timed_out, result.killed)


def test_an_image_of_nothing_but_its_files(fake: FakeRuntime, runtime: Runtime) -> None:
    """Without a shell nothing of the fake's own is in it."""
    fake.registry.publish("example.com/bare:1", bare=True, files={"/program": b"\x7fELF"}, command=("/program",))
    runtime.pull("example.com/bare:1")
    runtime.create(ContainerSpec(image="example.com/bare:1", name="bare"))
    with pytest.raises(StartFailedError) as caught:
        runtime.start("bare")

    assert 126 == caught.value.exit_code
    assert "Exec format error" in caught.value.message


def test_a_bind_mount_is_the_host_s_directory(runtime: Runtime, tmp_path: Path) -> None:
    """A link in it leads to the container's own files, never out of it."""
    (tmp_path / "link").symlink_to("/etc/motd")
    (tmp_path / "up").symlink_to("../../../../../../../../etc")
    runtime.pull(IMAGE)
    mount = Mount(source=str(tmp_path), target="/workspace")
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=IDLE, mounts=(mount,)))
    runtime.start("box")
    script = "cd /workspace; cat link; cat up/motd; echo made > file; mkdir -p a/b; mv file a/b/; ls; ls a/b"
    result = runtime.exec("box", ExecSpec(command=("sh", "-c", script)))

    assert b"hello\nhello\na\nlink\nup\nfile\n" == result.stdout
    assert "made\n" == (tmp_path / "a/b/file").read_text()


def test_a_follower_sees_a_log_grow(runtime: Runtime) -> None:
    """And its end, when the container ends."""
    runtime.pull(IMAGE)
    script = "echo first; trap 'echo last; exit 0' TERM; while :; do sleep 3600 & wait $!; done"
    runtime.create(ContainerSpec(image=IMAGE, name="box", command=("sh", "-c", script)))
    runtime.start("box")
    follow = runtime.logs("box", LogSpec(follow=True))

    assert b"first\n" == next(follow)
    runtime.stop("box")
    assert [b"last\n"] == list(follow)


# -- Building ---------------------------------------------------------------------------------------------------------


def test_an_image_is_built_from_a_dockerfile(runtime: Runtime, tmp_path: Path) -> None:
    """Each instruction that tests use does what it does elsewhere."""
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("content\n")
    (tmp_path / "Dockerfile").write_text(
        "# a comment\n"
        f"FROM {IMAGE}\n"
        "ARG WORD=default\n"
        "ENV GREETING=hello NAME=${WORD}\n"
        "WORKDIR /srv\n"
        "COPY tree /srv/tree\n"
        "RUN echo $GREETING $NAME \\\n  > greeting && rm /etc/motd\n"
        'RUN ["sh", "-c", "id -u > uid"]\n'
        "LABEL one=1\n"
        "USER nobody\n"
        'ENTRYPOINT ["sh", "-c"]\n'
        'CMD ["cat greeting uid tree/file; id -u; ls /etc/motd 2>/dev/null; pwd"]\n'
    )
    runtime.pull(IMAGE)
    spec = BuildSpec(context=tmp_path, tag="built", build_args={"WORD": "you"}, labels={"two": "2"})
    lines: list[str] = []
    info = runtime.build(spec, progress=lambda event: lines.append(event.detail))
    runtime.create(ContainerSpec(image="built", name="built"))
    with pytest.raises(StartFailedError) as ended:
        runtime.start("built")

    assert {"one": "1", "two": "2"} == dict(info.labels)
    assert b"hello you\n0\ncontent\n65534\n/srv\n" == ended.value.output
    assert f"FROM {IMAGE}" == lines[0]


def test_a_build_can_be_cancelled_just_before_a_command(runtime: Runtime, tmp_path: Path) -> None:
    """There is nothing to be killed yet; it must not be waited for afterwards."""
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN sleep 1000\n")
    runtime.pull(IMAGE)
    cancel = Cancel()

    def stop_at_the_command(event: ProgressEvent) -> None:
        if "RUN" in event.detail:
            cancel.cancel()

    with pytest.raises(ImageBuildError, match="cancelled"):
        runtime.build(BuildSpec(context=tmp_path, tag="built"), progress=stop_at_the_command, cancel=cancel)

    assert not runtime.exists("built")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("RUN true\n", "first instruction has to be FROM"),
        (f"FROM {IMAGE}\nFROM {IMAGE}\n", "one stage"),
        (f"FROM {IMAGE}\nADD x /x\n", "does not know ADD"),
        (f"FROM {IMAGE}\nCOPY ../secret /x\n", "not in the build's directory"),
        (f"FROM {IMAGE}\nCOPY absent /x\n", "No such file"),
        (f"FROM {IMAGE}\nUSER nosuch\nRUN true\n", "no user nosuch"),
    ],
)
def test_a_build_that_cannot_be_done_says_why(runtime: Runtime, tmp_path: Path, text: str, reason: str) -> None:
    """And makes no image."""
    (tmp_path / "Dockerfile").write_text(text)
    runtime.pull(IMAGE)
    with pytest.raises(ImageBuildError, match=reason):
        runtime.build(BuildSpec(context=tmp_path, tag="built"))

    assert not runtime.exists("built")
