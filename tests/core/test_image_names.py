"""Mirrors: where a pull goes, and under which names the image counts as here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core import ContainerType, PullPolicy, RuntimeSettings, build_runtime
from oubliette_core.images import ImageAction, ImageManager
from oubliette_core.images.names import mirrored
from oubliette_core.reference import Reference
from oubliette_core.testing.fake import FakeRuntime

MIRRORS = {"docker.io": "mirror.example.com/hub", "ghcr.io": "localhost:5000"}
TYPES = (
    ContainerType(name="base", image="ghcr.io/team/base:1"),
    ContainerType(name="local", image="ghcr.io/team/local:1", pull=PullPolicy.NEVER),
)


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A runtime; what is in its registry is up to the test."""
    fake = FakeRuntime(RuntimeSettings())
    yield fake
    fake.engine.shut_down()


def _manager(fake: FakeRuntime, locks: Path, *, dev_mode: bool = False) -> ImageManager:
    runtime = build_runtime("fake", fake)
    return ImageManager(runtime, TYPES, locks_dir=locks, mirrors=MIRRORS, dev_mode=dev_mode)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "mirror.example.com/hub/library/busybox:latest"),
        ("team/app:2", "mirror.example.com/hub/team/app:2"),
        ("index.docker.io/team/app:2", "mirror.example.com/hub/team/app:2"),
        ("ghcr.io/team/app:2", "localhost:5000/team/app:2"),
        (f"ghcr.io/team/app@sha256:{'a' * 64}", f"localhost:5000/team/app@sha256:{'a' * 64}"),
        ("quay.io/team/app:2", "quay.io/team/app:2"),
    ],
)
def test_a_mirror_has_the_repository_below_its_path(image: str, expected: str) -> None:
    """Tag and digest stay; a registry without a mirror is asked itself."""
    assert expected == str(mirrored(Reference.parse(image), MIRRORS))


def test_a_pull_goes_to_the_mirror_alone(fake: FakeRuntime, tmp_path: Path) -> None:
    """The registry that the image names is never asked, also when the mirror has it not."""
    fake.registry.publish("localhost:5000/team/base:1")
    images = _manager(fake, tmp_path)

    assert "localhost:5000/team/base:1" == images.get_image_name("base")
    assert ImageAction.PULLED is images.ensure_image_exists("base").action
    assert "localhost:5000/team/base:1" == images.runnable("base").image
    assert {"localhost:5000/team/base:1": 1} == dict(fake.registry.requests)


def test_an_image_by_reference_comes_from_the_mirror_too(fake: FakeRuntime, tmp_path: Path) -> None:
    """A mirror is for a registry, not for a type."""
    fake.registry.publish("localhost:5000/other:1")

    assert "localhost:5000/other:1" == _manager(fake, tmp_path).pull("ghcr.io/other:1").image


def test_an_image_under_its_configured_name_is_here(fake: FakeRuntime, tmp_path: Path) -> None:
    """It may have been loaded from an archive; a container is made of it under the name that it has."""
    fake.engine.add_image("ghcr.io/team/base:1")
    images = _manager(fake, tmp_path)

    assert ImageAction.PRESENT is images.ensure_image_exists("base").action
    assert "ghcr.io/team/base:1" == images.runnable("base").image
    assert {} == dict(fake.registry.requests)


def test_what_is_never_pulled_has_no_mirror(fake: FakeRuntime, tmp_path: Path) -> None:
    """Whether its type or dev mode says so."""
    assert "ghcr.io/team/local:1" == _manager(fake, tmp_path).get_image_name("local")
    assert "ghcr.io/team/base:1" == _manager(fake, tmp_path, dev_mode=True).get_image_name("base")
