"""The embedded runtime with a root of its own, an image in it, and containers that are removed at the end."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.models import ContainerSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import Image, busybox_image
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded import EmbeddedRuntime
from oubliette_embedded.images import remove_tree
from tests.embedded.busybox import busybox_or_skip

Bring = Callable[..., str]
"""Makes an image (settings of `busybox_image`) and pulls it; gives its reference."""
Boxes = Callable[..., Box]
"""Makes and starts a container (fields of `ContainerSpec`)."""


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A statically linked busybox; no engine is needed for it."""
    return busybox_or_skip()


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty root for the runtime, by a short path."""
    folder = Path(tempfile.mkdtemp(prefix="oubliette-"))
    yield folder
    remove_tree(folder)


@pytest.fixture
def make_runtime(root: Path) -> Iterator[Callable[..., Runtime]]:
    """Makes runtimes on the same root, with options besides; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(**options: Any) -> Runtime:
            backend = EmbeddedRuntime(RuntimeSettings(options={"root": str(root), **options}))
            return stack.enter_context(build_runtime("embedded", backend))

        yield make


@pytest.fixture
def runtime(make_runtime: Callable[..., Runtime]) -> Iterator[Runtime]:
    """A runtime that this machine can run; its containers are removed at the end."""
    made = make_runtime()
    probe = made.probe()
    if not probe.available:
        pytest.skip(f"{probe.detail}. {probe.hint}")
    yield made
    for info in made.list_containers():
        made.remove(info.id, force=True)


@pytest.fixture
def bring(runtime: Runtime, busybox: Path) -> Iterator[Bring]:
    """Makes images and pulls them."""
    with contextlib.closing(FaultRegistry()) as registry:

        def made(image: Image | None = None, name: str = "app", **settings: Any) -> str:
            reference = registry.add(image or busybox_image(busybox, **settings), f"tests/{name}")
            runtime.pull(reference)
            return reference

        yield made


@pytest.fixture
def image(bring: Bring) -> str:
    """An image of busybox."""
    return bring()


@pytest.fixture
def boxes(runtime: Runtime, image: str) -> Boxes:
    """Makes containers that run."""

    def made(**fields: Any) -> Box:
        info = runtime.create(ContainerSpec(**{"image": image, **fields}))
        return Box(runtime, runtime.start(info.id).id)

    return made


@pytest.fixture
def box(boxes: Boxes) -> Box:
    """A container that runs."""
    return boxes()
