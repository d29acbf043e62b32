"""What the tests of the services share: a home with its store, and projects in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.app import App
from oubliette_core.config import (
    AgentConfig,
    AgentDefaults,
    Config,
    ContainerTypeConfig,
    DefaultsConfig,
    Home,
    LoadedConfig,
)
from oubliette_core.models import ExecSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.services import workspace
from oubliette_core.services.ids import new_id, now
from oubliette_core.services.locks import ProjectLocks
from oubliette_core.services.project_records import ProjectRecords
from oubliette_core.services.records import Project, ProjectStatus
from oubliette_core.services.store import Store
from oubliette_core.testing.fake import FakeEngine, FakeRuntime


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home on disk."""
    home = Home(path=tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def store(home: Home) -> Iterator[Store]:
    """The database of the home."""
    with Store(home.database, home.projects_dir, home.locks_dir) as store:
        yield store


@pytest.fixture
def records(store: Store) -> ProjectRecords:
    """The rows of projects."""
    return ProjectRecords(store)


@pytest.fixture
def locks(home: Home) -> ProjectLocks:
    """The locks of projects."""
    return ProjectLocks(home.locks_dir)


class MakeProject:
    """Makes projects with directories, in the store."""

    def __init__(self, home: Home, records: ProjectRecords) -> None:
        self._home = home
        self._records = records

    def __call__(self, name: str = "demo", *, container_type: str = "base", project_id: str = "") -> Project:
        project_id = project_id or new_id("proj")
        project = Project(
            id=project_id,
            name=name,
            container_type=container_type,
            created_at=now(),
            workspace=self._home.workspace_dir(project_id),
            home=self._home.project_home_dir(project_id),
        )
        self._records.insert(project)
        workspace.prepare(project)
        return project


@pytest.fixture
def make_project(home: Home, records: ProjectRecords) -> MakeProject:
    """Make a project with its directories."""
    return MakeProject(home, records)


class Bench:
    """An app on a runtime in memory, with two container types: ``base``, which can be pulled, and ``dev``.

    The agent ``test``, which is the default one, is in the image of ``base``.

    :ivar engine: the runtime's engine. :ivar registry: what can be pulled.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.engine = FakeEngine()
        self.registry = self.engine.registry
        self.registry.publish(BASE, "1", files={AGENT[1]: AGENT_SCRIPT.read_bytes()})
        self.engine.add_image(DEV)
        self.config = Config(
            containers={"base": ContainerTypeConfig(image=BASE), "dev": ContainerTypeConfig(image=DEV)},
            agents={"test": AgentConfig(command=AGENT)},
            defaults=DefaultsConfig(agent=AgentDefaults(name="test")),
        )
        self._apps = contextlib.ExitStack()
        self.app = self.open()

    def open(self, loaded: LoadedConfig | None = None, *, wrapper: object = None, backend: object = None) -> App:
        """Open the home as another process would, with another configuration, a wrapper or another backend."""
        backend = backend or FakeRuntime(RuntimeSettings(), self.engine)
        runtime = build_runtime("fake", backend, [("test", wrapper)] if wrapper else [])
        return self._apps.enter_context(App(self.home, loaded or LoadedConfig(config=self.config), runtime=runtime))

    def close(self) -> None:
        """Close what was opened."""
        self._apps.close()
        self.engine.shut_down()

    def start(self, name: str = "demo", container_type: str = "base") -> ProjectStatus:
        """Make a project and start its container."""
        self.app.projects.create(name, container_type=container_type)
        return self.app.containers.start(name)

    def run(self, name: str, script: str) -> str:
        """Run a script in a project's container; return what it printed."""
        result = self.app.containers.exec(name, ExecSpec(command=("/bin/sh", "-c", script)))
        assert (0, b"") == (result.exit_code, result.stderr)
        return result.stdout.decode()


AGENT = ("/bin/sh", "/usr/local/bin/test-agent")
AGENT_SCRIPT = Path(__file__).parents[1] / "agents" / "agent.sh"
BASE = "registry.example.com/base:1"
DEV = "dev:latest"


@pytest.fixture
def bench(home: Home) -> Iterator[Bench]:
    """An app on a runtime in memory."""
    bench = Bench(home)
    yield bench
    bench.close()
