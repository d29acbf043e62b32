"""What every class of cases has: the fixtures, and the gate that the manifest sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.manifest import behaviour_of
from oubliette_core.testing.kit.stage import Maker, Stage, making

__all__ = ["GATED", "STAGED", "Cases"]

GATED = pytest.StashKey[str]()
"""Why a case does not apply: a capability that is declared or is not."""
STAGED = pytest.StashKey[dict[str, Any]]()
"""What the runtime is; once that is known, the gate alone decides whether a case is skipped."""


class Cases:
    """Cases of the kit. A method that tests is named after its behaviour: ``exec.echo`` is ``test_exec_echo``."""

    @pytest.fixture(autouse=True)
    def _gate(self, request: pytest.FixtureRequest, kit_stage: Stage) -> None:
        """Skip what the declared capabilities say does not apply, and nothing else."""
        request.node.stash[STAGED] = kit_stage.facts
        behaviour = behaviour_of(request.function.__name__)
        reason = behaviour.gate(kit_stage.capabilities) if behaviour else ""
        if reason:
            request.node.stash[GATED] = reason
            pytest.skip(reason)

    @pytest.fixture
    def stage(self, kit_stage: Stage) -> Stage:
        """What all cases share."""
        return kit_stage

    @pytest.fixture
    def runtime(self, kit_stage: Stage) -> Runtime:
        """The runtime under test, with a witness in front of it."""
        return kit_stage.runtime

    @pytest.fixture
    def make(self, kit_stage: Stage) -> Iterator[Maker]:
        """Makes images and containers for this case."""
        with making(kit_stage) as maker:
            yield maker

    @pytest.fixture
    def box(self, kit_stage: Stage) -> Box:
        """A running container, shared with other cases."""
        return kit_stage.box
