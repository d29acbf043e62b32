"""Everything again as an ordinary user, where the tests are run by root: what is mapped and allowed differs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_embedded.images import remove_tree
from tests.embedded import ordinary

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="the tests are run by an ordinary user already"),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest.fixture
def home(busybox: Path) -> Iterator[Path]:
    """A home for the user, with a busybox in it."""
    folder = Path(tempfile.mkdtemp(prefix="oubliette-"))
    shutil.copy(busybox, folder / "busybox")
    (folder / "busybox").chmod(0o755)
    yield folder
    remove_tree(folder)


def _pytest(home: Path, *words: str) -> str:
    """Run tests as the user; give the last line of the report, after seeing that all passed."""
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:cov", f"--basetemp={home}/pytest")
    environ = ordinary.environment(home) | {"OUBLIETTE_TEST_BUSYBOX": str(home / "busybox")}
    done = subprocess.run(
        ordinary.command(home, sys.executable, "-m", "pytest", *options, *words),
        cwd=ordinary.ROOT,
        env={name: value for name, value in environ.items() if not name.startswith(("COV", "PYTEST_"))},
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stdout[-20000:] + done.stderr[-2000:]
    return done.stdout.strip().splitlines()[-1]


def test_the_kit(home: Path) -> None:
    """The conformance kit, completely."""
    summary = _pytest(home, "tests/conformance/test_embedded.py")

    assert int(re.findall(r"(\d+) passed", summary)[0]) > 250


def test_supervision_and_escapes(home: Path) -> None:
    """What keeps containers alive, and what keeps them in; a hundred of them at once."""
    summary = _pytest(home, "tests/embedded/test_supervision.py", "tests/embedded/test_escapes.py")

    assert int(re.findall(r"(\d+) passed", summary)[0]) > 30
