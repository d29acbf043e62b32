"""The fixtures skip on a laptop and fail in CI where no engine is to be had, and share one engine between workers."""

import os
import subprocess
import sys
from pathlib import Path

from tests.engine import Engine

REPOSITORY = Path(__file__).parents[2]


def run_pytest(directory: Path, source: str, *arguments: str, **env: str) -> str:
    """Run a test module under our conftest in a process of its own; gives the output."""
    (directory / "test_it.py").write_text(source, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, "-rs", *arguments]
    own = ("PYTEST", "CI", "OUBLIETTE_TEST_NO")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    done = subprocess.run(
        [*command, f"--rootdir={directory}", str(directory)],
        cwd=REPOSITORY,
        env={**inherited, **env},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def test_skipped_on_a_laptop_and_failed_in_ci(tmp_path: Path) -> None:
    """The reason is the same."""
    source = "def test_it(engine): pass"
    nowhere = {"OUBLIETTE_TEST_ENGINE": "unix:///nowhere.sock"}
    laptop, ci = run_pytest(tmp_path, source, **nowhere), run_pytest(tmp_path, source, **nowhere, CI="true")

    assert "1 skipped" in laptop
    assert "1 error" in ci
    for output in (laptop, ci):
        assert "no Docker Engine answers there" in output


def test_engine_tests_are_marked(tmp_path: Path) -> None:
    """`-m "not engine"` leaves out what uses an engine, also through another fixture."""
    source = "def test_a(engine): pass\ndef test_b(images): pass\ndef test_c(private_engine): pass\ndef test_d(): pass"

    assert "1 passed, 3 deselected" in run_pytest(tmp_path, source, "-m", "not engine")


def test_workers_share_one_engine(engine: Engine, tmp_path: Path) -> None:
    """Under xdist the engine belongs to the controller, and is gone when it ends."""
    source = (
        "import pytest, time\n"
        "@pytest.mark.parametrize('n', range(4))\n"
        "def test_it(engine, registry, worker_id, tmp_path_factory, n):\n"
        f"    (open({str(tmp_path)!r} + f'/seen-{{n}}', 'w')).write(f'{{engine.docker_host}} {{worker_id}}')\n"
    )
    output = run_pytest(tmp_path, source, "-n", "2", "--dist", "each", OUBLIETTE_TEST_ENGINE="private")
    seen = {(tmp_path / f"seen-{n}").read_text(encoding="utf-8").split()[0] for n in range(4)}

    assert "8 passed" in output
    assert 1 == len(seen)
    assert {engine.docker_host} != seen
    assert not Path(seen.pop().removeprefix("unix://")).exists()
