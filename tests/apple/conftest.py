"""Emulators of `container`, and images for them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.apple.installed import Emulator, installed
from tests.engine import Engine
from tests.images import ImageMaker

Install = Callable[..., Emulator]


@pytest.fixture
def install(engine: Engine, tmp_path: Path) -> Iterator[Install]:
    """Installs emulators: `install(profile)`."""
    with ExitStack() as stack:
        count = iter(range(100))
        yield lambda profile="1.2": stack.enter_context(
            installed(tmp_path / f"mac{next(count)}", engine.docker_host, profile)
        )


@pytest.fixture
def mac(install: Install) -> Emulator:
    """An emulator of the newest version that was read from source."""
    return install()


@pytest.fixture
def image(images: ImageMaker) -> str:
    """The reference of an image in the registry that waits until it is told to stop."""
    return images.push().reference
