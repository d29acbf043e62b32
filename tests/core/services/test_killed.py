"""``kill -9`` at every step of a refresh, on a real engine.

Whatever comes next, the project then has exactly one container, and it runs.
"""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oubliette_core.app import App
from oubliette_core.models import ContainerStatus, ExecSpec
from tests.core.services import refresh_child
from tests.core.services.refresh_child import PROJECT, configuration

if TYPE_CHECKING:
    from oubliette_core.config import Home
    from tests.engine import Engine
    from tests.images import ImageMaker

ROOT = Path(__file__).parents[3]
HERE = ExecSpec(command=("/bin/sh", "-c", "cat /workspace/mine"))

NEXT: tuple[Callable[[App], object], ...] = (
    lambda app: app.containers.list(),
    lambda app: app.containers.get(PROJECT),
    lambda app: app.containers.exec(PROJECT, HERE),
    lambda app: app.containers.start(PROJECT),
)
"""Commands that may come next, those that only look among them."""


class Victim:
    """A project on a real engine, and processes that refresh it."""

    def __init__(self, home: Home, engine: Engine, image: str) -> None:
        self.loaded = configuration(engine.docker_host, image)
        self.home = home
        self.argv = [sys.executable, "-m", refresh_child.__name__, str(home.path), engine.docker_host, image]

    def refresh(self, step: int) -> subprocess.CompletedProcess[str]:
        """Refresh in another process, which kills itself at this step."""
        return subprocess.run([*self.argv, str(step)], cwd=ROOT, check=False, capture_output=True, text=True)

    def steps(self) -> list[str]:
        """Return the steps of a refresh that lives."""
        done = self.refresh(-1)
        assert (0, "") == (done.returncode, done.stderr)
        found: list[str] = json.loads(done.stdout)
        return found

    def containers(self, app: App) -> list[tuple[str, ContainerStatus]]:
        """Return generation and status of the project's containers, as the engine has them."""
        found = app.runtime.list_containers({"dev.oubliette.home": self.home.id})
        return [(info.labels["dev.oubliette.generation"], info.status) for info in found]


@pytest.fixture
def victim(home: Home, engine: Engine, images: ImageMaker) -> Iterator[Victim]:
    """A project whose container runs."""
    victim = Victim(home, engine, images.push().reference)
    with App(home, victim.loaded) as app:
        project = app.projects.create(PROJECT)
        (project.workspace / "mine").write_text("kept")
        try:
            app.containers.start(PROJECT)
            yield victim
        finally:
            app.projects.delete(PROJECT)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_at_any_step_the_next_command_finds_one_running_container(victim: Victim) -> None:
    """Up to the commit it is the old one, from then on the new one."""
    steps = victim.steps()
    commit = steps.index("after UPDATE projects SET generation = ?") + 2
    assert "after COMMIT" == steps[commit]
    for (number, name), command in zip(enumerate(steps), itertools.cycle(NEXT), strict=False):
        with App(victim.home, victim.loaded) as app:
            before = app.projects.get(PROJECT).generation
            killed = victim.refresh(number)
            command(app)
            found = victim.containers(app)
            printed = app.containers.exec(PROJECT, HERE).stdout

        assert -signal.SIGKILL == killed.returncode, killed.stderr
        assert [(str(before + (number >= commit)), ContainerStatus.RUNNING)] == found, name
        assert b"kept" == printed


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_in_the_middle_of_a_call_the_next_commands_clear_up(victim: Victim) -> None:
    """The engine goes on with what it was asked for, and may be done only after the next command has looked."""
    for milliseconds in range(250, 1450, 150):
        process = subprocess.Popen([*victim.argv, "-1"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        timer = threading.Timer(milliseconds / 1000, process.kill)
        timer.start()
        process.wait()
        timer.cancel()
        with App(victim.home, victim.loaded) as app:
            app.containers.start(PROJECT)
            settled = app.containers.refresh(PROJECT)
            found = victim.containers(app)

        assert [(str(settled.status.project.generation), ContainerStatus.RUNNING)] == found, milliseconds
