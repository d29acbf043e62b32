"""`App` puts a home together, loads what is asked for and nothing else, and closes what it opened."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from oubliette_core.app import App
from oubliette_core.config import Config, ContainerTypeConfig, Home, LoadedConfig
from oubliette_core.errors import ConfigError, NoRuntimeAvailableError, PluginLoadError, UnknownRuntimeError
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import Capability, ContainerInfo, ContainerSpec, ImageInfo, Probe, RuntimeSettings
from oubliette_core.plugins import RuntimeCatalogue, build_runtime
from oubliette_core.testing.fake import FakeRuntime

if TYPE_CHECKING:
    from pathlib import Path

    from oubliette_core.runtime import Runtime


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home on disk."""
    home = Home(path=tmp_path / "home")
    home.create()
    return home


class Catalogue:
    """Stands for the installed runtimes: remembers which were asked for.

    :ivar asked: the preferences, in their order. :ivar runtime: what is given.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.fake = FakeRuntime(RuntimeSettings())
        monkeypatch.setattr(RuntimeCatalogue, "choose", self.choose)

    def choose(self, preference: str = "auto") -> Runtime:
        """Give the runtime in memory."""
        self.asked.append(preference)
        return build_runtime(preference, self.fake)


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    """The installed runtimes."""
    return Catalogue(monkeypatch)


@pytest.mark.parametrize(
    ("configured", "given", "expected"), [("auto", None, "auto"), ("podman", None, "podman"), ("podman", "own", "own")]
)
def test_the_runtime_is_the_preferred_one(
    home: Home, catalogue: Catalogue, configured: str, given: str | None, expected: str
) -> None:
    """What the caller names wins over the configuration."""
    with App(home, LoadedConfig(config=Config(runtime=configured)), runtime=given) as app:
        name = app.runtime.name

    assert (expected, [expected]) == (name, catalogue.asked)


def test_records_need_no_runtime(home: Home, catalogue: Catalogue) -> None:
    """Projects, sessions and tokens are Oubliette's own."""
    with App(home, LoadedConfig()) as app:
        app.projects.create("web")
        app.projects.list()
        app.projects.delete("web")
        app.tokens.create("a", ["admin"])
        app.sessions.list()

    assert [] == catalogue.asked


def test_the_runtime_is_loaded_once_for_all_threads(home: Home, catalogue: Catalogue) -> None:
    """However many ask for it at the same time."""
    found: list[object] = []
    with App(home, LoadedConfig()) as app:
        threads = [threading.Thread(target=lambda: found.append(app.containers)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert ["auto"] == catalogue.asked
    assert [found[0]] * 8 == found


def test_closing_releases_the_runtime_and_can_be_repeated(home: Home, catalogue: Catalogue) -> None:
    """And what was not opened is not opened for it."""
    app = App(home, LoadedConfig())
    app.close()
    closed_before = catalogue.fake.calls["close"]
    _ = app.runtime
    app.close()
    app.close()

    assert (0, ["auto"]) == (closed_before, catalogue.asked)
    assert catalogue.fake.calls["close"] >= 1


def test_a_runtime_that_was_loaded_already_is_used(home: Home, catalogue: Catalogue) -> None:
    """A program that embeds the library brings its own."""
    own = build_runtime("own", FakeRuntime(RuntimeSettings()))
    with App(home, LoadedConfig(), runtime=own) as app:
        used = app.runtime

    assert used is own
    assert [] == catalogue.asked


class Minimal:
    """A backend with the core operations alone."""

    @hookimpl
    def probe(self) -> Probe:
        """It is there."""
        return Probe(available=True)

    @hookimpl
    def capabilities(self) -> frozenset[Capability]:
        """It can do nothing special."""
        return frozenset()

    @hookimpl
    def pull(self, image: str) -> ImageInfo:
        """Every image is there."""
        return ImageInfo(id=image)

    @hookimpl
    def exists(self) -> bool:
        """Every image is there."""
        return True

    @hookimpl
    def create(self, spec: ContainerSpec) -> ContainerInfo:
        """Never asked for."""
        raise AssertionError(spec)

    @hookimpl
    def start(self, container: str) -> ContainerInfo:
        """Never asked for."""
        raise AssertionError(container)

    @hookimpl
    def stop(self, container: str) -> ContainerInfo:
        """Never asked for."""
        raise AssertionError(container)


def test_a_runtime_that_lacks_operations_serves_images_but_no_containers(home: Home) -> None:
    """The error names them."""
    config = Config(containers={"base": ContainerTypeConfig(image="base:1")})
    with App(home, LoadedConfig(config=config), runtime=build_runtime("minimal", Minimal())) as app:
        outcome = app.images.ensure_image_exists("base")
        with pytest.raises(PluginLoadError) as caught:
            _ = app.containers

    assert outcome.ok
    assert "minimal cannot serve projects: it does not implement close, exec, inspect," in caught.value.message


def test_disabled_plugins_are_not_loaded(home: Home) -> None:
    """Whether the configuration was loaded with them or the caller adds them."""
    installed = RuntimeCatalogue().names()
    with App(home, LoadedConfig(disabled_plugins=frozenset(installed[:1])), disabled=installed[1:]) as app:
        with pytest.raises(NoRuntimeAvailableError):
            _ = app.runtime
        states = {report.state.value for report in app.catalogue.reports()}

    assert states <= {"disabled"}


def test_an_unknown_runtime_is_told_with_those_that_are_known(home: Home) -> None:
    """When it is first needed, not before."""
    with App(home, LoadedConfig(), runtime="nonesuch") as app:
        app.projects.list()
        with pytest.raises(UnknownRuntimeError) as caught:
            _ = app.runtime

    assert RuntimeCatalogue().names() == caught.value.known


def test_settings_of_a_runtime_come_from_its_section_with_the_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets its own and no other's."""
    given: list[RuntimeSettings] = []

    def load(catalogue: RuntimeCatalogue, name: str) -> Runtime:
        given.append(catalogue._settings(name))
        return build_runtime(name, FakeRuntime(given[-1]))

    monkeypatch.setattr(RuntimeCatalogue, "load", load)
    config = Config(runtime="mine", runtimes={"mine": {"a": 1}, "other": {"b": 2}})
    with App(home, LoadedConfig(config=config)) as app:
        assert app.runtime.name == "mine"

    assert [RuntimeSettings(options={"a": 1}, home_id=home.id)] == given


def test_a_home_that_does_not_exist_is_told(tmp_path: Path, catalogue: Catalogue) -> None:
    """With the command that makes it."""
    with App(Home(path=tmp_path / "none"), LoadedConfig()) as app, pytest.raises(ConfigError) as caught:
        _ = app.containers

    assert "oubliette --dir" in caught.value.hint
    assert ["auto"] == catalogue.asked


def test_importing_it_loads_no_engine_and_no_lock() -> None:
    """Every command pays for this import."""
    program = "import sys, oubliette_core.app; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)

    assert set() == {"docker", "filelock", "asyncio", "stamina", "json5", "typer"} & set(loaded.stdout.split())
