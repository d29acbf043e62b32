"""Both images, built once by ``build.sh``.

With `OUBLIETTE_TEST_PARENT` (a reference) they are built as they are for a release: on that image, and with everything
that is downloaded. Without it nothing has to be reached but Debian's, Python's and npm's packages.
"""

import contextlib
import functools
import hashlib
import http.server
import io
import os
import platform
import subprocess
import tarfile
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from tests.engine import Engine
from tests.images_build.parent import make_parent

ROOT = Path(__file__).parents[2]
_GLAB = b"#!/bin/sh\necho 'glab: a stand-in for tests'\n"


@attrs.frozen(kw_only=True)
class Built:
    """The images of one run of ``build.sh``.

    :param options: of the builds. :param said: what it printed.
    """

    engine: Engine
    tag: str
    revision: str
    options: tuple[str, ...]
    said: str

    def docker(self, *words: str) -> str:
        """Run the docker CLI; return what it printed."""
        return _docker(self.engine, *words)

    def run(self, image: str, script: str) -> str:
        """Run a shell script in a new container of ``base`` or ``dev``, without a network."""
        command = ("run", "--rm", "--network", "none", f"oubliette-{image}:{self.tag}", "sh", "-ec", script)
        return self.docker(*command).strip()


def _environment(engine: Engine) -> dict[str, str]:
    assert engine.docker_cli is not None
    path = f"{engine.docker_cli.parent}{os.pathsep}{os.environ['PATH']}"
    # The shipped files have to do without BuildKit.
    return {**os.environ, "DOCKER_HOST": engine.docker_host, "PATH": path, "DOCKER_BUILDKIT": "0"}


def _docker(engine: Engine, *words: str) -> str:
    done = subprocess.run(
        [str(engine.docker_cli), *words], env=_environment(engine), stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


class _Releases(http.server.SimpleHTTPRequestHandler):
    """A directory of glab's releases; the real one cannot be reached from every machine."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in the base class
        """Print nothing."""


@contextlib.contextmanager
def _glab_releases(directory: Path) -> Iterator[dict[str, str]]:
    """Serve a stand-in for glab's archive, in the layout of its releases; gives the build arguments for it."""
    version = next(
        line.partition("=")[2]
        for line in (ROOT / "containers/dev/Dockerfile").read_text().splitlines()
        if line.startswith("ARG GLAB_VERSION=")
    )
    architecture = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    archive = directory / f"v{version}" / "downloads" / f"glab_{version}_linux_{architecture}.tar.gz"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("bin/glab")
        entry.size, entry.mode = len(_GLAB), 0o755
        tar.addfile(entry, io.BytesIO(_GLAB))
    handler = functools.partial(_Releases, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield {
                "GLAB_RELEASES": f"http://127.0.0.1:{server.server_port}",
                f"GLAB_SHA256_{architecture.upper()}": hashlib.sha256(archive.read_bytes()).hexdigest(),
            }
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _given(engine: Engine, made: str, scratch: Path) -> Iterator[dict[str, str]]:
    """Give the build arguments, with a parent image that is made here where none was named."""
    if "OUBLIETTE_TEST_PARENT" in os.environ:
        yield {"PARENT": os.environ["OUBLIETTE_TEST_PARENT"]}
        return
    make_parent(scratch / "parent.tar")
    _docker(engine, "import", str(scratch / "parent.tar"), made)
    with _glab_releases(scratch / "releases") as glab:
        yield {"PARENT": made, **glab}


@pytest.fixture(scope="session")
def built(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """Both images; removed at the end."""
    tag = f"t{uuid.uuid4().hex[:10]}"
    scratch = tmp_path_factory.mktemp("images")
    made = f"oubliette-test-parent:{tag}"
    try:
        with _given(engine, made, scratch) as given:
            # Where containers have no way out, the machine itself has.
            arguments = ["--network", "host"]
            for name, value in given.items():
                arguments += ["--build-arg", f"{name}={value}"]
            head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
            done = subprocess.run(
                [ROOT / "build.sh", *arguments],
                env={**_environment(engine), "TAG": tag, "BUILDER": "docker"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            options = tuple(arguments)
            yield Built(engine=engine, tag=tag, revision=head.stdout.strip(), options=options, said=done.stdout)
    finally:
        for image in (f"oubliette-dev:{tag}", f"oubliette-base:{tag}", made):
            with contextlib.suppress(subprocess.CalledProcessError):
                _docker(engine, "rmi", "--force", image)
