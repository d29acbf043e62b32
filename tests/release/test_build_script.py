"""`build.sh` builds with what is here, hands its options on, and gives Apple's `container` what was built.

The programs are stand-ins that write down how they were called; the images session builds with the real one.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(tmp_path: Path, *programs: str, options: tuple[str, ...] = (), **environ: str) -> tuple[int, list[str], str]:
    """Run it where only these programs are; return its code, the calls and what it printed."""
    calls, found = tmp_path / "calls", tmp_path / "bin"
    found.mkdir()
    calls.touch()
    for name in programs:
        (found / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{calls}\n')
        (found / name).chmod(0o755)
    for name in ("sh", "dirname", "mktemp", "rm", "cat"):
        (found / name).symlink_to(f"/bin/{name}" if Path(f"/bin/{name}").exists() else f"/usr/bin/{name}")
    env = {"PATH": str(found), "TMPDIR": str(tmp_path), **environ}
    command = [str(ROOT / "build.sh"), *options]
    done = subprocess.run(command, env=env, cwd=os.sep, capture_output=True, text=True, check=False)
    return done.returncode, calls.read_text().splitlines(), done.stdout + done.stderr


@pytest.mark.parametrize(("programs", "builder"), [(("docker", "podman"), "docker"), (("podman",), "podman")])
def test_base_is_built_before_dev(tmp_path: Path, programs: tuple[str, ...], builder: str) -> None:
    """With the first builder that is here, and dev on this very base."""
    code, calls, said = _run(tmp_path, *programs, options=("--no-cache",))
    revision = "--build-arg REVISION=unknown"

    assert 0 == code
    of_base = "--build-arg BASE_IMAGE=oubliette-base:latest"
    assert [
        f"{builder} build {revision} --tag oubliette-base:latest --no-cache containers/base",
        f"{builder} build {revision} {of_base} --tag oubliette-dev:latest --no-cache containers/dev",
    ] == calls
    assert "export OUBLIETTE_DEV=1" in said


def test_apples_container_gets_both(tmp_path: Path) -> None:
    """It has images of its own; the archive between is removed."""
    _, calls, _ = _run(tmp_path, "docker", "container")
    save, load = (call.split() for call in calls[2:])

    assert ["docker", "save", "--output"] == save[:3]
    assert ["oubliette-base:latest", "oubliette-dev:latest"] == save[4:]
    assert ["container", "image", "load", "--input", save[3]] == load
    assert not Path(save[3]).parent.exists()


def test_without_a_builder_it_says_what_to_install(tmp_path: Path) -> None:
    """And builds nothing."""
    code, calls, said = _run(tmp_path, "container")

    assert (1, []) == (code, calls)
    assert "neither docker nor podman is here" in said
