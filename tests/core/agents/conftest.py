"""A host of agents on an engine in memory, with the agent for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from oubliette_core.agents import AgentHost, Turn
from oubliette_core.app import App
from oubliette_core.config import Config, Home, LoadedConfig, Secret
from oubliette_core.services.records import Event, EventKind, Project, Session
from tests.core.services.conftest import Bench

SECONDS = 30.0
"""How long anything here may take on a machine that is busy; most of it takes milliseconds."""


@pytest.fixture
def bench(home: Home) -> Iterator[Bench]:
    """An app on a runtime in memory."""
    bench = Bench(home)
    yield bench
    bench.close()


@attrs.define
class Office:
    """A process's agents, and a project for them."""

    app: App
    host: AgentHost
    project: Project

    def spawn(self, **choice: Any) -> Session:
        """Have an agent ready."""
        return self.host.spawn(self.project, **choice)

    def say(self, session: Session, text: str, *, wait: float = SECONDS) -> Turn:
        """Give a message, and follow it until it is over or something is asked."""
        return self.host.follow(session.id, self.host.message(session, text), wait=wait)

    def events(self, session: Session, *kinds: EventKind) -> list[Event]:
        """Return the events of a session, of some kinds or of all."""
        return [event for event in self.app.events.read(session.id, limit=10**6) if not kinds or event.kind in kinds]

    def wait_for(self, session: Session, ready: Callable[[list[Event]], bool]) -> list[Event]:
        """Wait until the events of a session are as they should be."""
        seen = 0
        while not ready(found := self.events(session)):
            assert self.host.events(session.id, seen, wait=SECONDS), found
            seen = found[-1].number if found else seen + 1
        return found


Open = Callable[..., Office]


@pytest.fixture
def open_office(bench: Bench) -> Iterator[Open]:
    """Opens the home as another process would, with agents of its own: `open_office(change=..., name=...)`."""
    with contextlib.ExitStack() as stack:

        def opened(change: Callable[[Config], Config] = lambda config: config, name: str = "demo") -> Office:
            app = bench.open(LoadedConfig(config=change(bench.config)))
            names = {project.name for project in app.projects.list()}
            project = app.projects.get(name) if name in names else app.projects.create(name)
            host = stack.enter_context(AgentHost(app))
            return Office(app=app, host=host, project=project)

        yield opened


@pytest.fixture
def office(open_office: Open) -> Office:
    """A process's agents."""
    return open_office()


def limits(**changes: Any) -> Callable[[Config], Config]:
    """Return a change of the configuration's limits."""

    def change(config: Config) -> Config:
        found = attrs.evolve(config.defaults.limits, **changes)
        return attrs.evolve(config, defaults=attrs.evolve(config.defaults, limits=found))

    return change


def agent_env(**variables: str) -> Callable[[Config], Config]:
    """Return a change of the environment of the agent for tests."""

    def change(config: Config) -> Config:
        env = {name: Secret(value) for name, value in variables.items()}
        return attrs.evolve(config, agents={"test": attrs.evolve(config.agents["test"], env=env)})

    return change


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home on disk."""
    home = Home(path=tmp_path / "home")
    home.create()
    return home
