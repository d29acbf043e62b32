"""Labels, which the command takes apart at ``=`` and refuses with more than one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping


def arguments(labels: Mapping[str, str]) -> list[str]:
    """Return the options that set these labels."""
    return [f"--label={key}={encode(value)}" for key, value in labels.items()]


def encode(value: str) -> str:
    """Write ``=`` and the sign of the encoding itself as ``%3D`` and ``%25``."""
    return value.replace("%", "%25").replace("=", "%3D")


def decode(value: str) -> str:
    """Return what `encode` was given."""
    return unquote(value)
