"""Every step of an operation, so that tests can let each of them be the last.

A step is the moment before or after a call of the runtime, or of a change in the store. Nothing in the product knows
of this: the calls are seen by a wrapper, as any audit would, and the store through SQLite's own interface.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable, Generator
from typing import Any

from oubliette_core.hookspecs import hookimpl

OnStep = Callable[[int, str], None]


class Steps:
    """A wrapper around a runtime that counts steps and tells of each.

    :param on_step: called with the step's number, from 0, and its name; what it raises is raised there.
    """

    def __init__(self, on_step: OnStep) -> None:
        self.on_step = on_step
        self.seen: list[str] = []

    def step(self, name: str) -> None:
        """Count a step."""
        self.seen.append(name)
        self.on_step(len(self.seen) - 1, name)

    def around(self, name: str) -> Generator[None, Any, Any]:
        """Count the moments before and after a call."""
        self.step(f"before {name}")
        result = yield
        self.step(f"after {name}")
        return result

    @hookimpl(wrapper=True)
    def pull(self) -> Generator[None, Any, Any]:
        """Download an image."""
        return (yield from self.around("pull"))

    @hookimpl(wrapper=True)
    def inspect_image(self) -> Generator[None, Any, Any]:
        """Look at an image."""
        return (yield from self.around("inspect_image"))

    @hookimpl(wrapper=True)
    def inspect(self) -> Generator[None, Any, Any]:
        """Look at a container."""
        return (yield from self.around("inspect"))

    @hookimpl(wrapper=True)
    def list_containers(self) -> Generator[None, Any, Any]:
        """Look at several."""
        return (yield from self.around("list_containers"))

    @hookimpl(wrapper=True)
    def create(self) -> Generator[None, Any, Any]:
        """Make a container."""
        return (yield from self.around("create"))

    @hookimpl(wrapper=True)
    def start(self) -> Generator[None, Any, Any]:
        """Start it."""
        return (yield from self.around("start"))

    @hookimpl(wrapper=True)
    def exec(self) -> Generator[None, Any, Any]:
        """Run a command in it."""
        return (yield from self.around("exec"))

    @hookimpl(wrapper=True)
    def stop(self) -> Generator[None, Any, Any]:
        """Stop it."""
        return (yield from self.around("stop"))

    @hookimpl(wrapper=True)
    def remove(self) -> Generator[None, Any, Any]:
        """Remove it."""
        return (yield from self.around("remove"))


def watch_store(steps: Steps) -> Callable[..., sqlite3.Connection]:
    """Return a ``sqlite3.connect`` whose connections count their changes as steps."""

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql.split(maxsplit=1)[0] not in {"BEGIN", "COMMIT", "UPDATE", "INSERT", "DELETE"}:
                return super().execute(sql, *parameters)
            name = sql.partition(" WHERE")[0]
            steps.step(f"before {name}")
            cursor = super().execute(sql, *parameters)
            steps.step(f"after {name}")
            return cursor

    return functools.partial(sqlite3.connect, factory=Watched)
