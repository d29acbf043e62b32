"""The demo that the README promises is a test, too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.recording import commands, commands_drawn
from tests.engine import Engine

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_tells_the_whole_story(engine: Engine) -> None:
    """From a fresh home to a deleted project, with what came out checked on the way."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo"],
        cwd=ROOT,
        env={**os.environ, **engine.environment()},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    for told in (
        "ml: pulling ",
        "ml: pulled ",
        "(exit code 7)",
        "(exit code 124)",
        "trainer: new container, of image ",
    ):
        assert told in done.stdout
    assert done.stdout.endswith("\nAll came out as it has to.\n")
    assert "Traceback" not in done.stdout
    # The picture in the README shows this story: ./dev demo --svg draws it anew.
    assert commands(done.stdout) == commands_drawn()
