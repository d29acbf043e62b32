"""The embedded runtime does what every runtime has to do."""

from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.suite import RuntimeConformance
from oubliette_embedded import EmbeddedRuntime
from tests.embedded.busybox import busybox_or_skip


class TestEmbedded(RuntimeConformance):
    """Every case, as the user who runs the tests."""

    @pytest.fixture(scope="class")
    @classmethod
    def kit_runtime(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Runtime]:
        """The embedded runtime with a root of its own."""
        settings = RuntimeSettings(options={"root": str(tmp_path_factory.mktemp("embedded"))})
        return lambda: build_runtime("embedded", EmbeddedRuntime(settings))

    @pytest.fixture(scope="class")
    @classmethod
    def kit_busybox(cls) -> Path:
        """What images are made of here."""
        return busybox_or_skip()
