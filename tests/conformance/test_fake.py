"""The fake runtime does what every runtime has to do: what is tested on it holds elsewhere."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oubliette_core.runtime import Runtime
from oubliette_core.testing.fake import FakeEngine
from oubliette_core.testing.suite import RuntimeConformance
from tests.conformance.fakes import fake_maker, pretended_busybox


class TestFake(RuntimeConformance):
    """Every case, over the fake."""

    @pytest.fixture(scope="class")
    @classmethod
    def fake_engine(cls) -> Iterator[FakeEngine]:
        """One engine for all."""
        engine = FakeEngine()
        yield engine
        engine.shut_down()

    @pytest.fixture(scope="class")
    @classmethod
    def kit_runtime(cls, fake_engine: FakeEngine) -> Callable[[], Runtime]:
        """The fake."""
        return fake_maker(fake_engine)

    @pytest.fixture(scope="class")
    @classmethod
    def kit_busybox(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Something that nobody executes: the fake interprets commands."""
        return pretended_busybox(tmp_path_factory.mktemp("busybox"))
