"""What a version can do is read from its number, and what it cannot is not declared."""

import pytest

from oubliette_apple._versions import Version
from oubliette_core.models import Capability
from tests.apple.installed import PROFILES

_NEVER = {
    Capability.PIDS_LIMIT,
    Capability.NO_NEW_PRIVILEGES,
    Capability.HOSTNAME,
    Capability.NETWORK_HOST,
    Capability.LOGS_SINCE,
    Capability.EXIT_CODE,
    Capability.OOM_REPORT,
}


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("container CLI version 1.2.2 (build: release, commit: 0190097)", Version(1, 2, 2)),
        ("container CLI version 0.12 (build: release, commit: unspeci)", Version(0, 12)),
        ("container CLI version 1.4.1-beta (build: debug)", Version(1, 4, 1)),
        ("Docker version 29.1.3, build f52814d", None),
        ("", None),
    ],
)
def test_parse(line: str, version: Version | None) -> None:
    """The line of the command is read, that of another program is not."""
    assert version == Version.parse(line)


@pytest.mark.parametrize(
    ("profile", "more"),
    [
        ("0.9", set()),
        ("0.12", {Capability.INIT, Capability.CAPABILITIES}),
        ("1.2", {Capability.INIT, Capability.CAPABILITIES}),
        ("1.4", {Capability.INIT, Capability.CAPABILITIES}),
    ],
)
def test_capabilities(profile: str, more: set[Capability]) -> None:
    """A capability is declared from the version on that has the option for it."""
    version = Version.parse(f"container CLI version {profile}.0")
    assert version
    declared = version.capabilities()

    assert more == declared & {Capability.INIT, Capability.CAPABILITIES}
    assert set() == declared & _NEVER
    assert Capability.VM_ISOLATION in declared


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_is_supported(profile: str) -> None:
    """The emulator has no version that the runtime refuses."""
    version = Version.parse(f"container CLI version {profile}.0")

    assert version
    assert version.at_least(0, 9)


@pytest.mark.parametrize(
    ("version", "image", "options"),
    [
        (Version(0, 9), "127.0.0.1:5000/x:1", ["--progress=none"]),
        (Version(0, 12), "alpine", ["--progress=plain"]),
        (Version(1, 2, 2), "localhost:5000/x:1", ["--progress=plain"]),
        (Version(1, 4, 1), "localhost:5000/x:1", ["--progress=plain", "--scheme=http"]),
        (Version(1, 4, 1), "127.0.0.1:5000/x:1", ["--progress=plain", "--scheme=http"]),
        (Version(1, 4, 1), "127.example.com/x:1", ["--progress=plain"]),
        (Version(1, 4, 1), "localhost:1", ["--progress=plain"]),
    ],
)
def test_fetching(version: Version, image: str, options: list[str]) -> None:
    """Plain HTTP is asked for only where the command no longer tries it, and only on this machine."""
    assert options == version.fetching(image)
