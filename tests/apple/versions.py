"""The kit over the other versions of the command; `nox -s versions` runs it."""

import pytest

from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.stage import Maker, Stage
from tests.apple.test_conformance import EmulatedCases

_NO_IMAGE_SIGNAL = "before 1.0 the command does not look for the signal that an image asks for"
_NO_CREATION = "before 1.0 the command does not say when a container was made"
_VARIABLE_STAYS = "before 0.10 the command cannot replace a variable of the image"
_NO_DIGESTS = "before 1.0 the command does not say by which digest a registry knows an image for one platform"


class OldCases(EmulatedCases):
    """Every case, with those that the old JSON makes impossible marked as what they are."""

    @pytest.mark.xfail(reason=_NO_DIGESTS, strict=True)
    def test_images_inspect_fields(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        super().test_images_inspect_fields(stage, runtime, make)

    @pytest.mark.xfail(reason=_NO_DIGESTS, strict=True)
    def test_images_inspect_every_reference(self, runtime: Runtime, make: Maker) -> None:
        super().test_images_inspect_every_reference(runtime, make)

    @pytest.mark.xfail(reason=_NO_IMAGE_SIGNAL, strict=True)
    def test_containers_stop_signal_of_image(self, stage: Stage, runtime: Runtime, make: Maker) -> None:
        super().test_containers_stop_signal_of_image(stage, runtime, make)

    @pytest.mark.xfail(reason=_NO_CREATION, strict=True)
    def test_inspect_times(self, runtime: Runtime, make: Maker) -> None:
        super().test_inspect_times(runtime, make)

    @pytest.mark.xfail(reason=_NO_CREATION, strict=True)
    def test_list_fields(self, make: Maker) -> None:
        super().test_list_fields(make)


class TestApple09(OldCases):
    """The oldest version that is supported."""

    profile = "0.9"

    @pytest.mark.xfail(reason=_VARIABLE_STAYS, strict=True)
    def test_containers_env(self, stage: Stage, make: Maker) -> None:
        super().test_containers_env(stage, make)


class TestApple012(OldCases):
    """The last version with the old JSON."""

    profile = "0.12"


class TestApple14(EmulatedCases):
    """The newest version that is known of."""

    profile = "1.4"
