"""How long a command takes to start, against an interpreter that does nothing."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import Call, Outcome, compare
from tests.engine import running_engine


def startup(scale: float) -> Iterator[Outcome]:
    """Compare `oubliette --version`, `--help` and `container list` with `python -c pass`."""
    with running_engine() as engine, tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        env = {**os.environ, **engine.environment(), "OUBLIETTE_HOME": str(home), "CONTAINER_RUNTIME": "docker"}
        oubliette = str(Path(sys.executable).with_name("oubliette"))
        subprocess.run([oubliette, "init", "--no-pull"], env=env, check=True, capture_output=True)
        contestants: dict[str, Call] = {
            "python -c pass": _runs(env, sys.executable, "-c", "pass"),
            "oubliette --version": _runs(env, oubliette, "--version"),
            "oubliette --help": _runs(env, oubliette, "--help"),
            "oubliette container list": _runs(env, oubliette, "container", "list"),
        }
        if engine.docker_cli is not None:
            contestants["docker ps"] = _runs(env, str(engine.docker_cli), "ps")
        yield compare("start-up", contestants, rounds=max(5, int(25 * scale)))


def _runs(env: dict[str, str], *command: str) -> Call:
    def run() -> None:
        subprocess.run(command, env=env, check=True, capture_output=True)

    return run


BENCHES = {"startup": startup}
