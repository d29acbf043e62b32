"""The runtime on the engine for tests, an image in it, and containers that go when their test ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.models import ContainerInfo, ContainerSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import busybox_image, docker_archive
from oubliette_docker import DockerRuntime
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint
from tests.engine import Engine

MakeContainer = Callable[..., ContainerInfo]


def runtime_on(docker_host: str) -> Runtime:
    """Put the Docker runtime behind the typed face, on one engine."""
    return build_runtime("docker", DockerRuntime(RuntimeSettings(options={"host": docker_host})))


def plain(reference: str) -> str:
    """Return a reference without what Podman puts before the names of local images."""
    return reference.removeprefix("localhost/").removeprefix("docker.io/library/")


@pytest.fixture(scope="session")
def endpoint(engine: Engine) -> Endpoint:
    """Where the engine is."""
    return Endpoint(url=engine.docker_host)


@pytest.fixture(scope="session")
def connection(endpoint: Endpoint) -> Iterator[Connection]:
    """A connection to the engine, shared by all tests."""
    with Connection(endpoint) as connection:
        yield connection


@pytest.fixture(scope="session")
def runtime(engine: Engine) -> Iterator[Runtime]:
    """The Docker runtime on the engine, shared by all tests."""
    with runtime_on(engine.docker_host) as runtime:
        yield runtime


@pytest.fixture(scope="session")
def image(runtime: Runtime, busybox: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A busybox image that is present on the engine and was never in a registry."""
    reference = f"oubliette-test-{uuid.uuid4().hex[:12]}:latest"
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    archive.write_bytes(docker_archive({reference: busybox_image(busybox)}))
    runtime.load_images(archive)
    yield reference
    runtime.remove_image(reference)


@pytest.fixture
def make_container(runtime: Runtime, image: str) -> Iterator[MakeContainer]:
    """Makes containers of the image, from fields of `ContainerSpec`, and removes them when the test ends."""
    made: list[str] = []

    def make(**fields: Any) -> ContainerInfo:
        info = runtime.create(ContainerSpec(**{"image": image, "network": "none", **fields}))
        made.append(info.id)
        return info

    yield make
    for container in made:
        runtime.remove(container, force=True)
