"""The steps of a release, as the workflow takes them, on the engine and the registry for tests."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from oubliette_core.testing.upload import push
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request
from tests.images import ImageMaker

ROOT = Path(__file__).parents[2]
_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.index.v1+json"


@attrs.frozen(kw_only=True)
class Releaser:
    """The steps.

    :param space: what this test's images have in their names and as their revision, and no others.
    :param containers: directory of the Dockerfiles. :param options: of their builds.
    """

    engine: Engine
    space: str
    containers: Path
    options: Sequence[str]
    environ: dict[str, str]

    @property
    def registry(self) -> str:
        """Registry and path."""
        return f"{self.engine.registry}/{self.space}/hyphagroup"

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run one step; return what it printed."""
        command = [sys.executable, "-m", "release", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environ, capture_output=True, text=True, check=False)
        assert code == done.returncode, done.stderr
        return done.stdout, done.stderr

    def build(self, version: str) -> None:
        """Build and push for this machine's architecture."""
        self(
            *("build-images", "--registry", self.registry, "--version", version, "--revision", self.space),
            *("--containers", str(self.containers), "--", *self.options),
        )

    def push_other(self, images: ImageMaker, version: str) -> None:
        """Push what a machine of the other architecture would."""
        for name in ("base", "dev"):
            for architecture in ("amd64", "arm64"):
                reference = f"{self.registry}/oubliette-{name}:{version}-{architecture}"
                if not self.is_there(reference):
                    image = images.make(platform=f"linux/{architecture}")
                    repository, tag = reference.removeprefix(f"{self.engine.registry}/").split(":")
                    push(image, self.engine.registry, repository, tag)

    def is_there(self, reference: str) -> bool:
        """Tell whether the registry has this tag."""
        with contextlib.suppress(urllib.error.HTTPError):
            return bool(self.manifest(reference))
        return False

    def manifest(self, reference: str) -> Any:
        """Return what the registry has under a tag."""
        repository, tag = reference.removeprefix(f"{self.engine.registry}/").split(":")
        accept = f"{_INDEX}, application/vnd.docker.distribution.manifest.v2+json"
        url = f"http://{self.engine.registry}/v2/{repository}/manifests/{tag}"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
            return json.load(answer)

    def release(self, images: ImageMaker, version: str) -> dict[str, str]:
        """Build, push what the machine of the other architecture would, and publish; return the digests by name."""
        self.build(version)
        self.push_other(images, version)
        said, _ = self("publish-images", "--registry", self.registry, "--version", version, "--insecure")
        return dict(line.split("=") for line in said.splitlines())


@contextlib.contextmanager
def releasing(engine: Engine, containers: Path, options: Sequence[str], docker_config: Path) -> Iterator[Releaser]:
    """Give the steps; the images that they leave in the engine are removed, and none of another test's."""
    assert engine.docker_cli
    environ = {
        **os.environ,
        "PATH": f"{engine.docker_cli.parent}{os.pathsep}{os.environ['PATH']}",
        "DOCKER_HOST": engine.docker_host,
        "DOCKER_BUILDKIT": "0",
        "DOCKER_CONFIG": str(docker_config),
    }
    space = f"t{uuid.uuid4().hex[:10]}"
    yield Releaser(engine=engine, space=space, containers=containers, options=options, environ=environ)
    labels = ("revision", "org.opencontainers.image.revision")
    for label in labels:
        command = [str(engine.docker_cli), "images", "--quiet", "--filter", f"label={label}={space}"]
        listed = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        for image in set(listed.stdout.split()):
            docker_request(engine.docker_host, "DELETE", f"/images/{image}?force=1")
