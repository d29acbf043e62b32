"""An engine is there when it is asked for, answers like any other, and leaves nothing behind however it ends."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oubliette_core.testing.images import build_image, random_layer
from oubliette_core.testing.upload import push
from tests.engine import Engine, EngineUnavailableError, host, private_engine, running_engine
from tests.engine.dockerhttp import docker_json, registry_answers
from tests.engine.packages import PackagesUnavailableError, Programs, unpacked
from tests.engine.private import PrivateRegistry
from tests.engine.provide import engine_programs
from tests.harness import raw
from tests.images import ImageMaker, StartEngine

REPOSITORY = Path(__file__).parents[2]
HOLD_AN_ENGINE = """
import signal
from tests.engine import private_engine
with private_engine() as engine:
    print(engine.docker_host, engine.keeper.pid, flush=True)
    signal.pause()
"""


@pytest.fixture
def programs() -> Programs:
    """What private engines are made of, where they can be had."""
    try:
        return engine_programs()
    except EngineUnavailableError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture
def command(programs: Programs) -> list[str]:
    """The command line of `tests.engine`."""
    assert programs.find("dockerd")
    return [sys.executable, "-m", "tests.engine"]


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a path that is short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="oub-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def spawn(command: list[str]) -> subprocess.Popen[str]:
    """Start a program that uses a private engine, in a process group of its own."""
    env = {**os.environ, "OUBLIETTE_TEST_ENGINE": "private"}
    return subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True)


def state_of(docker_host: str) -> Path:
    """The directory that a private engine keeps everything in."""
    return Path(docker_host.removeprefix("unix://")).parent


def processes_with(text: str) -> list[int]:
    """The processes of this machine that have `text` on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if text.encode() in line and int(process.name) != os.getpid():
            found.append(int(process.name))
    return found


def wait_for_end(pid: int) -> None:
    """Wait until a process, not necessarily a child, is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    readable, _, _ = select.select([descriptor], [], [], 30)
    os.close(descriptor)
    assert readable


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what only the kernel or the engine knows."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def traces_of(state: Path) -> list[str]:
    """What can be seen on the host of a private engine."""
    bridge = host.Footprint(state).bridge
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    seen = {
        "directory": state.exists(),
        "processes": bool(processes_with(str(state))),
        "bridge": Path(f"/sys/class/net/{bridge}").exists(),
        "cgroups": any(Path("/sys/fs/cgroup").glob(f"**/{bridge}")),
        "mounts": str(state) in mounts,
    }
    return [name for name, there in seen.items() if there]


def busy_container(engine: Engine, busybox: Path, marker: int) -> str:
    """Start a container, in a network of its own, that sleeps for `marker` seconds."""
    maker = ImageMaker(engine, busybox)
    reference = maker.push().reference
    assert "" == raw.pull(engine, reference)
    raw.call(engine, "POST", "/networks/create", {"Name": "own", "Driver": "bridge"})
    spec = {
        "Image": reference,
        "Cmd": ["sleep", str(marker)],
        "HostConfig": {"NetworkMode": "own", "Init": True, "Memory": 64 * 1024 * 1024},
    }
    container: str = raw.call(engine, "POST", "/containers/create", spec)["Id"]
    raw.call(engine, "POST", f"/containers/{container}/start")
    wait_until(lambda: bool(processes_with(str(marker))))
    return container


def test_answers_and_leaves_nothing(programs: Programs, busybox: Path) -> None:
    """Containers, networks, mounts and processes go with the engine, whatever state they are in."""
    marker = 900_001
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_bytes()
    with private_engine() as engine:
        state = state_of(engine.docker_host)
        busy_container(engine, busybox, marker)
        network = raw.call(engine, "GET", "/networks/own")["Id"]
        assert programs.find("dockerd")
        assert Path(f"/sys/class/net/br-{network[:12]}").exists()
        assert registry_answers(engine.registry)
        assert [] == [file for place in host.MOUNT_POINTS for file in place.glob("key.json")]

    assert [] == traces_of(state)
    assert [] == processes_with(f"sleep\0{marker}")
    assert not Path(f"/sys/class/net/br-{network[:12]}").exists()
    assert not registry_answers(engine.registry)
    assert forwarding == Path("/proc/sys/net/ipv4/ip_forward").read_bytes()


def test_two_engines_do_not_meet(start_private_engine: StartEngine) -> None:
    """Each has its own images, networks and addresses."""
    first, second = start_private_engine(), start_private_engine()

    subnets = {raw.call(engine, "GET", "/networks/bridge")["IPAM"]["Config"][0]["Subnet"] for engine in (first, second)}
    assert 2 == len(subnets)
    assert first.registry != second.registry


def test_a_holder_killed_with_sigkill_leaves_nothing(programs: Programs, busybox: Path) -> None:
    """Whoever asked for the engine cannot forget to end it."""
    with spawn([sys.executable, "-c", HOLD_AN_ENGINE]) as holder:
        assert holder.stdout is not None
        docker_host, keeper = holder.stdout.readline().split()
        engine = Engine(docker_host=docker_host, registry="", docker_cli=None, busybox=busybox)
        assert "" != docker_json(docker_host, "/version")["Version"]
        holder.kill()
        wait_for_end(int(keeper))

    assert [] == traces_of(state_of(engine.docker_host))
    assert programs.find("dockerd")


def test_a_killed_keeper_takes_the_engine_along_and_is_swept_up_after(programs: Programs) -> None:
    """If even the keeper is killed no process outlives it, and the next engine removes the rest."""
    with spawn([sys.executable, "-c", HOLD_AN_ENGINE]) as holder:
        assert holder.stdout is not None
        docker_host, keeper = holder.stdout.readline().split()
        state = state_of(docker_host)
        daemons = [pid for pid in processes_with(str(state)) if pid != int(keeper)]
        os.kill(int(keeper), signal.SIGKILL)
        for pid in daemons:
            wait_for_end(pid)
        assert {"directory", "bridge"} <= set(traces_of(state))
        host.sweep(programs)

        assert [] == [trace for trace in traces_of(state) if trace != "processes"]
        assert len(daemons) >= 4
        holder.terminate()


def test_run_hands_over_the_addresses_and_the_exit_code(command: list[str]) -> None:
    """The command finds the engine by the environment, and its own exit code is the result."""
    script = (
        "from tests.engine import running_engine\nwith running_engine() as e: print(e.docker_host)\nraise SystemExit(7)"
    )
    with spawn([*command, "run", "--", sys.executable, "-c", f"{script}"]) as program:
        output, _ = program.communicate(timeout=60)

    assert 7 == program.returncode
    assert output.startswith("unix://")
    assert [] == traces_of(state_of(output.strip()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_run_ends_clean_on_signals(command: list[str], number: signal.Signals, code: int) -> None:
    """SIGTERM to the program and Ctrl-C to its group end the command and leave nothing."""
    with spawn([*command, "run", "--", "sh", "-c", "echo $$ $DOCKER_HOST; exec sleep 900002"]) as program:
        assert program.stdout is not None
        child, docker_host = program.stdout.readline().split()
        if number == signal.SIGINT:
            os.killpg(program.pid, number)
        else:
            program.send_signal(number)

        assert code == program.wait(60)
    wait_for_end(int(child))
    assert [] == traces_of(state_of(docker_host))


def test_an_engine_that_stays(command: list[str], short_path: Path) -> None:
    """`start` leaves one running for other processes, once; `stop` ends it, and may be repeated."""
    state = short_path / "dev"
    start, stop = ([*command, action, "--dir", str(state)] for action in ("start", "stop"))
    started = subprocess.run(start, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    exports = dict(line.removeprefix("export ").split("=", 1) for line in started.stdout.splitlines())
    again = subprocess.run(start, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    try:
        assert started.stdout == (state / "env").read_text(encoding="utf-8")
        assert f"unix://{state}/docker.sock" == exports["DOCKER_HOST"] == exports["OUBLIETTE_TEST_ENGINE"]
        assert docker_json(exports["DOCKER_HOST"], "/version")["ApiVersion"]
        assert registry_answers(exports["OUBLIETTE_TEST_REGISTRY"])
        assert (1, True) == (again.returncode, "runs already" in again.stderr)
    finally:
        subprocess.run(stop, cwd=REPOSITORY, check=True)

    assert [] == traces_of(state)
    subprocess.run(stop, cwd=REPOSITORY, check=True)


def test_a_killed_daemon_starts_again(private_engine: Engine, busybox: Path) -> None:
    """Containers outlive a killed daemon, as anywhere, and the next daemon knows them."""
    marker = 900_003
    container = busy_container(private_engine, busybox, marker)
    private_engine.kill()
    with pytest.raises(ConnectionRefusedError):
        docker_json(private_engine.docker_host, "/version")
    assert processes_with(f"sleep\0{marker}")

    private_engine.restart()
    assert container == docker_json(private_engine.docker_host, f"/containers/{container}/json")["Id"]
    private_engine.restart()
    assert docker_json(private_engine.docker_host, "/version")["ApiVersion"]


def test_a_frozen_daemon_goes_on(private_engine: Engine) -> None:
    """While frozen it accepts connections and answers none."""
    private_engine.pause()
    with pytest.raises(TimeoutError):
        docker_json(private_engine.docker_host, "/version", timeout=0.3)

    private_engine.resume()
    assert docker_json(private_engine.docker_host, "/version")["ApiVersion"]


def test_a_full_disk(start_private_engine: StartEngine, images: ImageMaker) -> None:
    """An engine can be given storage that fills up."""
    engine = start_private_engine(data_mb=24)
    push(images.make(layers=[random_layer(32, "too much")]), engine.registry, "big")

    assert "no space left on device" in raw.pull(engine, f"{engine.registry}/big:latest")


def test_a_registry_without_the_package(tmp_path: Path) -> None:
    """Where there is no `docker-registry`, the registry of the test kit stands in."""

    class NoPrograms(Programs):
        def find(self, name: str) -> Path | None:
            assert name == "docker-registry"
            return None

    registry = PrivateRegistry(NoPrograms(root=None), tmp_path)
    registry.start()
    try:
        image = build_image(random_layer(0.1, "stand-in"))
        assert image.digest == push(image, registry.address, "team/tool")
    finally:
        registry.stop()

    assert not registry_answers(registry.address)


def test_what_is_not_ours_is_not_killed(engine: Engine) -> None:
    """Only private engines take orders."""
    foreign = Engine(docker_host=engine.docker_host, registry=engine.registry, docker_cli=None, busybox=None)

    with pytest.raises(EngineUnavailableError, match="is not ours to kill"):
        foreign.kill()


def test_an_engine_that_runs_is_used(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the docker CLI would find gets only a registry beside it, and stays when that ends."""
    monkeypatch.delenv("OUBLIETTE_TEST_ENGINE", raising=False)
    monkeypatch.setenv("DOCKER_HOST", engine.docker_host)
    with running_engine() as found:
        assert (engine.docker_host, False) == (found.docker_host, found.is_private)
        assert registry_answers(found.registry)

    assert not registry_answers(found.registry)
    assert docker_json(engine.docker_host, "/version")["ApiVersion"]


def test_without_any_engine_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names what is missing here and the way out."""
    monkeypatch.delenv("OUBLIETTE_TEST_ENGINE", raising=False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EngineUnavailableError) as caught, running_engine():
        pytest.fail("there is none")

    assert "this is not root (try: sudo -E)" in str(caught.value)
    assert "export OUBLIETTE_TEST_ENGINE=unix:///" in str(caught.value)


def test_a_named_engine_must_answer(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> None:
    """What was named is used or refused, never replaced."""
    monkeypatch.setenv("OUBLIETTE_TEST_ENGINE", "unix:///nowhere/docker.sock")
    with pytest.raises(EngineUnavailableError, match="no Docker Engine answers there"), running_engine():
        pytest.fail("there is none")

    monkeypatch.setenv("OUBLIETTE_TEST_ENGINE", engine.docker_host)
    monkeypatch.delenv("OUBLIETTE_TEST_REGISTRY", raising=False)
    with pytest.raises(EngineUnavailableError, match="no registry answers there"), running_engine():
        pytest.fail("there is none")


class TestPackages:
    """Packages are fetched once, completely, and beside the system."""

    @pytest.fixture(autouse=True)
    def _own_cache(self, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        assert programs.root
        monkeypatch.setenv("OUBLIETTE_TEST_CACHE", str(tmp_path / "cache"))

    @pytest.mark.slow
    def test_processes_that_ask_at_once_share_one_fetch(self, tmp_path: Path) -> None:
        """The second finds what the first unpacked; the system's own lists and database stay as they are."""
        system = [Path("/var/lib/dpkg/status"), *Path("/var/lib/apt/lists").iterdir()]
        before = {path: path.stat().st_mtime_ns for path in system}
        script = "from tests.engine.packages import *; print(unpacked(['hello']).find('hello'))"  # nobody has that
        asking = [
            subprocess.Popen(
                [sys.executable, "-c", script],
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        answers = [process.communicate(timeout=100) for process in asking]

        assert 1 == len({output for output, _ in answers})
        assert Path(answers[0][0].strip()).is_relative_to(tmp_path)
        assert 1 == sum("Fetching" in errors for _, errors in answers)
        assert before == {path: path.stat().st_mtime_ns for path in system}

    def test_what_is_there_needs_nothing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A second run asks neither apt nor the network."""
        monkeypatch.delenv("OUBLIETTE_TEST_CACHE")
        unpacked(["hello"])
        monkeypatch.setenv("PATH", str(tmp_path))

        assert unpacked(["hello"]).find("hello")

    def test_a_fetch_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        """The error has apt's own words, and the next attempt starts afresh."""
        with pytest.raises(PackagesUnavailableError, match="Unable to locate package no-such-package-anywhere"):
            unpacked(["no-such-package-anywhere"])

        assert [] == [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"]
