"""A runtime that somebody else wrote: installed beside core alone, found, checked with the kit, and put to work."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.testing.images import busybox_image, find_busybox
from oubliette_core.testing.kit.manifest import behaviours
from oubliette_core.testing.registry import FaultRegistry
from tests.third_party.environments import EXAMPLE, ROOT, Environment, build_wheel
from tests.third_party.podman import PodmanUnavailableError, podman_command

pytestmark = pytest.mark.slow

NAME = "podman-example"
_REPORT = "report.json"
# Where a crowd has to be killed within the two seconds that a deadline gives, Podman's exec, at a tenth of a second or
# more each, may truthfully not have confirmed it on a machine that is busy.
_CROWDS = ("exec.deadline.kills-at-pids-limit", "exec.deadline.kills-fork-storm")
SELECTION = (
    "engine.probe",
    "engine.complete",
    "engine.threads",
    "images.pull",
    "images.cancel",
    "containers.create",
    "containers.create-name-taken",
    "containers.bind",
    "containers.start",
    "containers.start-exits",
    "containers.stop",
    "containers.stop-kills",
    "containers.remove-running",
    "exec.echo",
    "exec.streams-apart",
    "exec.exit-codes",
    "exec.stdin",
    "exec.output",
    *(one.id for one in behaviours() if one.id.startswith("exec.deadline.") and one.id not in _CROWDS),
    "process.half-close",
    "logs.all",
    "list.by-label",
    "list.odd-value",
    "honesty.read-only",
    "honesty.required-refused",
    "defaults",
    "errors",
    "leftovers",
)
"""About a third of the kit, with something of everything; the whole takes minutes."""


@pytest.fixture(scope="module")
def podman() -> Iterator[Path]:
    """The command that the example drives; without it the tests are skipped, and fail in CI."""
    folder = Path(tempfile.mkdtemp(prefix="oub-pod-", dir="/tmp"))
    try:
        with podman_command(folder) as command:
            yield command
    except PodmanUnavailableError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def environment(podman: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Core, what its kit needs, and the example."""
    environment = Environment.create(tmp_path_factory.mktemp("third-party"))
    core = build_wheel(ROOT / "oubliette_core", environment.folder / "core")
    example = build_wheel(EXAMPLE, environment.folder / "example")
    environment.install(f"oubliette-core[testing] @ {core.as_uri()}", example)
    path = f"{podman.parent}{os.pathsep}{environment.environ['PATH']}"
    busybox = str(find_busybox())
    variables = {**environment.environ, "PATH": path, "OUBLIETTE_TEST_BUSYBOX": busybox}
    return Environment(folder=environment.folder, environ=variables)


def _check(environment: Environment, *cases: str, timeout: float) -> dict[str, dict[str, str]]:
    """Run the kit, see that nothing fails, and give what became of each case."""
    report = environment.folder / _REPORT
    words = [word for case in cases for word in ("--case", case)]
    environment.run("oubliette", "runtime", "check", NAME, "--json", str(report), *words, timeout=timeout)
    return {case["id"]: case for case in json.loads(report.read_text())["cases"]}


def _unexplained(cases: dict[str, dict[str, str]]) -> set[str]:
    """Give the cases that neither passed nor were skipped because of a capability."""
    return {
        name
        for name, case in cases.items()
        if case["outcome"] != "passed" and not (case["outcome"] == "skipped" and "does not declare" in case["reason"])
    }


def test_it_is_found_beside_core_alone(environment: Environment) -> None:
    """No other runtime is there, and nothing of the server."""
    installed = environment.distributions()
    listed = environment.runtimes()

    assert {"oubliette-core", "oubliette-podman-example"} == {one for one in installed if one.startswith("oubliette")}
    assert not installed & {"docker", "mcp"}
    assert [(NAME, "oubliette-podman-example 0.1.0")] == list(listed)
    assert ["available"] == [one["state"] for one in listed.values()]


def test_it_uses_public_names_only() -> None:
    """What others can write is what the documented modules allow."""
    allowed = {"errors", "guest", "hookspecs", "models", "reference", "runtime"}
    text = "\n".join(path.read_text() for path in EXAMPLE.rglob("*.py"))
    used = {
        line.split()[1] for line in text.splitlines() if line.startswith(("from oubliette_core", "import oubliette"))
    }

    assert used
    assert used <= {f"oubliette_core.{module}" for module in allowed}


def test_a_command_that_is_not_there_is_told(environment: Environment) -> None:
    """The probe never raises, and says what to install."""
    [listed] = environment.runtimes({"PATH": "/nowhere"}).values()

    assert "unavailable" == listed["state"]
    assert "podman cannot be run" in listed["detail"]
    assert "Install Podman" in listed["hint"]


@pytest.mark.timeout(300)
def test_a_part_of_the_kit(environment: Environment) -> None:
    """Through the command line: what it prints, its report and its exit code are the kit's own."""
    cases = _check(environment, *SELECTION, timeout=280)

    assert len(cases) > 90
    assert set() == _unexplained(cases)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_whole_kit(environment: Environment, pytestconfig: pytest.Config) -> None:
    """Every case passes, or is skipped because of a capability."""
    cases = _check(environment, timeout=1700)
    if wanted := pytestconfig.getoption("oubliette_report"):
        shutil.copy(environment.folder / _REPORT, wanted)

    assert {one.id for one in behaviours()} == set(cases)
    assert set() == _unexplained(cases)


@pytest.mark.timeout(300)
def test_the_main_job(environment: Environment) -> None:
    """A project is made, started, worked in, stopped and deleted, with nothing but ``--runtime``."""
    with FaultRegistry() as registry:
        image = registry.add(busybox_image(find_busybox()), "third-party/base")
        config = environment.folder / "home" / "config" / "oubliette.jsonc"
        environment.run("oubliette", "--runtime", NAME, "init", environ={"OUBLIETTE_DEV": "1"})
        config.write_text(json.dumps({"containers": {"base": image}}))

        def oubliette(*words: str, code: int = 0) -> str:
            return environment.run("oubliette", "--runtime", NAME, *words, code=code)

        oubliette("project", "create", "demo")
        oubliette("container", "start", "demo")
        oubliette("container", "exec", "demo", "--", "sh", "-c", "echo made inside > /workspace/note")
        said = oubliette("container", "exec", "demo", "--", "cat", "/workspace/note")
        oubliette("container", "exec", "demo", "--", "sh", "-c", "exit 7", code=7)
        oubliette("container", "exec", "--timeout", "1", "demo", "--", "sleep", "600", code=124)
        [listed] = json.loads(oubliette("container", "list", "--json"))
        oubliette("container", "stop", "demo")
        oubliette("project", "delete", "demo", "--yes")
        left = environment.run("oubliette", "--runtime", NAME, "container", "list", "--all", "--json")

    assert "made inside\n" == said
    assert "demo" in json.dumps(listed)
    assert [] == json.loads(left)
