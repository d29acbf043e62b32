"""The main job of the README runs on Apple's command as it does on Docker, without a change but the runtime's name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.apple.installed import ROOT, Emulator
from tests.engine import Engine


@pytest.mark.slow
def test_the_demo_on_apple(engine: Engine, mac: Emulator) -> None:
    """From a fresh home to a deleted project, through the command line, with the emulated command first on PATH."""
    path = f"{mac.bin}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        cwd=ROOT,
        env={**os.environ, **engine.environment(), "CONTAINER_RUNTIME": "apple", "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    for told in ("ml: pulled ", "(exit code 7)", "(exit code 124)", "trainer: new container, of image "):
        assert told in done.stdout
    assert done.stdout.endswith("\nAll came out as it has to.\n")
    assert {"create", "start", "exec", "delete"} <= {call["argv"][0] for call in mac.calls()}
