"""A runtime plugin for tests: every command of a test finds the same engine in memory."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from oubliette_core.models import RuntimeSettings
from oubliette_core.testing.fake import FakeEngine, FakeRuntime


class SharedFake(FakeRuntime):
    """What the entry point names."""

    shared: ClassVar[FakeEngine]

    def __init__(self, settings: RuntimeSettings) -> None:
        super().__init__(settings, self.shared)


def install(directory: Path) -> None:
    """Write what makes ``directory``, once it is on ``sys.path``, an installed plugin."""
    metadata = directory / "oubliette_fake-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: oubliette-fake\nVersion: 1.0\n", encoding="utf-8")
    entry = f"[oubliette.runtimes]\nfake = {SharedFake.__module__}:{SharedFake.__name__}\n"
    (metadata / "entry_points.txt").write_text(entry, encoding="utf-8")
