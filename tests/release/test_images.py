"""The images of a release, pushed to the registry for tests, and what users then get from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.testing.upload import push
from tests.e2e.test_cli_docker import Installed, oubliette
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request
from tests.images import ImageMaker
from tests.release.releaser import Releaser, releasing

__all__ = ["oubliette"]


@pytest.fixture
def releaser(engine: Engine, images: ImageMaker, tmp_path: Path) -> Iterator[Releaser]:
    """The steps, with images that take no time to build."""
    if engine.docker_cli is None:
        pytest.skip("there is no docker CLI")
    for name, parent in (("base", "PARENT"), ("dev", "BASE_IMAGE")):
        (tmp_path / "containers" / name).mkdir(parents=True)
        labels = 'LABEL version="${VERSION}" revision="${REVISION}"'
        text = f"ARG {parent}\nFROM ${{{parent}}}\nRUN echo {name} >>/made\nARG VERSION\nARG REVISION\n{labels}\n"
        (tmp_path / "containers" / name / "Dockerfile").write_text(text)
    parent = images.push().reference
    docker_request(engine.docker_host, "POST", f"/images/create?fromImage={parent}")
    options = ("--build-arg", f"PARENT={parent}")
    with releasing(engine, tmp_path / "containers", options, tmp_path / "docker") as steps:
        yield steps


def test_users_get_what_was_released(releaser: Releaser, images: ImageMaker, oubliette: Installed) -> None:
    """Both tags of both images, for both architectures; `init` with the registry as mirror, and a project on each."""
    digests = releaser.release(images, "1.2.0")

    assert [f"{releaser.registry}/oubliette-{name}" for name in ("base", "dev")] == list(digests)
    for name, digest in digests.items():
        assert digest.startswith("sha256:")
        exact, latest = (releaser.manifest(f"{name}:{tag}") for tag in ("1.2.0", "latest"))
        assert exact == latest
        assert {("linux", "amd64"), ("linux", "arm64")} == {
            (entry["platform"]["os"], entry["platform"]["architecture"]) for entry in exact["manifests"]
        }

    oubliette.mirror("ghcr.io", f"{releaser.engine.registry}/{releaser.space}")
    oubliette("init")
    for name, made in (("base", b"base\n"), ("dev", b"base\ndev\n")):
        oubliette("project", "create", name, "--type", name)
        oubliette("container", "start", name)
        assert made == oubliette("container", "exec", name, "--", "cat", "/made")[0]


def test_a_preview_is_not_the_latest(releaser: Releaser, images: ImageMaker) -> None:
    """Only who names it gets it."""
    releaser.push_other(images, "1.2.0rc1")
    releaser("publish-images", "--registry", releaser.registry, "--version", "1.2.0rc1", "--insecure")

    assert releaser.is_there(f"{releaser.registry}/oubliette-dev:1.2.0rc1")
    assert not releaser.is_there(f"{releaser.registry}/oubliette-dev:latest")


def test_an_architecture_that_is_missing_stops_the_release(releaser: Releaser, images: ImageMaker) -> None:
    """Half a release is none."""
    image = images.make(platform="linux/amd64")
    push(image, releaser.engine.registry, f"{releaser.space}/hyphagroup/oubliette-base", "1.2.0-amd64")
    command = ("publish-images", "--registry", releaser.registry, "--version", "1.2.0", "--insecure")
    _, said = releaser(*command, code=1)

    assert "docker manifest ended with code 1" in said.splitlines()[-1]
    assert not releaser.is_there(f"{releaser.registry}/oubliette-base:1.2.0")
