"""The kit over Apple's own command, on a Mac where its service runs; `nox -s mac` runs it."""

from collections.abc import Callable

import pytest

from oubliette_apple import AppleRuntime
from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from tests.apple.cases import AppleCases


class TestMac(AppleCases):
    """Every case, over the command that is installed."""

    @pytest.fixture(scope="class")
    @classmethod
    def kit_runtime(cls) -> Callable[[], Runtime]:
        """The runtime as users get it."""
        return lambda: build_runtime("apple", AppleRuntime(RuntimeSettings()))
