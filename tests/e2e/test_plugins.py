"""Plugins that are really installed: each that cannot be used is told with the reason, and a good one still works."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.third_party.environments import ROOT, Environment, build_wheel, write_wheel

pytestmark = pytest.mark.slow

UNWANTED = {"OUBLIETTE_DISABLE_PLUGINS": "unwanted"}
BACKEND = textwrap.dedent("""
    from oubliette_core.hookspecs import hookimpl
    from oubliette_core.models import Capability, ContainerInfo, ContainerStatus, ImageInfo, Probe

    class Backend:
        api_version = 1
        def __init__(self, settings): pass
        @hookimpl
        def probe(self): return Probe(available=True, version="7", detail="it works")
        @hookimpl
        def capabilities(self): return frozenset({Capability.INIT})
        @hookimpl
        def pull(self, image): return ImageInfo(id="sha256:1")
        @hookimpl
        def exists(self, image): return True
        @hookimpl
        def create(self, spec): return ContainerInfo(id="1", name="1", image="1", image_id="1",
                                                     status=ContainerStatus.CREATED)
        @hookimpl
        def start(self, container): return self.create(None)
        @hookimpl
        def stop(self, container): return self.create(None)
""")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Core alone, with one plugin of each kind."""
    folder = tmp_path_factory.mktemp("plugins")
    environment = Environment.create(folder)
    plugins = {
        "plugin-good": ("good", BACKEND),
        "plugin-broken": ("broken", "raise RuntimeError('this was never tried')"),
        "plugin-one": ("twin", BACKEND),
        "plugin-two": ("twin", BACKEND),
        "plugin-other": ("other-version", BACKEND.replace("api_version = 1", "api_version = 99")),
        "plugin-unwanted": ("unwanted", "raise AssertionError('a disabled plugin was imported')"),
    }
    wheels = []
    for distribution, (name, source) in plugins.items():
        entry = f"[oubliette.runtimes]\n{name} = {distribution.replace('-', '_')}:Backend\n"
        wheels.append(write_wheel(folder, distribution, source, entry))
    environment.install(build_wheel(ROOT / "oubliette_core", folder / "core"), *wheels)
    return environment


def test_each_is_listed_with_its_state_and_reason(environment: Environment) -> None:
    """One that cannot be used never hides another."""
    listed = environment.runtimes(UNWANTED)
    states = {key: one["state"] for key, one in listed.items()}
    details = {name: one["detail"] for (name, _), one in listed.items()}

    assert {
        ("good", "plugin-good 1.0"): "available",
        ("broken", "plugin-broken 1.0"): "broken",
        ("twin", "plugin-one 1.0"): "duplicate",
        ("twin", "plugin-two 1.0"): "duplicate",
        ("other-version", "plugin-other 1.0"): "incompatible",
        ("unwanted", "plugin-unwanted 1.0"): "disabled",
    } == states
    assert "this was never tried" in details["broken"]
    assert "2 installed distributions" in details["twin"]
    assert "API version 99" in details["other-version"]
    assert "OUBLIETTE_DISABLE_PLUGINS" in details["unwanted"]


def test_people_get_a_table_and_what_to_do(environment: Environment) -> None:
    """The same without JSON."""
    table = environment.run("oubliette", "runtime", "list", environ=UNWANTED)
    states = {tuple(line.split()[:3:2]) for line in table.splitlines()[1:]}

    assert {("good", "available"), ("broken", "broken"), ("twin", "duplicate")} <= states


def test_the_good_one_works(environment: Environment) -> None:
    """By name, and as what is chosen when none is named."""
    for words in ((), ("good",)):
        shown = environment.run("oubliette", "runtime", "show", *words, environ=UNWANTED)

        assert "it works" in shown


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("broken", "this was never tried"),
        ("twin", "twin is offered by plugin-"),
        ("other-version", "API version 99"),
        ("unwanted", "OUBLIETTE_DISABLE_PLUGINS"),
        ("absent", "installed: "),
    ],
)
def test_another_one_asked_for_by_name_is_an_error(environment: Environment, name: str, reason: str) -> None:
    """Never the good one in its place."""
    said = environment.run("oubliette", "--runtime", name, "runtime", "show", code=3, environ=UNWANTED)

    assert reason in said
    assert "Traceback" not in said


def test_without_pytest_the_kit_says_what_is_missing(environment: Environment) -> None:
    """Core alone does not bring the kit's own tools."""
    said = environment.run("oubliette", "runtime", "check", "good", code=1)

    assert "pytest is not installed" in said
    assert "oubliette-core[testing]" in said


def test_a_new_runtime_installs_and_passes_its_first_test(environment: Environment, tmp_path: Path) -> None:
    """What ``oubliette runtime new`` writes is a distribution that works from the first minute."""
    target = tmp_path / "skeleton"
    environment.run("oubliette", "runtime", "new", "my-engine", str(target))
    own = Environment.create(tmp_path)
    core = next((environment.folder / "core").glob("*.whl"))
    own.install(f"oubliette-core @ {core.as_uri()}", f"{target}[test]")
    printed = own.run("pytest", "-q", "--rootdir", str(target), str(target))
    [listed] = own.runtimes().values()

    assert "1 passed" in printed
    assert ("my-engine", "unavailable", "my-engine is not installed") == (
        listed["name"],
        listed["state"],
        listed["detail"],
    )
    assert "Install my-engine" in own.run("oubliette", "runtime", "check", "my-engine", code=3)


def test_a_new_runtime_needs_a_name_and_a_place(environment: Environment, tmp_path: Path) -> None:
    """Nothing is overwritten, and nothing gets a name that an entry point or a package cannot have."""
    for name in ("Upper", "../up", "a b", "-x", "x--y", "auto", "1st", "x" * 41):
        assert "error" in environment.run("oubliette", "runtime", "new", "--", name, str(tmp_path / "new"), code=2)
    (tmp_path / "kept").write_text("mine")
    for place in (tmp_path, tmp_path / "kept"):
        environment.run("oubliette", "runtime", "new", "fine", str(place), code=5)

    assert ["kept"] == [path.name for path in tmp_path.iterdir()]
    assert "mine" == (tmp_path / "kept").read_text()
