"""Finding, choosing and loading runtimes, with real distributions on ``sys.path``."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from oubliette_core.errors import (
    DuplicatePluginError,
    NoRuntimeAvailableError,
    PluginLoadError,
    UnknownRuntimeError,
)
from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import PluginState, RuntimeCatalogue
from tests.harness.sys_path import prepend

Install = Callable[..., None]

BACKEND = """
    from oubliette_core import Capability, ContainerInfo, ContainerStatus, ImageInfo, Probe, hookimpl

    class Backend:
        api_version = 1
        settings = None
        def __init__(self, settings): type(self).settings = settings
        @hookimpl
        def probe(self): return Probe(available={available}, priority={priority}, detail={detail!r}, hint={hint!r})
        @hookimpl
        def capabilities(self): return frozenset()
        @hookimpl
        def pull(self, image): return ImageInfo(id="sha256:1")
        @hookimpl
        def exists(self, image): return True
        @hookimpl
        def create(self, spec): raise AssertionError
        @hookimpl
        def start(self, container): raise AssertionError
        @hookimpl
        def stop(self, container): raise AssertionError
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution: a module and its entry points, on a path of its own."""
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if "__editable__" not in path])

    def install(
        distribution: str, name: str, source: str, *, group: str = "oubliette.runtimes", value: str = "", **entries: str
    ) -> None:
        module = f"installed_{distribution.replace('-', '_')}_{tmp_path.name.replace('-', '_')}"
        root = tmp_path / distribution
        metadata = root / f"{distribution.replace('-', '_')}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (root / f"{module}.py").write_text(textwrap.dedent(source))
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = f"[{group}]\n{name} = {value or f'{module}:Backend'}\n"
        for other, text in entries.items():
            lines += f"[oubliette.{other}]\n{text}\n"
        (metadata / "entry_points.txt").write_text(lines)
        prepend(root, monkeypatch)

    return install


def backend(*, available: bool = True, priority: int = 50, detail: str = "", hint: str = "") -> str:
    """Write the source of a backend whose probe answers so."""
    return BACKEND.format(available=available, priority=priority, detail=detail, hint=hint)


def ours(catalogue: RuntimeCatalogue) -> dict[str, tuple[PluginState, str]]:
    """State and reason of the runtimes that this test installed (the checkout's own are there, too)."""
    return {
        report.name: (report.state, report.detail) for report in catalogue.reports() if report.name.startswith("t-")
    }


def only(*names: str) -> RuntimeCatalogue:
    """Disable every other runtime that is installed here."""
    return RuntimeCatalogue(disabled=[name for name in RuntimeCatalogue().names() if name not in names])


def test_a_named_runtime_imports_only_its_own_entry_point(install: Install) -> None:
    """Someone else's broken plugin costs nothing when it is not asked for."""
    install("t-good", "t-good", backend())
    install("t-bad", "t-bad", "raise SystemExit('imported')")

    assert "t-good" == RuntimeCatalogue().load("t-good").name


def test_an_unknown_name_answers_with_the_known_ones(install: Install) -> None:
    """A typo is corrected from the message alone."""
    install("t-good", "t-good", backend())
    with pytest.raises(UnknownRuntimeError) as caught:
        RuntimeCatalogue().load("podmann")

    assert "t-good" in caught.value.known
    assert "t-good" in str(caught.value)


def test_another_name_is_declared_by_the_plugin(install: Install) -> None:
    """Core keeps no list of old names."""
    install("t-good", "t-good", backend(), aliases="t-old-name = t-good")

    assert "t-good" == RuntimeCatalogue().load("t-old-name").name


def test_settings_are_the_runtimes_own(install: Install) -> None:
    """A runtime is constructed with its own section and nothing else."""
    install("t-good", "t-good", backend())
    asked: list[str] = []

    def settings(name: str) -> RuntimeSettings:
        asked.append(name)
        return RuntimeSettings(options={"host": name})

    RuntimeCatalogue(settings).load("t-good")

    assert ["t-good"] == asked


def test_auto_takes_the_highest_priority_then_the_name(install: Install) -> None:
    """The choice is the same on every start."""
    install("t-b", "t-b", backend(priority=60))
    install("t-a", "t-a", backend(priority=60))
    install("t-c", "t-c", backend(priority=10))
    install("t-d", "t-d", backend(priority=99, available=False))

    assert "t-a" == only("t-a", "t-b", "t-c", "t-d").choose().name


def test_auto_with_none_available_tells_about_each(install: Install) -> None:
    """The operator learns for every candidate why it was passed over and what to do."""
    install("t-off", "t-off", backend(available=False, detail="not running", hint="start it"))
    install("t-bad", "t-bad", "raise ImportError('no module')")
    with pytest.raises(NoRuntimeAvailableError) as caught:
        only("t-off", "t-bad").choose()

    told = {name: (detail, hint) for name, detail, hint in caught.value.candidates}
    assert ("not running", "start it") == told["t-off"]
    assert "no module" in told["t-bad"][0]
    assert "start it" in caught.value.hint


def test_each_state_is_reported_and_hides_nobody(install: Install) -> None:
    """One plugin that fails never hides the others."""
    install("t-good", "t-good", backend(detail="engine 1"))
    install("t-broken", "t-broken", "raise ImportError('boom')")
    install("t-exit", "t-exit", "raise SystemExit(3)")
    install("t-old", "t-old", backend().replace("api_version = 1", "api_version = 0"))
    install("t-undeclared", "t-undeclared", backend().replace("api_version = 1", ""))
    install("t-off", "t-off", backend())
    install("t-typo", "t-typo", backend().replace("def start(", "def strat("))
    install("t-raises", "t-raises", backend().replace("return Probe", "raise KeyError('x') or Probe"))
    install("t-twice", "t-same", backend())
    install("t-again", "t-same", backend())
    states = ours(RuntimeCatalogue(disabled=["t-off"]))

    assert {
        "t-good": PluginState.AVAILABLE,
        "t-broken": PluginState.BROKEN,
        "t-exit": PluginState.BROKEN,
        "t-old": PluginState.INCOMPATIBLE,
        "t-undeclared": PluginState.INCOMPATIBLE,
        "t-off": PluginState.DISABLED,
        "t-typo": PluginState.BROKEN,
        "t-raises": PluginState.BROKEN,
        "t-same": PluginState.DUPLICATE,
    } == {name: state for name, (state, _) in states.items()}, states
    assert "boom" in states["t-broken"][1]
    assert "API version 0" in states["t-old"][1]


@pytest.mark.parametrize("name", ["t-broken", "t-off", "t-old"])
def test_a_runtime_asked_for_by_name_that_cannot_be_loaded_is_an_error(install: Install, name: str) -> None:
    """Never another runtime in its place."""
    install("t-good", "t-good", backend())
    install("t-broken", "t-broken", "raise ImportError('boom')")
    install("t-off", "t-off", backend())
    install("t-old", "t-old", backend().replace("api_version = 1", "api_version = 2"))
    with pytest.raises(PluginLoadError):
        RuntimeCatalogue(disabled=["t-off"]).choose(name)


def test_two_distributions_with_one_name_are_refused(install: Install) -> None:
    """Which of the two would run is a matter of luck; the message names both."""
    install("t-one", "t-same", backend())
    install("t-two", "t-same", backend())
    with pytest.raises(DuplicatePluginError) as caught:
        RuntimeCatalogue().load("t-same")

    assert "t-one 1.0" in str(caught.value)
    assert "t-two 1.0" in str(caught.value)


WRAPPER = """
    from oubliette_core import hookimpl

    class Backend:
        api_version = 1
        def __init__(self, settings): pass
        @hookimpl(wrapper=True)
        def exists(self, image):
            yield
            return False
"""


def test_wrappers_come_in_by_entry_point(install: Install) -> None:
    """A wrapper needs nobody's permission but its installation."""
    install("t-good", "t-good", backend())
    install("t-wrap", "t-wrap", WRAPPER, group="oubliette.wrappers")

    assert RuntimeCatalogue().load("t-good").exists("busybox") is False
    assert RuntimeCatalogue(disabled=["t-wrap"]).load("t-good").exists("busybox") is True


def test_a_broken_wrapper_is_reported_and_left_out(install: Install) -> None:
    """An optional extra must not take the runtime away."""
    install("t-good", "t-good", backend())
    install("t-wrap", "t-wrap", "raise ImportError('boom')", group="oubliette.wrappers")
    catalogue = RuntimeCatalogue()
    reports = {report.name: report for report in catalogue.reports() if report.kind == "wrapper"}

    assert catalogue.load("t-good").exists("busybox") is True
    assert PluginState.BROKEN == reports["t-wrap"].state
