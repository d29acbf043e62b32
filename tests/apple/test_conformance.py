"""The Apple runtime does what every runtime has to do, over the emulated command.

Here over the version whose source was read last; `versions.py` has the others, and `on_a_mac.py` the real command.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oubliette_apple import AppleRuntime
from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.stage import Maker
from tests.apple.cases import AppleCases
from tests.apple.installed import Emulator, installed
from tests.engine import Engine


class EmulatedCases(AppleCases):
    """Every case, over one version."""

    profile = "1.2"

    @pytest.fixture(scope="class")
    @classmethod
    def machine(cls, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
        """The emulated machine that all cases share."""
        with installed(tmp_path_factory.mktemp("mac") / "mac", engine.docker_host, cls.profile) as emulator:
            yield emulator

    @pytest.fixture(scope="class")
    @classmethod
    def kit_runtime(cls, machine: Emulator) -> Callable[[], Runtime]:
        """The runtime, with the emulated command configured."""
        settings = RuntimeSettings(options={"binary": str(machine.command)})
        return lambda: build_runtime("apple", AppleRuntime(settings))

    @pytest.fixture(scope="class")
    @classmethod
    def kit_busybox(cls, busybox: Path) -> Path:
        """The busybox that came with the engine."""
        return busybox

    @pytest.mark.xfail(reason="the containers of the emulated command are not virtual machines", strict=True)
    def test_honesty_vm(self, make: Maker) -> None:
        super().test_honesty_vm(make)


class TestApple(EmulatedCases):
    """Version 1.2."""
