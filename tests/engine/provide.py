"""Finding or starting an engine and a registry, and the handle through which tests hold them."""

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.engine import dockerhttp, host
from tests.engine.order import Order
from tests.engine.packages import (
    ENGINE_PACKAGES,
    REGISTRY_PACKAGES,
    PackagesUnavailableError,
    Programs,
    apt_is_here,
    unpacked,
)

_DEFAULT_SOCKET = "unix:///var/run/docker.sock"
_REPOSITORY = Path(__file__).resolve().parents[2]
_BY_HAND = (
    "Start a Docker Engine and try again, or name one:\n"
    "  export OUBLIETTE_TEST_ENGINE=unix:///path/docker.sock OUBLIETTE_TEST_REGISTRY=127.0.0.1:5000"
)


class EngineUnavailableError(Exception):
    """No engine can be had here; the message says what is missing and what to type."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine and a registry that run. The methods work on private engines only."""

    docker_host: str
    registry: str
    docker_cli: Path | None
    busybox: Path | None
    keeper: subprocess.Popen[str] | None = None

    @property
    def is_private(self) -> bool:
        """Tell whether the engine is ours to kill."""
        return self.keeper is not None

    def environment(self) -> dict[str, str]:
        """Give the variables that lead other programs, and `running_engine` in them, to this engine."""
        env = {
            "DOCKER_HOST": self.docker_host,
            "OUBLIETTE_TEST_ENGINE": self.docker_host,
            "OUBLIETTE_TEST_REGISTRY": self.registry,
        }
        if self.busybox:
            env["OUBLIETTE_TEST_BUSYBOX"] = str(self.busybox)
        return env

    def kill(self) -> None:
        """Kill the daemon with SIGKILL. Its containers live on."""
        self._order("kill")

    def restart(self) -> None:
        """Start the daemon again, after stopping it if it runs, and return when it answers."""
        self._order("restart")

    def pause(self) -> None:
        """Freeze the daemon with SIGSTOP."""
        self._order("pause")

    def resume(self) -> None:
        """Let a frozen daemon go on."""
        self._order("resume")

    def _order(self, word: str) -> None:
        if self.keeper is None or self.keeper.stdin is None:
            raise EngineUnavailableError(f"{self.docker_host} is not ours to {word}: ask for a private engine")
        self.keeper.stdin.write(f"{word}\n")
        self.keeper.stdin.flush()
        answer_of(self.keeper)


@contextlib.contextmanager
def running_engine() -> Iterator[Engine]:
    """Give an engine and a registry that answer, and end those of them that had to be started.

    `OUBLIETTE_TEST_ENGINE=private` passes over an engine that is reachable. Raises `EngineUnavailableError`.
    """
    given = os.environ.get("OUBLIETTE_TEST_ENGINE")
    if given and given != "private":
        yield _given_engine(given, os.environ.get("OUBLIETTE_TEST_REGISTRY"))
        return
    found = None if given else reachable_engine()
    if found is None:
        with private_engine() as engine:
            yield engine
    else:
        with _beside(found) as engine:
            yield engine


@contextlib.contextmanager
def private_engine(arguments: Sequence[str] = (), data_mb: int | None = None) -> Iterator[Engine]:
    """Give an engine and a registry of our own, which may be killed, and end them.

    `arguments` go to dockerd; `data_mb` puts its storage on a file system of that many MiB.
    Raises `EngineUnavailableError` where none can be started.
    """
    programs = engine_programs()
    host.sweep(programs)
    order = Order(root=str(programs.root), state=str(host.new_state_dir()), arguments=tuple(arguments), data_mb=data_mb)
    with _kept(order) as (keeper, ready):
        yield engine_from(ready["docker_host"], ready["registry"], programs, keeper)


def engine_programs() -> Programs:
    """Give the programs of a private engine. Raises `EngineUnavailableError` with all that is missing for one."""
    missing = []
    if not sys.platform.startswith("linux"):
        missing.append("this is not Linux")
    elif os.geteuid() != 0:
        missing.append("this is not root (try: sudo -E)")
    if not apt_is_here():
        missing.append("this is not Debian or Ubuntu (no apt-get)")
    if not shutil.which("setpriv"):
        missing.append("no setpriv (util-linux)")
    if missing:
        why = "; ".join(missing)
        raise EngineUnavailableError(f"No Docker Engine answers, and none can be started here: {why}.\n{_BY_HAND}")
    try:
        return unpacked(ENGINE_PACKAGES)
    except (PackagesUnavailableError, OSError) as error:
        raise EngineUnavailableError(
            f"No Docker Engine answers, and its packages cannot be had: {error}\n{_BY_HAND}"
        ) from error


def reachable_engine() -> str | None:
    """Give the address of the engine that the docker CLI would use, when it answers."""
    candidate = os.environ.get("DOCKER_HOST") or _context_host() or _DEFAULT_SOCKET
    return candidate if _answers(candidate) else None


def _context_host() -> str | None:
    docker = shutil.which("docker")
    if docker is None:
        return None
    command = [docker, "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or None


def _answers(docker_host: str) -> bool:
    try:
        dockerhttp.docker_json(docker_host, "/version", timeout=5)
    except (OSError, ValueError):
        return False
    return True


def _given_engine(docker_host: str, registry: str | None) -> Engine:
    if not _answers(docker_host):
        raise EngineUnavailableError(f"OUBLIETTE_TEST_ENGINE={docker_host}: no Docker Engine answers there.")
    if not registry or not dockerhttp.registry_answers(registry):
        raise EngineUnavailableError(
            f"OUBLIETTE_TEST_REGISTRY={registry or ''}: no registry answers there.\n"
            "Type: docker run -d -p 127.0.0.1:5000:5000 registry:2; export OUBLIETTE_TEST_REGISTRY=127.0.0.1:5000"
        )
    return engine_from(docker_host, registry, Programs(root=None))


@contextlib.contextmanager
def _beside(docker_host: str) -> Iterator[Engine]:
    """Start a registry for an engine that runs already."""
    programs = Programs(root=None)
    if programs.find("docker-registry") is None and apt_is_here():
        with contextlib.suppress(PackagesUnavailableError, OSError):  # then the keeper takes our own registry
            programs = unpacked(REGISTRY_PACKAGES)
    root = str(programs.root) if programs.root else None
    with _kept(Order(root=root, state=str(host.new_state_dir()), engine=False)) as (_keeper, ready):
        yield engine_from(docker_host, ready["registry"], programs)


def engine_from(
    docker_host: str, registry: str, programs: Programs, keeper: subprocess.Popen[str] | None = None
) -> Engine:
    """Give the handle of an engine and a registry that run, completed by the programs found for them."""
    docker = shutil.which("docker") or programs.find("docker")
    return Engine(
        docker_host=docker_host,
        registry=registry,
        docker_cli=Path(docker) if docker else None,
        busybox=_busybox(programs),
        keeper=keeper,
    )


def _busybox(programs: Programs) -> Path | None:
    given = os.environ.get("OUBLIETTE_TEST_BUSYBOX")
    return Path(given) if given else programs.find("busybox")


@contextlib.contextmanager
def _kept(order: Order) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    keeper = start_keeper(order)
    try:
        try:
            ready = answer_of(keeper)
        except EngineUnavailableError as error:
            raise EngineUnavailableError(f"{error}\n{_BY_HAND}") from error
        yield keeper, ready
    finally:
        keeper.communicate()  # closes its input, which is the order to end, and waits


def start_keeper(order: Order) -> subprocess.Popen[str]:
    """Start the process that starts, and later ends, what the order names."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.engine.keeper", order.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A detached one must not keep a pipe open that somebody reads to its end.
        stderr=subprocess.DEVNULL if order.detached else None,
        text=True,
        cwd=_REPOSITORY,
        start_new_session=True,
    )


def answer_of(keeper: subprocess.Popen[str]) -> dict[str, Any]:
    """Give the keeper's answer to the order or to the word before. Raises `EngineUnavailableError` when it failed."""
    assert keeper.stdout is not None
    line = keeper.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "its keeper ended without a word"}
    if answer.get("error"):
        raise EngineUnavailableError(f"The private engine failed: {answer['error']}")
    return answer
