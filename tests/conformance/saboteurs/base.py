"""What all saboteurs have in common."""

from __future__ import annotations

from typing import ClassVar

from oubliette_core.testing.fake import FakeRuntime


class Saboteur(FakeRuntime):
    """What all have in common."""

    caught_by: ClassVar[tuple[str, ...]]
