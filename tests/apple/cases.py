"""The cases of the kit, with those that Apple's command makes impossible marked as what they are."""

import pytest

from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.stage import Maker
from oubliette_core.testing.suite import RuntimeConformance

_TEXT = "the command prints logs as text: without bytes that are no UTF-8, and always with a newline at the end"
_CUT = "the command cuts the log at each start"


class AppleCases(RuntimeConformance):
    """Every case; each one that is expected to fail is run, and has to fail."""

    @pytest.mark.xfail(reason=_TEXT, strict=True)
    def test_logs_bytes(self, runtime: Runtime, make: Maker) -> None:
        super().test_logs_bytes(runtime, make)

    @pytest.mark.xfail(reason=_CUT, strict=True)
    def test_logs_after_restart(self, runtime: Runtime, make: Maker) -> None:
        super().test_logs_after_restart(runtime, make)
