"""``python -m oubliette_core.testing NAME`` checks a runtime that somebody else has installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from oubliette_core._version import __version__
from oubliette_core.testing.check import run_kit
from oubliette_core.testing.fake import FakeEngine
from oubliette_core.testing.kit.manifest import behaviours
from oubliette_core.testing.kit.report import CaseReport
from tests.conformance.fakes import fake_maker, pretended_busybox

THEIRS = """
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import Probe
from oubliette_core.testing.fake import FakeEngine, FakeRuntime

ENGINE = FakeEngine()

class Good(FakeRuntime):
    def __init__(self, settings):
        super().__init__(settings, ENGINE)

class Bad(Good):
    @hookimpl
    def exists(self, image, platform):
        return True

class Absent(Good):
    @hookimpl
    def probe(self):
        return Probe(available=False, detail="it is not running", hint="Start it.")
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Runtimes good, bad and absent, installed where the variables that this gives say."""
    (tmp_path / "theirs.py").write_text(THEIRS, encoding="ascii")
    about = tmp_path / "theirs-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n", encoding="ascii")
    entries = "".join(f"{name.lower()} = theirs:{name}\n" for name in ("Good", "Bad", "Absent"))
    (about / "entry_points.txt").write_text(f"[oubliette.runtimes]\n{entries}", encoding="ascii")
    busybox = pretended_busybox(tmp_path)
    return {**os.environ, "PYTHONPATH": str(tmp_path), "OUBLIETTE_TEST_BUSYBOX": str(busybox)}


def _check(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "oubliette_core.testing", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_good_runtime_passes_and_its_report_says_all(installed: dict[str, str], tmp_path: Path) -> None:
    """Version, capabilities, and for each case what it is and what became of it."""
    file = tmp_path / "report.json"
    ended = _check(installed, "good", "--json", str(file), "--case", "engine", "--case", "honesty.memory")
    report = json.loads(file.read_text(encoding="utf-8"))
    cases = {case["id"]: case for case in report["cases"]}

    assert (0, "") == (ended.returncode, ended.stderr)
    assert ("good", "1", __version__, 1) == (report["runtime"], report["version"], report["core"], report["api"])
    assert "tty" in report["capabilities"]
    assert {one.id for one in behaviours() if one.id.startswith("engine.")} | {"honesty.memory"} == set(cases)
    assert "passed" == cases["engine.probe"].pop("outcome")
    assert cases["engine.probe"].pop("duration") >= 0
    assert {
        "id": "engine.probe",
        "sentence": "probe answers within 2 s that the engine is available, and which version it is.",
        "source": "RuntimeSpec.probe",
        "needs": [],
        "unless": [],
        "reason": "",
    } == cases["engine.probe"]
    assert ("skipped", ["memory-limit"], "the runtime does not declare memory-limit") == (
        cases["honesty.memory"]["outcome"],
        cases["honesty.memory"]["needs"],
        cases["honesty.memory"]["reason"],
    )
    assert {"passed": len(cases) - 1, "skipped": 1} == report["summary"]


def test_a_bad_runtime_fails_with_what_was_compared(installed: dict[str, str]) -> None:
    """The output names the case, its sentence and the values."""
    ended = _check(installed, "bad", "--case", "images.exists.absent")

    assert 1 == ended.returncode
    assert "failed           images.exists.absent: " in ended.stdout
    assert "images.exists.absent: exists is False for an image that is not here." in ended.stdout
    assert "assert True is False" in ended.stdout


def test_what_cannot_be_checked_is_said_in_one_line(installed: dict[str, str]) -> None:
    """With a hint, and an exit code of its own."""
    unknown = _check(installed, "nobody")
    absent = _check(installed, "absent")
    no_case = _check(installed, "good", "--case", "engine.nothing")

    assert (3, 3, 2) == (unknown.returncode, absent.returncode, no_case.returncode)
    assert "error: no runtime is installed under the name 'nobody'" in unknown.stderr
    assert "error: runtime absent cannot be used: it is not running\nhint: Start it.\n" == absent.stderr
    assert "error: there is no case engine.nothing\n" == no_case.stderr


def test_settings_of_the_place_do_not_matter(installed: dict[str, str], tmp_path: Path) -> None:
    """What is checked is the runtime, wherever that is done."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n", encoding="ascii")
    (place / "conftest.py").write_text("raise SystemExit('the conftest of the place was loaded')\n", encoding="ascii")
    command = [sys.executable, "-m", "oubliette_core.testing", "good", "--case", "engine.probe"]
    environment = {**installed, "PYTEST_ADDOPTS": "--no-such-option"}
    ended = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)

    assert (0, "") == (ended.returncode, ended.stderr)


def test_a_program_can_run_the_kit(tmp_path: Path) -> None:
    """It is told of each case as it ends."""
    engine = FakeEngine()
    busybox = pretended_busybox(tmp_path)

    class Fixtures:
        @pytest.fixture(scope="class")
        def kit_busybox(self) -> Path:
            return busybox

    told: list[CaseReport] = []
    report = run_kit(fake_maker(engine), cases=["list"], fixtures=Fixtures(), told=told.append)
    engine.shut_down()

    assert () == report.failed
    assert [case.behaviour.id for case in report.cases] == [case.behaviour.id for case in told]
    assert {one.id for one in behaviours() if one.id.startswith("list.")} == {case.behaviour.id for case in told}


def test_one_line_in_a_conftest_runs_the_kit_beside_other_tests(installed: dict[str, str], tmp_path: Path) -> None:
    """The runtime is chosen on the command line; in parallel, too."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "conftest.py").write_text('pytest_plugins = ["oubliette_core.testing.plugin"]\n', encoding="ascii")
    (place / "test_own.py").write_text("def test_engine_of_mine():\n    pass\n", encoding="ascii")
    options = ["--oubliette-runtime=good", "--oubliette-report=report.json", "-k", "test_engine", "-n", "2"]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir=.", *options, "."]
    ended = subprocess.run(command, env=installed, cwd=place, capture_output=True, text=True, check=False)
    report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    cases = len(report["cases"])

    assert 0 == ended.returncode, ended.stdout
    assert f"{cases + 1} passed" in ended.stdout
    assert ("good", {"passed": cases}) == (report["runtime"], report["summary"])
