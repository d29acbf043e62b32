"""The kit for an installed runtime, chosen with ``--oubliette-runtime``."""

from __future__ import annotations

from oubliette_core.testing.suite import RuntimeConformance


class TestRuntime(RuntimeConformance):
    """Every case, as it is."""
