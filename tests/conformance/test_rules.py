"""A runtime cannot pass by leaving cases out: they are skipped by capabilities, or fail as expected with a reason."""

import json
import subprocess
import sys
from pathlib import Path

HEADER = """
import pytest
from oubliette_core.models import Capability, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.testing.fake import FakeEngine, FakeRuntime
from oubliette_core.testing.fake.images import pretended_busybox
from oubliette_core.testing.kit.engine import EngineCases

ENGINE = FakeEngine(without={Capability.TTY})

@pytest.fixture(scope="class")
def kit_runtime():
    return lambda: build_runtime("fake", FakeRuntime(RuntimeSettings(), ENGINE))

@pytest.fixture(scope="class")
def kit_busybox(tmp_path_factory):
    path = tmp_path_factory.mktemp("busybox") / "busybox"
    path.write_bytes(pretended_busybox())
    return path
"""


def _pytest(folder: Path, tests: str) -> tuple[int, str, dict[str, tuple[str, str]]]:
    """Run tests that somebody else might have written; give exit code, output, and outcome and reason of each case."""
    (folder / "conftest.py").write_text('pytest_plugins = ["oubliette_core.testing.plugin"]\n', encoding="ascii")
    (folder / "test_theirs.py").write_text(HEADER + tests, encoding="ascii")
    report = folder / "report.json"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--oubliette-report={report}"]
    ended = subprocess.run([*command, "-c", "/dev/null", "."], cwd=folder, capture_output=True, text=True, check=False)
    cases = json.loads(report.read_text())["cases"] if report.exists() else []
    return ended.returncode, ended.stdout + ended.stderr, {one["id"]: (one["outcome"], one["reason"]) for one in cases}


def test_replacing_and_marking_cases_is_refused(tmp_path: Path) -> None:
    """Each way of leaving a case out is named, and nothing is run."""
    code, output, cases = _pytest(
        tmp_path,
        """
class TestReplaced(EngineCases):
    def test_engine_probe(self):
        pass

class TestEmptied(EngineCases):
    test_engine_probe = None

class TestNoReason(EngineCases):
    @pytest.mark.xfail(reason="")
    def test_engine_probe(self):
        raise AssertionError

@pytest.mark.skip(reason="no time")
class TestSkipped(EngineCases):
    pass
""",
    )

    assert (4, {}) == (code, cases)
    assert "TestReplaced.test_engine_probe replaces a case and is not marked xfail with a reason" in output
    assert "TestEmptied.test_engine_probe replaces a case" in output
    assert "TestNoReason.test_engine_probe replaces a case" in output
    assert "TestSkipped.test_engine_probe is marked skip: cases are skipped by capabilities only" in output


def test_an_expected_failure_needs_a_reason_and_is_reported(tmp_path: Path) -> None:
    """It is neither passed nor skipped."""
    code, output, cases = _pytest(
        tmp_path,
        """
class TestHonest(EngineCases):
    @pytest.mark.xfail(reason="the engine forgets its version", strict=True)
    def test_engine_probe(self, runtime):
        assert runtime.probe().version == "unknown"
""",
    )

    assert 0 == code, output
    assert ("expected-failure", "the engine forgets its version") == cases["engine.probe"]
    assert ("passed", "") == cases["engine.complete"]


def test_a_skip_from_within_is_a_failure(tmp_path: Path) -> None:
    """Also when a fixture does it."""
    code, _, cases = _pytest(
        tmp_path,
        """
class TestShy(EngineCases):
    @pytest.fixture
    def box(self):
        pytest.skip("not today")
""",
    )

    assert 1 == code
    assert ("failed", "engine.threads was skipped, and not because of a capability") == cases["engine.threads"]
    assert ("passed", "") == cases["engine.probe"]


def test_a_case_is_skipped_when_its_capability_is_not_declared(tmp_path: Path) -> None:
    """The reason names it."""
    code, _, cases = _pytest(
        tmp_path,
        """
from oubliette_core.testing.kit.conversations import TerminalCases

class TestTerminals(TerminalCases):
    pass
""",
    )

    assert 0 == code
    assert ("skipped", "the runtime does not declare tty") == cases["tty.exec"]
    assert ("passed", "") == cases["tty.none"]
