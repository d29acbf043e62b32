"""Runtimes that are broken in one way each: the kit has to catch every one, by the case that is named.

Each is the fake runtime with one thing wrong. `caught_by` names the cases that must fail, and the docstring says what
is wrong. What is not named may fail as well.
"""

from types import ModuleType

from tests.conformance.saboteurs import commands, containers, engine, images
from tests.conformance.saboteurs.base import Saboteur

__all__ = ["SABOTEURS", "Saboteur"]


def _classes(module: ModuleType) -> list[type[Saboteur]]:
    return [
        each
        for name, each in vars(module).items()
        if isinstance(each, type) and issubclass(each, Saboteur) and each is not Saboteur and not name.startswith("_")
    ]


SABOTEURS: tuple[type[Saboteur], ...] = tuple(
    each for part in (engine, images, containers, commands) for each in _classes(part)
)
