"""Platforms, ``os/architecture[/variant]``: this machine's own, and which of several an image is taken for.

The names are Go's, as the OCI image specification has them (image-index.md).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["choose", "matches", "own_platform"]

_T = TypeVar("_T")
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm/v7",
    "armv7l": "arm/v7",
    "armv6l": "arm/v6",
    "i686": "386",
    "i586": "386",
    "loongarch64": "loong64",
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
_PLAIN = {"amd64": "v1", "arm64": "v8", "arm": "v7"}
"""The variant that is meant where none is named."""
_OWN_TOO = {"amd64": ("386",), "arm": ("arm",)}
"""Architectures that a processor runs without emulation, besides its own name."""


def own_platform() -> str:
    """Return the platform of this machine."""
    machine = os.uname().machine
    return f"linux/{_MACHINES.get(machine, machine)}"


def matches(wanted: str, found: str) -> bool:
    """Tell whether an image of platform ``found`` is one of ``wanted``; an image that does not say is of any."""
    if not found:
        return True
    (wanted_os, wanted_cpu, wanted_variant), (found_os, found_cpu, found_variant) = _split(wanted), _split(found)
    if (wanted_os, wanted_cpu) != (found_os, found_cpu):
        return False
    plain = _PLAIN.get(wanted_cpu, "")
    return not wanted_variant or (wanted_variant or plain) == (found_variant or plain)


def choose(candidates: Iterable[_T], platform_of: Callable[[_T], str], wanted: str | None) -> _T | None:
    """Return the best candidate for a platform, or for this machine when none is wanted; None if none fits."""
    ranked = [(rank, one) for one in candidates if (rank := _rank(platform_of(one), wanted)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _rank(found: str, wanted: str | None) -> int | None:
    """Tell how well a platform fits: 0 is best, None is not at all."""
    own = wanted or own_platform()
    if matches(own, found):
        _, cpu, variant = _split(found)
        plain = not variant or variant == (_split(own)[2] or _PLAIN.get(cpu, ""))
        return (3 if not found else 0) if plain else _variant_rank(own, found)
    system, cpu, _ = _split(own)
    found_system, found_cpu, _ = _split(found)
    if wanted is None and found_system == system and found_cpu in _OWN_TOO.get(cpu, ()):
        return 4
    return None


def _variant_rank(own: str, found: str) -> int | None:
    """Rank a variant that was not asked for: older than ours runs here, newer (amd64/v3) perhaps not."""
    _, cpu, variant = _split(own)
    ours = variant or _PLAIN.get(cpu, "")
    return 1 if _split(found)[2] < ours else 2


def _split(platform: str) -> tuple[str, str, str]:
    system, _, rest = platform.lower().partition("/")
    cpu, _, variant = rest.partition("/")
    return system, _ALIASES.get(cpu, cpu), variant
