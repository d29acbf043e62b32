"""The pytest plugin of the conformance kit.

A conftest loads it with one line::

    pytest_plugins = ["oubliette_core.testing.plugin"]

Then ``pytest --oubliette-runtime NAME`` runs every case of the kit against the installed runtime of that name, beside
the tests that are there. Or a test module inherits the cases, which is also the way to test a runtime that is not
installed, or one whose engine cannot reach a registry in this process::

    from oubliette_core.testing.suite import RuntimeConformance

    @pytest.fixture(scope="class")
    def kit_runtime():
        return lambda: build_runtime("mine", MyRuntime(RuntimeSettings()))

    class TestMine(RuntimeConformance):
        pass

Fixtures that can be overridden in a conftest, a module or a class: `kit_runtime`, `kit_registry`, `kit_busybox`,
`kit_folder`. A case that the runtime cannot pass is overridden with a method that is marked ``xfail`` with a reason.
``--oubliette-report FILE`` writes what became of each case.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

# Before the cases are imported, so that their assertions tell what they compared.
pytest.register_assert_rewrite("oubliette_core.testing.kit")

from oubliette_core.plugins import RuntimeCatalogue  # noqa: E402
from oubliette_core.runtime import Runtime  # noqa: E402
from oubliette_core.testing.images import find_busybox  # noqa: E402
from oubliette_core.testing.kit.base import GATED, STAGED, Cases  # noqa: E402
from oubliette_core.testing.kit.manifest import behaviour_of  # noqa: E402
from oubliette_core.testing.kit.report import Recorder  # noqa: E402
from oubliette_core.testing.kit.rules import offences  # noqa: E402
from oubliette_core.testing.kit.stage import Registry, Stage  # noqa: E402
from oubliette_core.testing.registry import FaultRegistry  # noqa: E402

_INSTALLED = Path(__file__).with_name("kit") / "installed.py"
_recorder = pytest.StashKey[Recorder]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the kit."""
    group = parser.getgroup("oubliette", "conformance of container runtimes")
    group.addoption(
        "--oubliette-runtime", metavar="NAME", help="run every case of the kit against the installed runtime NAME"
    )
    group.addoption(
        "--oubliette-report",
        metavar="FILE",
        type=Path,
        help="write what became of each case to FILE, as JSON; with several runtimes, to FILE-NAME",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect the kit for an installed runtime, and record what becomes of the cases, where that was asked for."""
    if config.getoption("oubliette_runtime"):
        config.args.append(str(_INSTALLED))
    if config.getoption("oubliette_report") and not hasattr(config, "workerinput"):
        config.stash[_recorder] = Recorder()
        config.pluginmanager.register(config.stash[_recorder])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the reports."""
    recorder = session.config.stash.get(_recorder, None)
    if recorder is None:
        return
    file: Path = session.config.getoption("oubliette_report")
    reports = recorder.reports()
    for report in reports:
        own = file if len(reports) == 1 else file.with_stem(f"{file.stem}-{report.runtime}")
        own.write_text(report.as_json(), encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse cases that were replaced or left out by hand."""
    if found := offences(items):
        raise pytest.UsageError("\n".join(found))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a case be skipped by its gate only, and tell the recorder what it was."""
    report = yield
    behaviour = behaviour_of(item.name) if issubclass(getattr(item, "cls", None) or object, Cases) else None
    if behaviour is None:
        return report
    by_hand = report.skipped and not hasattr(report, "wasxfail") and GATED not in item.stash
    if by_hand and STAGED in item.stash:
        report.outcome = "failed"
        report.longrepr = f"{behaviour.id} was skipped, and not because of a capability"
    facts = item.stash.get(STAGED, None) or {"runtime": "", "version": "", "capabilities": []}
    vars(report)["oubliette"] = {"id": behaviour.id, **facts}
    return report


@pytest.fixture(scope="class")
def kit_runtime(request: pytest.FixtureRequest) -> Callable[[], Runtime]:
    """Give the runtime under test: called more than once, it gives runtimes of one engine."""
    name = request.config.getoption("oubliette_runtime")
    if not name:
        pytest.fail("give --oubliette-runtime NAME, or override the fixture kit_runtime", pytrace=False)
    return lambda: RuntimeCatalogue().load(name)


@pytest.fixture(scope="class")
def kit_registry() -> Iterator[Registry]:
    """A registry that the engine can reach and that fails on demand."""
    with contextlib.closing(FaultRegistry()) as registry:
        yield registry


@pytest.fixture(scope="class")
def kit_busybox() -> Path:
    """What the kit's images are made of: a statically linked busybox for Linux on the engine's processor."""
    return find_busybox()


@pytest.fixture
def kit_folder(tmp_path: Path) -> Path:
    """An empty directory that the engine can mount."""
    return tmp_path


@pytest.fixture(scope="class")
def kit_stage(
    kit_runtime: Callable[[], Runtime],
    kit_registry: Registry,
    kit_busybox: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stage]:
    """What all cases share."""
    folder = tmp_path_factory.mktemp("conformance")
    with contextlib.closing(Stage(kit_runtime, kit_registry, busybox=kit_busybox, folder=folder)) as stage:
        yield stage
