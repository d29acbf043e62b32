"""A service that hangs at any point ends each call at its deadline, with an error that names the call."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from oubliette_apple import AppleRuntime
from oubliette_core.errors import ImagePullError, OperationTimeoutError
from oubliette_core.models import Cancel, ContainerSpec, ExecSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from tests.apple.installed import Emulator, installed
from tests.engine import Engine
from tests.images import ImageMaker

_DEADLINE = 1.5
_SLACK = 1.0


@pytest.fixture(name="machine", scope="module")
def _machine(engine: Engine, busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Emulator, str]]:
    """An emulator with an image, a container `box` that runs, and one, `idle`, that does not."""
    with (
        installed(tmp_path_factory.mktemp("mac") / "mac", engine.docker_host) as emulator,
        contextlib.closing(ImageMaker(engine, busybox)) as images,
    ):
        image = images.push().reference
        for words in (["image", "pull"], ["create", "--name=box"], ["create", "--name=idle"]):
            assert emulator.run(*words, image).returncode == 0
        assert emulator.run("start", "box").returncode == 0
        yield emulator, image


@pytest.fixture(name="mac")
def _mac(machine: tuple[Emulator, str]) -> Iterator[Emulator]:
    """The machine that all tests here share: a call that hangs changes nothing."""
    yield machine[0]
    machine[0].fault()


@pytest.fixture(name="image")
def _image(machine: tuple[Emulator, str]) -> str:
    """The reference of its image."""
    return machine[1]


@pytest.fixture(name="runtime")
def _runtime(mac: Emulator) -> Runtime:
    """The runtime with a short deadline for every call."""
    settings = RuntimeSettings(options={"binary": str(mac.command), "timeout": _DEADLINE})
    return build_runtime("apple", AppleRuntime(settings))


@pytest.mark.parametrize(
    ("point", "operation", "call"),
    [
        ("list", "list", lambda runtime, image: runtime.list_containers()),
        ("inspect", "inspect", lambda runtime, image: runtime.inspect("box")),
        ("image-inspect", "image inspect", lambda runtime, image: runtime.exists(image)),
        ("create", "create", lambda runtime, image: runtime.create(ContainerSpec(image=image))),
        ("bootstrap", "start", lambda runtime, image: runtime.start("idle")),
        ("stop", "stop", lambda runtime, image: runtime.stop("box", grace=0)),
        ("delete", "delete", lambda runtime, image: runtime.remove("box", force=True)),
        ("logs", "logs", lambda runtime, image: b"".join(runtime.logs("box"))),
        ("exec-start", "copy", lambda runtime, image: b"".join(runtime.copy_out("box", "/etc"))),
    ],
)
def test_calls(
    runtime: Runtime, mac: Emulator, image: str, *, point: str, operation: str, call: Callable[[Runtime, str], object]
) -> None:
    """The call ends at its deadline, and the error says which it was."""
    mac.fault(hang=point)
    started = time.monotonic()
    with pytest.raises(OperationTimeoutError) as late:
        call(runtime, image)
    took = time.monotonic() - started

    assert took < _DEADLINE + _SLACK
    assert operation == late.value.operation
    assert operation.partition(" ")[0].rstrip("y") in str(late.value)


@pytest.mark.parametrize("point", ["exec-start", "exec-wait"])
@pytest.mark.parametrize("ends", ["deadline", "cancel"])
def test_exec(runtime: Runtime, mac: Emulator, point: str, ends: str) -> None:
    """A command's call ends soon after its deadline or cancel, and does not say that anything was killed."""
    mac.fault(hang=point)
    cancel = Cancel()
    started = time.monotonic()
    if ends == "cancel":
        threading.Timer(1, cancel.cancel).start()
    result = runtime.exec("box", ExecSpec(command=("true",), timeout=None if ends == "cancel" else 1), cancel=cancel)
    took = time.monotonic() - started

    assert (None, False) == (result.exit_code, result.killed)
    assert (ends == "deadline", ends == "cancel") == (result.timed_out, result.cancelled)
    assert 1 <= took < 1 + _SLACK


def test_pull(runtime: Runtime, mac: Emulator, image: str) -> None:
    """A pull has the deadline that it is given."""
    mac.fault(hang="pull")
    started = time.monotonic()
    with pytest.raises(ImagePullError) as late:
        runtime.pull(image, timeout=1)

    assert ("stalled", True) == (late.value.reason, late.value.retryable)
    assert time.monotonic() - started < 1 + _SLACK


@pytest.mark.parametrize("point", ["status", "version"])
def test_probe(runtime: Runtime, mac: Emulator, point: str) -> None:
    """A probe takes two seconds at most and says what did not answer."""
    mac.fault(hang=point)
    started = time.monotonic()
    probe = runtime.probe()

    assert time.monotonic() - started < 2 + _SLACK
    assert (False, True) == (probe.available, point in probe.detail)


def test_one_that_hangs_does_not_hold_up_the_next_for_longer(runtime: Runtime, mac: Emulator, image: str) -> None:
    """Creates take turns, and waiting for one's turn counts."""
    mac.fault(hang="create")

    def create() -> float:
        started = time.monotonic()
        with pytest.raises(OperationTimeoutError):
            runtime.create(ContainerSpec(image=image))
        return time.monotonic() - started

    with ThreadPoolExecutor(4) as pool:
        took = [future.result() for future in [pool.submit(create) for _ in range(4)]]

    assert max(took) < _DEADLINE + _SLACK
