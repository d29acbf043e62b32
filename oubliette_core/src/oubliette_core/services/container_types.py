"""Finding a container type in the configuration."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from oubliette_core.errors import UnknownContainerTypeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core.models import ContainerType

__all__ = ["find_type"]


def find_type(types: Mapping[str, ContainerType], name: str) -> ContainerType:
    """Return the container type of this name. :raises UnknownContainerTypeError: with those that there are."""
    found = types.get(name) if isinstance(name, str) else None
    if found is None:
        near = difflib.get_close_matches(str(name), types, 1)
        raise UnknownContainerTypeError(
            f"there is no container type {name!r:.80} in the configuration; there are: {', '.join(types)}",
            subject=f"{name!s:.80}",
            valid_types=tuple(types),
            hint=f"Did you mean {near[0]}?" if near else "Choose one of them, or add it to containers.",
        )
    return found
