"""Everything at once: whatever order it falls into, every outcome is one that some order explains."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from oubliette_core.errors import (
    ConflictError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    OublietteError,
    ProjectNotFoundError,
    RuntimeLostError,
)
from oubliette_core.models import ContainerStatus, ExecSpec

if TYPE_CHECKING:
    from oubliette_core.app import App
    from tests.core.services.conftest import Bench

EXPLAINED = (
    ProjectNotFoundError,  # it was deleted
    ConflictError,  # it is being deleted, or was made anew by another thread
    ContainerNotFoundError,  # it was not started yet
    ContainerNotRunningError,  # it was stopped
    RuntimeLostError,  # the command's container was taken away
)
NAMES = ("a", "b", "c")
ECHO = ExecSpec(command=("/bin/sh", "-c", "echo $0", "said"))


def _exec(app: App, name: str) -> None:
    result = app.containers.exec(name, ECHO)
    # A command that was killed with its container says so by its exit code.
    assert result.exit_code in {0, 137, 143}
    assert result.exit_code != 0 or result.stdout == b"said\n"


OPERATIONS: tuple[Callable[[App, str], object], ...] = (
    lambda app, name: app.containers.start(name),
    lambda app, name: app.containers.stop(name, grace=0.1),
    lambda app, name: app.containers.refresh(name),
    lambda app, name: app.containers.get(name),
    lambda app, _name: app.containers.list(),
    lambda app, name: app.projects.delete(name),
    lambda app, name: app.projects.create(name),
    _exec,
    _exec,
)


def test_a_storm_of_operations_leaves_every_project_with_one_container_at_most(bench: Bench) -> None:
    """Two processes' worth of threads on three projects; afterwards all of them still work."""
    apps = [bench.open(), bench.open()]
    unexplained: list[BaseException] = []

    def work(seed: int) -> None:
        choose = random.Random(seed)  # noqa: S311 - an order of operations is no secret
        for _ in range(40):
            try:
                choose.choice(OPERATIONS)(choose.choice(apps), choose.choice(NAMES))
            except EXPLAINED:
                continue
            except (OublietteError, AssertionError) as error:
                unexplained.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    projects = {project.id: project for project in bench.app.projects.list()}
    left = [container.spec.labels["dev.oubliette.project"] for container in bench.engine.containers()]
    for project in projects.values():
        bench.app.containers.start(project.name)
    found = bench.app.containers.list()

    assert [] == unexplained
    assert sorted(set(left)) == sorted(left)
    assert set(left) <= set(projects)
    assert [ContainerStatus.RUNNING] * len(projects) == [status.state for status in found]
    assert sorted(projects) == sorted(path.name for path in bench.home.projects_dir.iterdir())
