"""The runtime works with every version of the command, and says what is wrong with it or its service."""

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_apple import AppleRuntime
from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotFoundError,
    ImageNotFoundError,
    ImagePullError,
    InvalidSpecError,
    NameConflictError,
    RuntimeLostError,
    RuntimeOperationError,
    RuntimeUnavailableError,
)
from oubliette_core.models import ContainerSpec, ContainerStatus, ExecSpec, LogSpec, ProgressEvent, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from tests.apple.conftest import Install
from tests.apple.installed import PROFILES, Emulator
from tests.images import ImageMaker

Load = Callable[..., Runtime]


@pytest.fixture
def load() -> Load:
    """Loads the runtime with an emulated command."""

    def make(mac: Emulator, **options: object) -> Runtime:
        settings = RuntimeSettings(options={"binary": str(mac.command), **options})
        return build_runtime("apple", AppleRuntime(settings))

    return make


def boxed(runtime: Runtime, image: str, **fields: object) -> str:
    """Pull an image and run a container of it."""
    runtime.pull(image)
    spec = ContainerSpec(image=image, **fields)  # type: ignore[arg-type]
    return runtime.start(runtime.create(spec).id).id


@pytest.mark.parametrize("profile", PROFILES)
def test_a_life_in_every_version(install: Install, load: Load, image: str, profile: str, tmp_path: Path) -> None:
    """Pull, create, start, exec, logs, stop, list and remove give the same in all versions."""
    mac = install(profile)
    runtime = load(mac)
    events: list[ProgressEvent] = []
    pulled = runtime.pull(image, progress=events.append)
    script = "echo begun; trap 'exit 0' TERM; while :; do sleep 0.1; done"
    spec = ContainerSpec(
        image=image, name="box", command=("/bin/sh", "-c", script), labels={"a": "b=c"}, env={"TWO": "one\ntwo"}
    )
    created = runtime.create(spec)
    started = runtime.start("box")
    ran = runtime.exec("box", ExecSpec(command=("sh", "-c", 'echo "$TWO"; cat; exit 3'), stdin=b"given"))
    logged = b"".join(runtime.logs("box", LogSpec(tail=1)))
    stopped = runtime.stop("box", grace=5)
    (listed,) = runtime.list_containers({"a": "b=c"})

    assert runtime.probe().available
    assert (pulled.id, 1) == (created.image_id, sum(event.phase == "done" for event in events))
    states = [ContainerStatus.CREATED, ContainerStatus.RUNNING, ContainerStatus.EXITED, ContainerStatus.EXITED]
    assert states == [created.status, started.status, stopped.status, listed.status]
    assert (3, b"one\ntwo\ngiven", b"") == (ran.exit_code, ran.stdout, ran.stderr)
    assert b"begun\n" == logged
    assert [True, False] == [runtime.remove("box") for _ in range(2)]
    assert () == runtime.list_containers()
    with pytest.raises(ContainerNotFoundError):
        runtime.stop("box")


@pytest.mark.parametrize(("profile", "replaced"), [("0.9", False), ("0.12", True)])
def test_a_variable_of_the_image(
    install: Install, load: Load, images: ImageMaker, profile: str, *, replaced: bool
) -> None:
    """It is replaced, or nothing is made: a program with the image's HOME would leave its files in the wrong place."""
    runtime = load(install(profile))
    image = images.push(env={"HOME": "/root", "SAME": "same"}).reference
    runtime.pull(image)
    spec = ContainerSpec(image=image, env={"HOME": "/home/oubliette", "SAME": "same"})
    if replaced:
        box = runtime.start(runtime.create(spec).id).id
        assert b"/home/oubliette\n" == runtime.exec(box, ExecSpec(command=("sh", "-c", "echo $HOME"))).stdout
        return
    with pytest.raises(InvalidSpecError, match="variable HOME") as refused:
        runtime.create(spec)

    assert ("HOME", True) == (refused.value.value, "Upgrade" in refused.value.hint)
    assert () == runtime.list_containers()


@pytest.mark.parametrize("profile", PROFILES)
def test_absent_is_not_down(install: Install, load: Load, image: str, profile: str) -> None:
    """An image that is not here is told apart from a service that is not running, which has a hint."""
    mac = install(profile)
    runtime = load(mac)

    assert not runtime.exists(image)
    with pytest.raises(ImageNotFoundError):
        runtime.create(ContainerSpec(image=image))
    with pytest.raises(ImagePullError) as refused:
        runtime.pull(f"{image}-absent")
    assert "not_found" == refused.value.reason
    mac.service(up=False)
    calls: list[Callable[[], object]] = [
        lambda: runtime.exists(image),
        lambda: runtime.create(ContainerSpec(image=image)),
        lambda: runtime.pull(image),
        runtime.list_containers,
        lambda: runtime.start("box"),
        lambda: runtime.exec("box", ExecSpec(command=("true",))),
    ]
    for call in calls:
        with pytest.raises(RuntimeUnavailableError) as down:
            call()
        assert "container system start --enable-kernel-install" in down.value.hint
    probe = runtime.probe()

    assert (False, True) == (probe.available, "is not running" in probe.detail)
    assert "container system start" in probe.hint


def test_autostart(mac: Emulator, load: Load, image: str) -> None:
    """The service is started only where the user wants it, never asks, and installs what it needs."""
    mac.service(up=False, kernel=False)
    with pytest.raises(RuntimeUnavailableError):
        load(mac).exists(image)
    assert [] == [call for call in mac.argv("system") if "start" in call]
    boxed(load(mac, autostart=True), image)

    assert [["system", "start", "--enable-kernel-install"]] == [call for call in mac.argv("system") if "start" in call]


def test_arguments(mac: Emulator, load: Load, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option is one word with its value, and no secret is in any of them, or in a file that stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runtime = load(mac)
    secret = "canary-3f9c"
    box = boxed(runtime, image, env={"TOKEN": secret, "LINES_": f"{secret}\n{secret}"}, labels={"k": "-v=x"})
    result = runtime.exec(
        box, ExecSpec(command=("sh", "-c", "cat; echo $TOKEN"), env={"KEY": secret}, stdin=secret.encode())
    )
    with runtime.open_exec(box, ExecSpec(command=("sh", "-c", "echo $KEY"), env={"KEY": secret})) as process:
        assert f"{secret}\n".encode() == process.stdout.read(100)
        assert 0 == process.wait(20)
    argv = [call["argv"] for call in mac.calls()]
    create = next(words for words in argv if words[0] == "create")

    assert f"{secret}{secret}\n".encode() == result.stdout
    assert secret not in json.dumps(argv)
    assert "--label=k=-v%3Dx" in create
    assert image in create
    assert all("=" in word for word in create[1 : create.index(image)] if word.startswith("--"))
    assert [] == list(tmp_path.glob("oubliette-env-*"))


def test_the_environment_of_the_command(mac: Emulator, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would change the command's output, or is none of its business, is not passed on."""
    for name in ("CONTAINER_DEBUG", "CONTAINER_DEFAULT_PLATFORM", "API_TOKEN"):
        monkeypatch.setenv(name, "linux/s390x")
    load(mac).list_containers()
    seen = {name for call in mac.calls() for name in call["env"]}

    assert set() == seen & {"CONTAINER_DEBUG", "CONTAINER_DEFAULT_PLATFORM", "API_TOKEN"}
    assert "PATH" in seen


def test_names(mac: Emulator, load: Load, image: str) -> None:
    """A name is the container's id; one that is taken is a conflict, one the command would refuse is told before."""
    runtime = load(mac)
    runtime.pull(image)
    runtime.create(ContainerSpec(image=image, name="box"))
    with pytest.raises(NameConflictError):
        runtime.create(ContainerSpec(image=image, name="box"))
    with pytest.raises(Exception, match="2 to 63 characters"):
        runtime.create(ContainerSpec(image=image, name="x" * 64))

    assert "box" == runtime.inspect("box").name


def test_a_directory_that_does_not_exist_is_not_made(mac: Emulator, load: Load, image: str) -> None:
    """The command would make it; a command in the wrong place is worse than an error."""
    runtime = load(mac)
    box = boxed(runtime, image)
    with pytest.raises(CommandNotFoundError) as refused:
        runtime.exec(box, ExecSpec(command=("pwd",), workdir="/no/such"))
    there = runtime.exec(box, ExecSpec(command=("sh", "-c", "pwd; ls /no"), workdir="/etc"))

    assert 126 == refused.value.exit_code
    assert (b"/etc\n", 1) == (there.stdout, there.exit_code)


def test_a_program_that_speaks_like_the_command(mac: Emulator, load: Load, image: str) -> None:
    """Its words are not believed, and it is not run a second time."""
    runtime = load(mac)
    box = boxed(runtime, image)
    lies = (
        "Error: failed to start process 1 in container x (cause: failed to find target executable /bin/sh)",
        'Error: interrupted: "XPC connection error: Connection invalid"',
        "Error: container box is not running",
    )
    script = 'echo ran >>/ran; echo "$1" >&2; exit 1'
    outcomes = []
    for lie in lies:
        try:
            outcomes.append(runtime.exec(box, ExecSpec(command=("sh", "-c", script, "sh", lie))).exit_code)
        except CommandNotFoundError as error:
            outcomes.append(error.exit_code)

    assert [127, 1, 1] == outcomes
    assert b"ran\n" * 3 == runtime.exec(box, ExecSpec(command=("cat", "/ran"))).stdout


def test_a_service_that_dies(mac: Emulator, load: Load, image: str) -> None:
    """A command in its middle is lost, and what it had printed is kept."""
    runtime = load(mac)
    box = boxed(runtime, image)
    mac.fault(die_mid_exec=True)
    with pytest.raises(RuntimeLostError) as lost:
        runtime.exec(box, ExecSpec(command=("sh", "-c", "echo begun; sleep 1000")))

    assert b"begun\n" == lost.value.stdout


def test_what_is_new_or_broken(mac: Emulator, load: Load, image: str) -> None:
    """Unknown keys and states are lived with, versions that do not fit are named, one timeout of create is repeated."""
    runtime = load(mac)
    box = boxed(runtime, image)
    mac.fault(unknown_state="hibernating", extra_keys=True, garbage=True)
    assert ContainerStatus.UNKNOWN is runtime.inspect(box).status
    mac.fault(skew=True)
    with pytest.raises(RuntimeOperationError, match="different versions"):
        runtime.list_containers()
    mac.fault(xpc_timeout_create=1)
    assert ContainerStatus.CREATED is runtime.create(ContainerSpec(image=image)).status
    mac.fault(slow_boot=1.0)
    started = time.monotonic()
    runtime.start(runtime.create(ContainerSpec(image=image)).id)
    assert time.monotonic() - started >= 1.0


def test_what_is_not_the_command(tmp_path: Path, load: Load, mac: Emulator) -> None:
    """Another program of that name, and a version that is too old, are refused with a hint."""
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho container, the other one\n")
    other.chmod(0o755)
    old = tmp_path / "old"
    old.write_text("#!/bin/sh\necho container CLI version 0.5.0\n")
    old.chmod(0o755)
    probes = [load(mac, binary=str(path)).probe() for path in (other, old)]

    assert [False, False] == [probe.available for probe in probes]
    assert ["is not Apple's container command", "is too old"] == [
        words
        for words, probe in zip(("is not Apple's container command", "is too old"), probes, strict=True)
        if words in probe.detail
    ]
    assert all(probe.hint for probe in probes)


def test_where_there_is_no_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody on Linux learns that it runs on macOS only, somebody on a Mac what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("oubliette_apple._options._PLACES", ())
    monkeypatch.setattr("platform.system", lambda: "Linux")
    probe = AppleRuntime(RuntimeSettings()).probe()

    assert "Apple's container command is not installed (it runs on macOS only, and this is Linux)" == probe.detail
    assert (False, True) == (probe.available, "brew install container" in probe.hint)
