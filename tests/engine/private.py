"""A Docker Engine and a registry of our own.

The engine lives in a PID namespace and a mount namespace: killing the namespace's first process kills the daemon,
containerd, every shim and every container in one stroke, and every mount goes with them. It shares the host's
network namespace, because it must reach registries that tests open on the host's loopback. It changes neither
iptables nor sysctls and has a bridge of its own, so that it can stand beside an engine of the host.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.engine import dockerhttp
from tests.engine.host import MOUNT_POINTS, Footprint, end_process
from tests.engine.packages import Programs

_START_TIMEOUT = 60.0
_INIT = "docker-init"
_CORE = Path(__file__).resolve().parents[2] / "oubliette_core" / "src"
_INSIDE = """
set -e
[ -z "$3" ] || mount -t tmpfs -o "size=$3m" data "$2/data"
for place in $4; do mount -t tmpfs own "$place"; done
exec "$1" -- sleep infinity
"""


class StartError(Exception):
    """The private engine or registry did not start; the message carries its last words."""


class PrivateRegistry:
    """A registry on a loopback port: `docker-registry` where there is one, else the one that tests are given."""

    def __init__(self, programs: Programs, state: Path, port: int = 0) -> None:
        self._programs = programs
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        self._port = port or _free_port()
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and return when it answers. Raises `StartError`."""
        log = self._state / "registry.log"
        program = self._programs.find("docker-registry")
        env = self._programs.environment()
        if program is None:
            env["PYTHONPATH"] = str(_CORE)
            command = [sys.executable, "-m", "oubliette_core.testing.registry", str(self._port)]
        else:
            command = [str(program), "serve", str(self._configure())]
        self._process = _spawn(command, log, env)
        _wait_until(lambda: dockerhttp.registry_answers(self.address), self._process, log, "The private registry")

    def _configure(self) -> Path:
        storage = self._state / "registry"
        storage.mkdir()
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
            "http": {"addr": self.address},
        }
        config = self._state / "registry.json"  # the configuration is YAML, of which JSON is a subset
        config.write_text(json.dumps(settings), encoding="utf-8")
        return config

    def stop(self) -> None:
        """Stop it; once stopped, do nothing."""
        _end(self._process)


class PrivateEngine:
    """`dockerd` with storage, bridge and cgroups of its own, listening on docker.sock in the state directory.

    `arguments` are passed on to it; `data_mb` puts its storage on a tmpfs of that many MiB.
    """

    def __init__(
        self,
        programs: Programs,
        footprint: Footprint,
        *,
        arguments: Sequence[str] = (),
        data_mb: int | None = None,
    ) -> None:
        self._programs = programs
        self._footprint = footprint
        self._state = footprint.state
        self._arguments = arguments
        self._data_mb = data_mb
        self._space: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None
        self._init = 0
        self.docker_host = f"unix://{self._state}/docker.sock"

    def start(self) -> None:
        """Start it and return when it answers. Raises `StartError` or `NoNetworkError`."""
        for part in ("data", "exec", "home"):
            (self._state / part).mkdir()
        (self._state / "daemon.json").write_text("{}", encoding="ascii")
        self._footprint.make(self._programs)
        self._open_namespaces()
        self._start_daemon()

    def _open_namespaces(self) -> None:
        init = _required(self._programs, _INIT)
        places = " ".join(map(str, MOUNT_POINTS))
        inside = ["sh", "-c", _INSIDE, "sh", init, str(self._state), str(self._data_mb or ""), places]
        namespaces = ["--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "slave"]
        log = self._state / "namespaces.log"
        self._space = _spawn(["unshare", *namespaces, "--", *inside], log, self._programs.environment())
        _wait_until(self._init_runs, self._space, log, "The private engine's namespace")

    def _init_runs(self) -> bool:
        assert self._space is not None
        listing = Path(f"/proc/{self._space.pid}/task/{self._space.pid}/children")
        with contextlib.suppress(OSError, IndexError):
            self._init = int(listing.read_text(encoding="ascii").split()[0])
            return _name(self._init) == _INIT
        return False

    def _start_daemon(self) -> None:
        command = ["nsenter", "-t", str(self._init), "-p", "-m", "--", *self._command()]
        env = {**self._programs.environment(), "HOME": f"{self._state}/home"}
        log = self._state / "dockerd.log"
        self._daemon = _spawn(command, log, env)
        _wait_until(self._answers, self._daemon, log, "The private dockerd")

    def _command(self) -> list[str]:
        state = self._state
        return [
            _required(self._programs, "dockerd"),
            f"--host={self.docker_host}",
            f"--config-file={state}/daemon.json",
            f"--data-root={state}/data",
            f"--exec-root={state}/exec",
            f"--pidfile={state}/dockerd.pid",
            f"--bridge={self._footprint.bridge}",
            f"--default-address-pool=base={self._footprint.pool},size=24",
            f"--cgroup-parent=/{self._footprint.bridge}",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            "--iptables=false",
            "--ip6tables=false",
            "--ip-forward=false",
            "--ip-masq=false",
            *self._unadjusted(),
            "--max-download-attempts=1",
            "--log-level=warn",
            *self._arguments,
        ]

    def _unadjusted(self) -> list[str]:
        """Keep dockerd from lowering its OOM score, a privilege that root may lack; newer ones do not try."""
        option = "--oom-score-adjust"
        asked = [_required(self._programs, "dockerd"), "--help"]
        told = subprocess.run(asked, capture_output=True, text=True, env=self._programs.environment(), check=False)
        return [f"{option}=0"] if option in told.stdout else []

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            dockerhttp.docker_json(self.docker_host, "/version", timeout=5)
            return True
        return False

    def pause(self) -> None:
        """Freeze the daemon: it accepts connections and answers nothing."""
        self._signal("dockerd", signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen daemon go on."""
        self._signal("dockerd", signal.SIGCONT)
        if self._daemon is not None:
            self._daemon.send_signal(signal.SIGCONT)  # nsenter stops itself along with its child

    def kill(self) -> None:
        """Kill the daemon with SIGKILL; containers, shims and containerd live on, as they would anywhere."""
        self._signal("dockerd", signal.SIGKILL)
        self.resume()
        if self._daemon is not None:
            self._daemon.wait()

    def restart(self) -> None:
        """Stop the daemon, unless it is dead already, and start it again. Raises `StartError`."""
        self._signal("dockerd", signal.SIGTERM)
        self.resume()
        if self._daemon is not None:
            self._daemon.wait()
        self._signal("containerd", signal.SIGKILL)  # that of a killed daemon blocks the start of the next
        for name in ("dockerd.pid", "docker.sock", "exec/containerd/containerd.pid"):
            (self._state / name).unlink(missing_ok=True)
        self._start_daemon()

    def _signal(self, name: str, number: signal.Signals) -> None:
        for pid in processes_beside(self._init):
            if _name(pid) == name:
                os.kill(pid, number)

    def stop(self) -> None:
        """Kill everything inside the namespaces; once stopped, do nothing."""
        _end(self._daemon)  # first: the namespace does not end before its daemon's parent outside has
        if self._init:
            end_process(self._init, signal.SIGKILL)  # the kernel lets it end after all the others
            self._init = 0
        _end(self._space)


def processes_beside(pid: int) -> list[int]:
    """Give the processes that are in the same PID namespace as `pid`, containers' own namespaces left out."""
    wanted = _namespace(pid)
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [candidate for candidate in found if wanted and _namespace(candidate) == wanted]


def _namespace(pid: int) -> str:
    with contextlib.suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return ""


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip()
    return ""


def _required(programs: Programs, name: str) -> str:
    found = programs.find(name)
    if found is None:
        raise StartError(f"the program {name} was not found")
    return str(found)


def _spawn(command: list[str], log: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    if shutil.which("setpriv"):  # the keeper's death is theirs, however it dies; elsewhere it must end in order
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    with log.open("ab") as sink:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env)


def _end(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None:
        process.kill()
        process.wait()


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path, what: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT
    while not ready():
        ended = process.poll()
        if ended is not None or time.monotonic() > deadline:
            why = "did not answer in time" if ended is None else f"ended with exit code {ended}"
            last_words = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise StartError(f"{what} {why}. Its last words:\n{last_words}")
        time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
