"""Refreshes a project, and kills itself with SIGKILL at one step of it.

    python -m tests.core.services.refresh_child HOME DOCKER_HOST IMAGE STEP

With step -1 it lives, and prints the names of all steps as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from importlib.metadata import entry_points
from pathlib import Path

from oubliette_core.app import App
from oubliette_core.config import Config, ContainerTypeConfig, Home, LoadedConfig
from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import RUNTIMES_GROUP, build_runtime
from tests.core.services.steps import Steps, watch_store

PROJECT = "demo"


def configuration(docker_host: str, image: str) -> LoadedConfig:
    """Return a configuration with one container type, on the Docker runtime."""
    containers = {"base": ContainerTypeConfig(image=image)}
    return LoadedConfig(
        config=Config(runtime="docker", runtimes={"docker": {"host": docker_host}}, containers=containers)
    )


def main(path: str, docker_host: str, image: str, last: str) -> None:
    """Do it."""

    def on_step(number: int, _name: str) -> None:
        if number == int(last):
            os.kill(os.getpid(), signal.SIGKILL)

    steps = Steps(on_step)
    (docker,) = entry_points(group=RUNTIMES_GROUP, name="docker")
    backend = docker.load()(RuntimeSettings(options={"host": docker_host}))
    sqlite3.connect = watch_store(steps)  # type: ignore[assignment]  # in this process alone
    runtime = build_runtime("docker", backend, [("steps", steps)])
    with App(Home(path=Path(path)), configuration(docker_host, image), runtime=runtime) as app:
        app.containers.refresh(PROJECT)
    sys.stdout.write(json.dumps(steps.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
