"""What the demo is played on: an engine that is reachable, else the embedded runtime, else a private engine."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from oubliette_core.models import RuntimeSettings
from oubliette_core.testing.images import BusyboxNotFoundError, Image, find_busybox
from oubliette_core.testing.registry import FaultRegistry
from oubliette_core.testing.upload import push
from oubliette_embedded import EmbeddedRuntime
from oubliette_embedded.images import remove_tree
from tests.demo.machine import machine_image, small_image
from tests.engine import Engine, private_engine, running_engine
from tests.engine.dockerhttp import docker_request
from tests.engine.provide import reachable_engine


@attrs.frozen(kw_only=True)
class Stage:
    """Where the demo runs.

    :param told: one line about it. :param environ: variables that lead Oubliette there.
    :param publish: puts an image into a registry under a name, and gives its reference.
    :param make: makes an image with some files, a layer of some megabytes and labels.
    """

    told: str
    environ: Mapping[str, str]
    publish: Callable[[Image, str], str]
    make: Callable[..., Image]


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Give the first of the three that can be had. Raises `EngineUnavailableError`."""
    if os.environ.get("OUBLIETTE_TEST_ENGINE") or reachable_engine():
        with running_engine() as engine, _on_engine(engine) as made:
            yield made
    elif EmbeddedRuntime(RuntimeSettings()).probe().available:
        with _embedded() as made:
            yield made
    else:
        with private_engine() as engine, _on_engine(engine) as made:
            yield made


@contextlib.contextmanager
def _on_engine(engine: Engine) -> Iterator[Stage]:
    whose = "an engine started for this" if engine.is_private else "the engine that is reachable"
    space = f"demo-{secrets.token_hex(4)}"
    made: set[str] = set()

    def publish(image: Image, name: str) -> str:
        push(image, engine.registry, f"{space}/{name}", "latest")
        made.update({image.image_id, image.digest})  # engines that keep images in containerd have the digest as id
        return f"{engine.registry}/{space}/{name}:latest"

    busybox = find_busybox(engine.busybox)
    try:
        yield Stage(
            told=f"{whose}, {engine.docker_host}, with a registry at {engine.registry}",
            environ={"CONTAINER_RUNTIME": "docker", **os.environ, "DOCKER_HOST": engine.docker_host},
            publish=publish,
            make=functools.partial(small_image, busybox),
        )
    finally:
        for image in made:
            docker_request(engine.docker_host, "DELETE", f"/images/{image}?force=1")


def _maker() -> tuple[Callable[..., Image], str]:
    """Give what makes images here, and what they have in them."""
    try:
        busybox = find_busybox()
    except BusyboxNotFoundError:
        return machine_image, "this machine's own programs"
    return functools.partial(small_image, busybox), f"busybox, from {busybox}"


@contextlib.contextmanager
def _embedded() -> Iterator[Stage]:
    """No engine, no root and no package: what is in the images is of this machine."""
    make, content = _maker()
    data = Path(tempfile.mkdtemp(prefix="oubliette-demo-"))
    try:
        with FaultRegistry() as registry:
            yield Stage(
                told=f"the embedded runtime, with a registry at {registry.address}; its images hold {content}",
                environ={**os.environ, "CONTAINER_RUNTIME": "embedded", "XDG_DATA_HOME": str(data)},
                publish=lambda image, name: registry.add(image, f"demo/{name}"),
                make=make,
            )
    finally:
        remove_tree(data)
