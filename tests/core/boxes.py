"""Containers in which the scripts of `oubliette_core.guest` are tried, by the engine's HTTP API alone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from oubliette_core.guest import Mark, Marks, Verdict, kill_tree, kill_trees, supervised
from oubliette_core.testing.images import File, build_image, files_layer
from tests.engine import Engine
from tests.engine.dockerhttp import docker_request
from tests.harness.raw import call
from tests.images import ImageMaker, PushedImage

KEPT_BY_OUBLIETTE = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")


def _libraries(program: str) -> list[Path]:
    listing = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [Path(path) for path in re.findall(r"(?:=> )?(/\S+) \(0x", listing)]


def shell_files(name: str) -> dict[str, File]:
    """Give the files that make a shell of this machine the ``/bin/sh`` of an image."""
    program = shutil.which(name)
    assert program is not None
    files = {"/bin/sh": File(content=Path(program).read_bytes(), mode=0o755)}
    for library in _libraries(program):
        for parent in reversed(library.parents[:-1]):
            files.setdefault(str(parent), File(mode=0o755))
        files[str(library)] = File(content=library.read_bytes(), mode=0o755)
    return files


SHELLS = ["busybox", *(name for name in ("dash", "bash") if shutil.which(name) and shutil.which("ldd"))]
"""The shells to try: busybox's own, and those that this machine has."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command said and how it ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Box:
    """A running container.

    Without `privileges`, its processes have the capabilities that Oubliette leaves to a container and no others.
    """

    def __init__(self, engine: Engine, image: str, host: dict[str, Any], **settings: Any) -> None:
        limits = {"CapDrop": ["ALL"], "CapAdd": list(KEPT_BY_OUBLIETTE), "PidsLimit": 512, "NetworkMode": "none"}
        spec = {"Image": image, "HostConfig": {"Init": True, **limits, **host}, **settings}
        self._host = engine.docker_host
        self._engine = engine
        self.id = call(engine, "POST", "/containers/create", spec)["Id"]
        self.marks = Marks()
        self._made: dict[str, float] = {}

    def start(self) -> None:
        """Start it."""
        call(self._engine, "POST", f"/containers/{self.id}/start")

    def stop(self) -> None:
        """Stop it, with ten seconds of grace."""
        call(self._engine, "POST", f"/containers/{self.id}/stop?t=10")

    def exit_code(self) -> int:
        """Give the exit code of the main process, which has ended."""
        state = call(self._engine, "GET", f"/containers/{self.id}/json")["State"]
        assert not state["Running"]
        return int(state["ExitCode"])

    def is_asleep(self) -> bool:
        """Tell whether the main process waits, and has no child that is about to end."""
        script = """
            for file in /proc/[0-9]*/stat; do
                read -r line <$file; rest=${line##*) }; pid=${line%% *}
                [ "$pid" = $$ ] || case $rest in S*) ;; *) exit 1 ;; esac
            done
        """
        return self.run("/bin/sh", "-c", script).code == 0

    def processor_time(self) -> int:
        """Give the nanoseconds of processor time that the main process and its children have used."""
        script = """
            sum=0
            for file in /proc/[0-9]*/schedstat; do
                pid=${file#/proc/}; read -r used rest <$file; [ "${pid%%/*}" = $$ ] || sum=$((sum + used))
            done
            echo $sum
        """
        return int(self.run("/bin/sh", "-c", script).stdout)

    def remove(self) -> None:
        """Remove it with all that runs in it."""
        call(self._engine, "DELETE", f"/containers/{self.id}?force=1")

    def _create(self, argv: tuple[str, ...], user: str, env: dict[str, str]) -> str:
        spec = {"Cmd": argv, "User": user, "Env": [f"{name}={value}" for name, value in env.items()]}
        path = f"/containers/{self.id}/exec"
        return str(call(self._engine, "POST", path, {**spec, "AttachStdout": True, "AttachStderr": True})["Id"])

    def run(self, *argv: str, user: str = "", env: dict[str, str] | None = None) -> Answer:
        """Run a command to its end."""
        identity = self._create(argv, user, env or {})
        status, output = docker_request(self._host, "POST", f"/exec/{identity}/start", {"Detach": False})
        assert status == 200, output
        streams = {1: b"", 2: b""}
        while output:
            end = 8 + int.from_bytes(output[4:8], "big")
            streams[output[0]] += output[8:end]
            output = output[end:]
        code = call(self._engine, "GET", f"/exec/{identity}/json")["ExitCode"]
        return Answer(code=code, stdout=streams[1], stderr=streams[2])

    def spawn(self, *argv: str, user: str = "", env: dict[str, str] | None = None) -> str:
        """Start a command and leave it alone; gives its exec id."""
        identity = self._create(argv, user, env or {})
        call(self._engine, "POST", f"/exec/{identity}/start", {"Detach": True})
        return identity

    def has_ended(self, identity: str) -> bool:
        """Tell whether the engine has seen the end of a command."""
        state = call(self._engine, "GET", f"/exec/{identity}/json")
        return not state["Running"] and state["ExitCode"] is not None

    def spawn_marked(self, *argv: str, user: str = "") -> tuple[Mark, str]:
        """Start a command as a backend does; gives its mark and its exec id."""
        mark = self.new_mark()
        return mark, self.spawn(*supervised(argv, mark), user=user, env=mark.variable)

    def new_mark(self) -> Mark:
        """Make a mark whose age is counted from now."""
        mark = self.marks.new()
        self._made[mark.token] = time.monotonic()
        return mark

    def kill(self, mark: Mark, *, user: str = "0:0", **options: bool) -> Verdict:
        """Run the killer, again if the engine was too busy to start it."""
        return self._kill(lambda: kill_tree(mark, self._age(mark), **options), user)

    def kill_together(self, *marks: Mark) -> Verdict:
        """Run the killer for several commands at once."""
        return self._kill(lambda: kill_trees(marks, max(map(self._age, marks))), "0:0")

    def _age(self, mark: Mark) -> float:
        return time.monotonic() - self._made[mark.token]

    def _kill(self, killer: Callable[[], tuple[str, ...]], user: str) -> Verdict:
        while True:
            answer = self.run(*killer(), user=user)
            if b"OCI runtime" not in answer.stdout:
                return Verdict.read(answer.stdout)

    def processes(self, pattern: str) -> list[str]:
        """List the processes whose line of `ps` (state, user, command) matches, zombies included."""
        listing = self.run("/bin/busybox", "ps", "-o", "stat,user,args").stdout.decode(errors="replace")
        return [line for line in listing.splitlines()[1:] if re.search(pattern, line) and "stat,user" not in line]

    def clear(self) -> None:
        """Kill every process called sleep that counts more than a thousand seconds and less than an hour."""
        listing = self.run("/bin/busybox", "ps", "-o", "pid,args").stdout.decode(errors="replace")
        pids = re.findall(r"^ *(\d+) \S*sleep 1\d\d\d$", listing, re.MULTILINE)
        if pids:
            self.run("kill", "-9", *pids)
            until(lambda: not self.living(r"sleep 1\d\d\d$"))

    def living(self, pattern: str) -> list[str]:
        """List those of `processes` that are no zombies."""
        return [line for line in self.processes(pattern) if not line.startswith("Z")]

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Wait until so many processes match."""
        until(lambda: len(self.processes(pattern)) >= count)


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds that nobody announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.02)


class Boxes:
    """Makes boxes, with images of its own, and removes them."""

    def __init__(self, engine: Engine, busybox: Path) -> None:
        self._engine = engine
        self._maker = ImageMaker(engine, busybox)
        self._images: dict[str, str] = {}
        self._made: list[Box] = []

    def image(self, shell: str, **settings: Any) -> str:
        """Make an image whose `/bin/sh` is the shell named, and give its reference."""
        key = json.dumps([shell, sorted(settings)], default=str)
        if key not in self._images:
            files = {} if shell == "busybox" else shell_files(shell)
            made = self._maker.push(
                f"guest{len(self._images)}", files={**files, **settings.pop("files", {})}, **settings
            )
            self._images[key] = self._pulled(made)
        return self._images[key]

    def bare_image(self, files: dict[str, File]) -> str:
        """Make an image of these files only, and give its reference."""
        image = build_image(files_layer({**files, "/proc": File(mode=0o755), "/dev": File(mode=0o755)}))
        return self._pulled(self._maker.push_made(image, "bare"))

    def _pulled(self, made: PushedImage) -> str:
        name, _, tag = made.reference.rpartition(":")
        status, said = docker_request(self._engine.docker_host, "POST", f"/images/create?fromImage={name}&tag={tag}")
        assert status == 200, said
        return made.reference

    @contextlib.contextmanager
    def box(self, image: str, host: dict[str, Any] | None = None, **settings: Any) -> Iterator[Box]:
        """Give a running container with `host` and `settings` of the engine's API."""
        box = Box(self._engine, image, host or {}, **settings)
        try:
            box.start()
            yield box
        finally:
            box.remove()

    def close(self) -> None:
        """Remove the images."""
        self._maker.close()
