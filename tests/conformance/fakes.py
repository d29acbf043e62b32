"""The fake runtime, as the kit gets it."""

from collections.abc import Callable
from pathlib import Path

from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_core.testing.fake import FakeEngine, FakeRuntime
from oubliette_core.testing.fake.images import pretended_busybox as busybox_bytes


def pretended_busybox(folder: Path) -> Path:
    """Write what looks like a busybox for this machine: the fake interprets commands and executes none."""
    path = folder / "busybox"
    path.write_bytes(busybox_bytes())
    return path


def fake_maker(engine: FakeEngine) -> Callable[[], Runtime]:
    """Give what makes runtimes of one fake engine."""
    return lambda: build_runtime("fake", FakeRuntime(RuntimeSettings(), engine))
