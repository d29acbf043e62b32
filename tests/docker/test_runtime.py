"""The plugin is found, loads fast, hands every hook on, and lets nothing foreign out."""

from __future__ import annotations

import subprocess
import sys
import threading
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from oubliette_core.errors import ConfigError, RuntimeUnavailableError
from oubliette_core.hookspecs import API_VERSION, CORE_HOOKS, OPTIONAL_HOOKS, SERVER_HOOKS
from oubliette_core.models import RuntimeSettings
from oubliette_core.plugins import RuntimeCatalogue
from oubliette_core.runtime import Runtime
from oubliette_docker import DockerRuntime
from tests.docker.conftest import runtime_on
from tests.engine import Engine


def run_isolated(program: str, **environment: str) -> list[str]:
    """Run a program in a fresh interpreter, and return the words that it prints."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.split()


LOADED = "print(*{name.partition('.')[0] for name in sys.modules})"


def test_importing_the_runtime_loads_no_sdk() -> None:
    """docker-py costs more than most commands take in all."""
    loaded = run_isolated(f"import sys, oubliette_docker; {LOADED}")

    assert "oubliette_docker" in loaded
    assert not {"docker", "requests", "urllib3", "ssl_match_hostname"} & set(loaded)


def test_the_usual_calls_load_no_sdk(engine: Engine) -> None:
    """Probe, capabilities, list, inspect and a look for an image work without docker-py."""
    program = f"""
import sys
from oubliette_core.errors import OublietteError
from oubliette_core.plugins import RuntimeCatalogue
with RuntimeCatalogue().load("docker") as runtime:
    assert runtime.probe().available
    runtime.capabilities(), runtime.list_containers(), runtime.exists("oubliette-test-absent:latest")
    try:
        runtime.inspect("oubliette-test-absent")
    except OublietteError:
        pass
{LOADED}"""
    loaded = run_isolated(program, DOCKER_HOST=engine.docker_host)

    assert "oubliette_docker" in loaded
    assert not {"docker", "requests", "urllib3"} & set(loaded)


def test_the_runtime_is_found_by_its_entry_point() -> None:
    """As anyone's own runtime is."""
    (found,) = [entry for entry in entry_points(group="oubliette.runtimes") if entry.name == "docker"]

    assert DockerRuntime is found.load()
    assert API_VERSION == DockerRuntime.api_version
    assert "docker" in RuntimeCatalogue().names()


def test_every_hook_is_implemented(runtime: Runtime) -> None:
    """The server needs them all, and each capability has its hook."""
    assert frozenset() == runtime.missing_hooks
    assert SERVER_HOOKS | CORE_HOOKS | set(OPTIONAL_HOOKS) <= {
        name for name in dir(DockerRuntime) if hasattr(getattr(DockerRuntime, name), "oubliette_impl")
    }


def test_wrong_options_are_refused_at_construction() -> None:
    """With their paths, before anything is connected to."""
    with pytest.raises(ConfigError) as caught:
        DockerRuntime(RuntimeSettings(options={"hots": "x"}))

    assert ("runtimes.docker.hots: unknown key; did you mean host?",) == caught.value.problems


def test_constructing_looks_for_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that is only listed must not fail for a context that is gone; its probe tells."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")
    with RuntimeCatalogue().load("docker") as runtime:
        probe = runtime.probe()
        with pytest.raises(RuntimeUnavailableError):
            runtime.list_containers()

    assert (False, True) == (probe.available, "no docker context 'gone'" in probe.detail)
    assert "docker context ls" in probe.hint


def test_close_lets_go_of_everything(engine: Engine) -> None:
    """Sockets and threads; closing again is nothing, and a later call opens what it needs."""
    threads = threading.active_count()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    runtime = runtime_on(engine.docker_host)
    for _ in range(50):
        runtime.list_containers()
        runtime.close()
    runtime.close()

    assert (threads, before) == (threading.active_count(), sum(1 for _ in Path("/proc/self/fd").iterdir()))
    assert runtime.capabilities()
    runtime.close()


def test_an_engine_that_comes_back_is_used_again(tmp_path: Path, engine: Engine) -> None:
    """What was unavailable is not so for ever, without a new runtime."""
    path = tmp_path / "engine.sock"
    with runtime_on(f"unix://{path}") as runtime:
        before = runtime.probe().available
        path.symlink_to(engine.docker_host.removeprefix("unix://"))
        after = runtime.probe().available

    assert (False, True) == (before, after)
