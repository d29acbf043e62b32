"""An emulated `container` command, put where a test can run it."""

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.apple.emulator.context import SPACE
from tests.apple.emulator.files import write
from tests.apple.emulator.profiles import VERSIONS
from tests.apple.emulator.state import State
from tests.engine.dockerhttp import docker_request

PROFILES = tuple(VERSIONS)
ROOT = Path(__file__).parents[2]
_CLIENT = Path(__file__).parent / "emulator" / "client.py"
_LAUNCHER = """#!/bin/sh
exec {python} -I -S {client} {socket} "$@"
"""
_SERVER = """import socket, sys
sys.path.insert(0, sys.argv[1])
from tests.apple.emulator.server import serve
serve(sys.argv[2], socket.socket(fileno=int(sys.argv[3])))
"""


class Emulator:
    """One emulated machine: a folder with its state, and `bin` with the command.

    :param engine: address of the engine that runs its containers.
    """

    def __init__(self, folder: Path, engine: str, profile: str = "1.2") -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.command = self.bin / "container"
        self.space = uuid.uuid4().hex[:10]
        self._engine = engine
        self.bin.mkdir(parents=True)
        self._settings: dict[str, Any] = {}
        self.configure(profile=profile, engine=engine, space=self.space, retry=0.1)
        self._sockets = tempfile.TemporaryDirectory(prefix="container-")  # a short path, and nobody else's
        address = f"{self._sockets.name}/calls"
        self._server = _serve(folder, address)
        words = {"python": sys.executable, "client": str(_CLIENT), "socket": address}
        self.command.write_text(_LAUNCHER.format(**{key: shlex.quote(word) for key, word in words.items()}))
        self.command.chmod(0o755)

    def configure(self, **settings: Any) -> None:
        """Change settings of later calls (see `tests.apple.emulator.settings.Settings`)."""
        self._settings |= settings
        write(self.folder / "settings.json", self._settings)

    @property
    def profile(self) -> str:
        """The version that is emulated."""
        return str(self._settings["profile"])

    def fault(self, **faults: Any) -> None:
        """Have later calls fail, instead of the way they failed before; ``hang="list"`` and so on, or by name."""
        given = {name.replace("_", "-"): value for name, value in faults.items()}
        if "hang" in given:
            points = given.pop("hang")
            given |= {f"hang:{point}": True for point in ([points] if isinstance(points, str) else points)}
        write(self.folder / "faults.json", given)

    def service(self, *, up: bool = True, kernel: bool = True) -> None:
        """Set whether the service runs, and whether there is a kernel."""
        with State(self.folder).change() as data:
            data["up"], data["kernel"] = up, kernel

    def calls(self) -> list[dict[str, Any]]:
        """Return what was recorded of each call: ``argv`` and ``env``."""
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def argv(self, word: str) -> list[list[str]]:
        """Return the arguments of each call of one command."""
        return [call["argv"] for call in self.calls() if call["argv"][:1] == [word]]

    def processes(self) -> list[int]:
        """Return the process ids of the calls that are being carried out."""
        server = self._server.pid
        return [int(word) for word in Path(f"/proc/{server}/task/{server}/children").read_text().split()]

    def run(
        self, *arguments: str, stdin: bytes | None = None, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[bytes]:
        """Call the command, without a terminal, and return how it ended."""
        return subprocess.run(
            [str(self.command), *arguments],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            env={**os.environ, **(env or {})},
            timeout=timeout,
            check=False,
        )

    def popen(self, *arguments: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start the command with pipes."""
        given = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **settings}
        return subprocess.Popen([str(self.command), *arguments], **given)

    def close(self) -> None:
        """End the calls that still run, and remove from the engine what was made in it."""
        self._server.communicate()
        self._sockets.cleanup()
        mine = quote(json.dumps({"label": [f"{SPACE}={self.space}"]}))
        for container in self._listed(f"/containers/json?all=1&filters={mine}"):
            self._delete(f"/containers/{container['Id']}?force=1&v=1")
        for network in self._listed(f"/networks?filters={mine}"):
            self._delete(f"/networks/{network['Id']}")
        for volume in self._listed(f"/volumes?filters={mine}")["Volumes"] or ():
            self._delete(f"/volumes/{volume['Name']}?force=1")
        for kind in ("image", "base", "built"):
            named = quote(json.dumps({"reference": [f"emulator-{self.space}-{kind}"]}))
            for image in self._listed(f"/images/json?filters={named}"):
                for tag in image["RepoTags"]:
                    self._delete(f"/images/{tag}?force=1")

    def _listed(self, path: str) -> Any:
        return json.loads(docker_request(self._engine, "GET", path)[1])

    def _delete(self, path: str) -> None:
        docker_request(self._engine, "DELETE", path)


def _serve(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """Start the process that carries out the calls; it can be called from the moment of its start."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(128)
        number = listener.fileno()
        words = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _SERVER, str(ROOT), str(folder), str(number)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=[number], start_new_session=True)


@contextlib.contextmanager
def installed(folder: Path, engine: str, profile: str = "1.2") -> Iterator[Emulator]:
    """Install an emulator for as long as the block runs."""
    with contextlib.closing(Emulator(folder, engine, profile)) as emulator:
        yield emulator
