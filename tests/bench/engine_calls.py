"""Single calls: ours, docker-py's and the docker CLI's against raw HTTP on the engine's socket."""

import contextlib
import functools
import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker

from oubliette_core.images import ImageManager
from oubliette_core.models import ContainerSpec, ContainerType, ExecSpec
from oubliette_core.plugins import RuntimeCatalogue
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import find_busybox
from tests.bench.measure import Call, Outcome, compare
from tests.bench.raw import RawEngine
from tests.engine import Engine, running_engine
from tests.images import ImageMaker

_MANY = 1000
_LABEL = "dev.oubliette.bench"


class Bench:
    """One engine with one running container, and every client connected to it."""

    def __init__(self, engine: Engine, runtime: Runtime, images: ImageMaker) -> None:
        self.runtime = runtime
        self.raw = RawEngine(engine.docker_host.removeprefix("unix://"))
        self.sdk = docker.DockerClient(engine.docker_host)
        self.image = images.push("bench").reference
        self._cli = str(engine.docker_cli) if engine.docker_cli else None
        self._env = {**os.environ, **engine.environment()}
        self.label = uuid.uuid4().hex
        runtime.pull(self.image)
        spec = ContainerSpec(image=self.image, init=True, command=("sleep", "3600"), labels={_LABEL: self.label})
        self.container = runtime.create(spec).id
        runtime.start(self.container)

    def close(self) -> None:
        """Remove the containers and hang up."""
        for info in self.runtime.list_containers({_LABEL: self.label}):
            self.runtime.remove(info.id, force=True)
        self.raw.close()
        self.sdk.close()

    def cli(self, *arguments: str) -> dict[str, Call]:
        """Offer the docker CLI as a contestant where there is one."""
        if self._cli is None:
            return {}
        command = [self._cli, *arguments]
        return {
            "docker CLI": functools.partial(subprocess.run, command, env=self._env, check=True, capture_output=True)
        }

    def compare(
        self,
        title: str,
        raw: Callable[[], Any],
        ours: Callable[[], Any],
        sdk: Callable[[], Any],
        *cli: str,
        rounds: int,
    ) -> Outcome:
        """Compare the four clients on one operation."""
        calls: dict[str, Call] = {"raw HTTP": raw, "oubliette": ours, "docker-py": sdk, **self.cli(*cli)}
        return compare(title, calls, rounds=rounds)


@contextlib.contextmanager
def _bench() -> Iterator[Bench]:
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        runtime = stack.enter_context(RuntimeCatalogue().load("docker"))
        images = stack.enter_context(contextlib.closing(ImageMaker(engine, find_busybox(engine.busybox))))
        yield stack.enter_context(contextlib.closing(Bench(engine, runtime, images)))


def calls(scale: float) -> Iterator[Outcome]:
    """Compare exec, status, exists and the check for a present image."""
    with _bench() as bench, tempfile.TemporaryDirectory() as scratch:
        name, image = bench.container, bench.image
        yield bench.compare(
            "exec of echo",
            lambda: _expect(b"hi\n", bench.raw.exec(name, "echo", "hi")),
            lambda: _expect(b"hi\n", bench.runtime.exec(name, ExecSpec(command=("echo", "hi"))).stdout),
            lambda: _expect(b"hi\n", bench.sdk.containers.get(name).exec_run(["echo", "hi"]).output),
            *("exec", name, "echo", "hi"),
            rounds=int(100 * scale),
        )
        yield bench.compare(
            "status of a container",
            lambda: _expect("running", bench.raw.call("GET", f"/containers/{name}/json")["State"]["Status"]),
            lambda: _expect("running", bench.runtime.inspect(name).status),
            lambda: _expect("running", bench.sdk.containers.get(name).status),
            *("inspect", name),
            rounds=int(300 * scale),
        )
        yield bench.compare(
            "exists: is the image here",
            lambda: bench.raw.call("GET", f"/images/{image}/json")["Id"],
            lambda: _expect(True, bench.runtime.exists(image)),
            lambda: bench.sdk.images.get(image).id,
            *("image", "inspect", image),
            rounds=int(300 * scale),
        )
        types = {"bench": ContainerType(name="bench", image=image)}
        manager = ImageManager(bench.runtime, types, locks_dir=Path(scratch))
        yield bench.compare(
            "ensure an image that is present",
            lambda: bench.raw.call("GET", f"/images/{image}/json")["Id"],
            lambda: manager.ensure_image_exists("bench"),
            lambda: bench.sdk.images.get(image).id,
            *("image", "inspect", image),
            rounds=int(300 * scale),
        )


def many(scale: float) -> Iterator[Outcome]:
    """Compare a list of 1,000 containers."""
    with _bench() as bench:
        spec = {"Image": bench.image, "Cmd": ["true"], "Labels": {_LABEL: bench.label}}
        for _ in range(_MANY - 1):
            bench.raw.call("POST", "/containers/create", spec)
        filters = f'{{"label":["{_LABEL}={bench.label}"]}}'.replace('"', "%22")
        labels = {_LABEL: bench.label}
        yield bench.compare(
            f"list of {_MANY} containers",
            lambda: _expect(_MANY, len(bench.raw.call("GET", f"/containers/json?all=1&filters={filters}"))),
            lambda: _expect(_MANY, len(bench.runtime.list_containers(labels))),
            lambda: _expect(
                _MANY, len(bench.sdk.containers.list(all=True, filters={"label": f"{_LABEL}={bench.label}"}))
            ),
            *("ps", "-a", "--filter", f"label={_LABEL}={bench.label}"),
            rounds=max(5, int(20 * scale)),
        )


def _expect(expected: object, actual: object) -> None:
    """A fast wrong answer is a failure."""
    if expected != actual:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")


BENCHES = {"calls": calls, "many": many}
