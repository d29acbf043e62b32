"""The Docker runtime does what every runtime has to do, on a real engine."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.suite import RuntimeConformance
from oubliette_docker import DockerRuntime
from tests.engine import Engine


class TestDocker(RuntimeConformance):
    """Every case, over Docker."""

    @pytest.fixture(scope="class")
    @classmethod
    def kit_runtime(cls, engine: Engine) -> Callable[[], Runtime]:
        """The Docker runtime on the tests' engine."""
        settings = RuntimeSettings(options={"host": engine.docker_host})
        return lambda: build_runtime("docker", DockerRuntime(settings))

    @pytest.fixture(scope="class")
    @classmethod
    def kit_busybox(cls, busybox: Path) -> Path:
        """The busybox that came with the engine."""
        return busybox
