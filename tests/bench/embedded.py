"""The life of a container: the embedded runtime against Docker's own API, and against bare bubblewrap and nsenter.

What is aimed at: a start in a tenth of Docker's time, a command in a fifth of it, and in three times bare nsenter's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from oubliette_core.models import ContainerSpec, ExecSpec, RuntimeSettings
from oubliette_core.plugins import RuntimeCatalogue, build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import find_busybox
from oubliette_embedded import EmbeddedRuntime
from oubliette_embedded._bubblewrap import find_bubblewrap
from oubliette_embedded.images import ImageStore, remove_tree
from tests.bench.measure import Outcome, compare
from tests.bench.raw import RawEngine
from tests.engine import running_engine
from tests.images import ImageMaker

_WARM_UP = 2


@attrs.frozen(kw_only=True)
class _Bare:
    """A sandbox that bubblewrap makes of the same layers, and nothing else."""

    layers: tuple[Path, ...]
    folder: Path
    made: list[subprocess.Popen[bytes]] = attrs.field(factory=list)

    def start(self) -> int:
        """Start one; return the id of its first process."""
        place = self.folder / str(len(self.made))
        upper, work = place / "upper", place / "work"
        upper.mkdir(parents=True)
        work.mkdir()
        told, tell = os.pipe()
        sources = [word for layer in self.layers for word in ("--overlay-src", str(layer))]
        command = [
            *(str(find_bubblewrap(None).path), "--unshare-all", "--uid", "0", "--gid", "0", "--as-pid-1"),
            *("--die-with-parent", "--cap-drop", "ALL", "--json-status-fd", str(tell)),
            *(*sources, "--overlay", str(upper), str(work), "/", "--proc", "/proc", "--dev", "/dev"),
            *("/bin/sleep", "3600"),
        ]
        self.made.append(subprocess.Popen(command, pass_fds=[tell], stderr=subprocess.DEVNULL))
        os.close(tell)
        with os.fdopen(told, "rb") as reading:
            return int(json.loads(reading.readline())["child-pid"])

    def close(self) -> None:
        """Kill all."""
        for process in self.made:
            with process:
                process.kill()
        remove_tree(self.folder)


@attrs.frozen(kw_only=True)
class _Docker:
    """Containers of an engine, by its API and nothing in between."""

    raw: RawEngine
    image: str
    made: list[str] = attrs.field(factory=list)

    def start(self) -> str:
        identity = str(self.raw.call("POST", "/containers/create", {"Image": self.image})["Id"])
        self.made.append(identity)
        self.raw.call("POST", f"/containers/{identity}/start")
        return identity

    def close(self) -> None:
        for identity in self.made:
            with contextlib.suppress(RuntimeError):  # removed by the bench
                self.raw.call("DELETE", f"/containers/{identity}?force=1")


def life(scale: float) -> Iterator[Outcome]:
    """Compare create and start, exec, stop, and remove."""
    with _contestants() as (docker, runtime, image, bare):
        rounds = max(5, int(20 * scale))
        spec = ContainerSpec(image=image)
        yield compare(
            "create and start (aim: 0.10)",
            {
                "Docker": docker.start,
                "oubliette embedded": lambda: runtime.start(runtime.create(spec).id),
                "bare bubblewrap": bare.start,
            },
            rounds=rounds,
            warm_up=_WARM_UP,
        )
        container, first, identity = runtime.start(runtime.create(spec).id).id, bare.start(), docker.start()
        command = ExecSpec(command=("/bin/echo", "hi"))
        nsenter = [
            "nsenter",
            "-t",
            str(first),
            "-U",
            "--preserve-credentials",
            "-m",
            "-p",
            "-n",
            "-i",
            "-u",
            "-C",
            "-r",
        ]
        execs: dict[str, Callable[[], object]] = {
            "Docker": lambda: _expect(b"hi\n", docker.raw.exec(identity, "/bin/echo", "hi")),
            "oubliette embedded": lambda: _expect(b"hi\n", runtime.exec(container, command).stdout),
            "bare nsenter": lambda: _expect(
                b"hi\n", subprocess.run([*nsenter, "-w", "/bin/echo", "hi"], capture_output=True, check=True).stdout
            ),
        }
        yield compare("exec of echo (aim: 0.20)", execs, rounds=int(100 * scale))
        floor = {name: execs[name] for name in ("bare nsenter", "oubliette embedded")}
        yield compare("exec of echo (aim: 3.00)", floor, rounds=int(100 * scale))
        yield from _ends(docker, runtime, spec, rounds)


def _ends(docker: _Docker, runtime: Runtime, spec: ContainerSpec, rounds: int) -> Iterator[Outcome]:
    """Compare ending what was started before."""
    count = rounds + _WARM_UP
    theirs = [docker.start() for _ in range(2 * count)]  # the baseline runs twice
    ours = [runtime.start(runtime.create(spec).id).id for _ in range(count)]
    waiting, stopped = iter(theirs), iter(ours)

    def stop() -> None:
        docker.raw.call("POST", f"/containers/{next(waiting)}/stop?t=5")

    yield compare(
        "stop",
        {"Docker": stop, "oubliette embedded": lambda: runtime.stop(next(stopped))},
        rounds=rounds,
        warm_up=_WARM_UP,
    )
    leaving, removed = iter(theirs), iter(ours)

    def remove() -> None:
        docker.raw.call("DELETE", f"/containers/{next(leaving)}")

    yield compare(
        "remove",
        {"Docker": remove, "oubliette embedded": lambda: runtime.remove(next(removed))},
        rounds=rounds,
        warm_up=_WARM_UP,
    )


@contextlib.contextmanager
def _contestants() -> Iterator[tuple[_Docker, Runtime, str, _Bare]]:
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        theirs = stack.enter_context(RuntimeCatalogue().load("docker"))
        images = stack.enter_context(contextlib.closing(ImageMaker(engine, find_busybox(engine.busybox))))
        image = images.push("bench").reference
        theirs.pull(image)
        raw = stack.enter_context(contextlib.closing(RawEngine(engine.docker_host.removeprefix("unix://"))))
        docker = stack.enter_context(contextlib.closing(_Docker(raw=raw, image=image)))
        root = Path(tempfile.mkdtemp(prefix="oubliette-bench-"))
        stack.callback(remove_tree, root)
        runtime = build_runtime("embedded", EmbeddedRuntime(RuntimeSettings(options={"root": str(root)})))
        stack.callback(_clear, runtime)
        runtime.pull(image)
        layers = ImageStore(root / "images").use(image, None, "bench").layers
        folder = Path(tempfile.mkdtemp(prefix="oubliette-bench-"))
        bare = stack.enter_context(contextlib.closing(_Bare(layers=layers, folder=folder)))
        yield docker, runtime, image, bare


def _clear(runtime: Runtime) -> None:
    for info in runtime.list_containers():
        runtime.remove(info.id, force=True)


def _expect(expected: object, actual: object) -> None:
    """A fast wrong answer is a failure."""
    if expected != actual:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")


BENCHES = {"life": life}
