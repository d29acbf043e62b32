"""`run`, `start` and `exec`: the commands that can be attached to a process."""

import contextlib
import io
import os
import socket
import tarfile
import time
from typing import Any

from tests.apple.emulator import specs
from tests.apple.emulator.context import Context, quote
from tests.apple.emulator.creating import make
from tests.apple.emulator.failures import Failure, interrupted
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.images import shows_progress
from tests.apple.emulator.lifecycle import boot, remove
from tests.apple.emulator.progress import Progress
from tests.apple.emulator.state import Record, new_id
from tests.apple.emulator.streams import Relay, Signals

_SHELLS = ("sh", "ash", "bash", "dash")
_BOOTING = ("Fetching image", "Unpacking image", "Fetching kernel", "Fetching init image", "Unpacking init image")
_MARK = "CONTAINER_EMULATOR_EXEC"
_KILLED = (137, 143)


def run(context: Context, parsed: Parsed) -> int:
    """`run`: create, start, and unless detached stay attached to the end."""
    specs.check(parsed)
    name = parsed.text("name")
    context.state.require_service()
    if name and context.container(name):
        raise Failure("exists", f"container with id {name} already exists")
    if not parsed.flag("detach"):
        _need_terminal(parsed, "failed to run container")
    progress = Progress(6, quiet=not shows_progress(context, parsed))
    made = make(context, parsed, progress)
    try:
        for title in _BOOTING[2 if progress.begun else 0 :]:
            progress.step(title)
        progress.step("Starting container")
        stream = boot(context, made, keep_stdin=not parsed.flag("detach"))
    except Failure:
        with contextlib.suppress(Failure, EngineError):
            remove(context, made)
        raise
    if stream is None:
        context.out(made)
        return 0
    return _attached(context, made, stream, stdin=parsed.flag("interactive"), escape=True)


def _need_terminal(parsed: Parsed, words: str) -> None:
    if parsed.flag("interactive") and parsed.flag("tty") and not os.isatty(0):
        cause = Failure("unknown", "The operation couldn\u2019t be completed. Inappropriate ioctl for device")
        raise Failure("internalError", words, cause)


def start(context: Context, parsed: Parsed) -> int:
    """`start`: detached unless asked otherwise."""
    name = parsed.words[0]
    record = _found(context, name)
    attach = parsed.flag("attach") or parsed.flag("interactive")
    if record["state"] == "running":
        if attach:
            raise Failure("invalidState", "attach is currently unsupported on already running containers")
        context.out(name)
        return 0
    stream = boot(context, name, keep_stdin=attach)
    if stream is None:
        context.out(name)
        return 0
    return _attached(context, name, stream, stdin=parsed.flag("interactive"), escape=False)


def _found(context: Context, name: str) -> Record:
    try:
        record = context.container(name)
    except Failure as failure:
        raise Failure("internalError", "failed to list containers", failure) from None
    if record is None:
        raise Failure("notFound", f"get failed: container {name} not found")
    return record


def _attached(context: Context, name: str, stream: socket.socket, *, stdin: bool, escape: bool) -> int:
    path = f"/containers/{context.engine_name(name)}"
    terminal = bool(context.state.containers()[name]["configuration"]["initProcess"]["terminal"])

    def forward(number: int) -> None:
        context.engine.call("POST", f"{path}/kill?signal={number}")

    def ended() -> bool:
        return not context.engine.call("GET", f"{path}/json")["State"]["Running"]

    Signals(context, forward, escape=escape and not terminal).install()
    Relay(context, stream, b"", terminal=terminal, stdin=stdin, ended=ended).run()
    try:
        while (state := context.engine.call("GET", f"{path}/json")["State"])["Running"]:
            time.sleep(0.03)
    except EngineError:
        raise interrupted() from None
    if context.settings.lag:
        with context.state.change() as data:
            if name in data["containers"]:
                data["containers"][name]["late"] = time.time() + context.settings.lag
    else:
        context.containers()
    return int(state["ExitCode"])


class _Exec:
    """One process besides a container's first."""

    def __init__(self, context: Context, name: str, record: Record, parsed: Parsed) -> None:
        self._context = context
        self._name = name
        self._path = f"/containers/{context.engine_name(name)}"
        self._boot = record["boot"]
        self._words = parsed.words[1:]
        self._parsed = parsed
        self._token = new_id()
        self._id = ""
        self._prepare(record["configuration"]["initProcess"])

    def _prepare(self, process: dict[str, Any]) -> None:
        workdir = self._parsed.text("workdir")
        if workdir:
            self._make_directory(workdir)
        env = self._environment(process["environment"])
        if not self._context.profile.at_least(1, 0):
            env.append(f"{_MARK}={self._token}")  # by which a signal finds the process
        wanted = {
            "AttachStdin": self._parsed.flag("interactive"),
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": self._parsed.flag("tty"),
            "Cmd": self._words,
            "Env": env,
            "WorkingDir": workdir or process["workingDirectory"],
            "User": self._user() or specs.user_text(process["user"]),
        }
        try:
            self._id = self._context.engine.call("POST", f"{self._path}/exec", wanted)["Id"]
        except EngineError as error:
            if error.status in (404, 409):
                raise interrupted() from None
            raise self._refused(error.text) from None

    def _user(self) -> str | None:
        uid, gid = self._parsed.text("uid"), self._parsed.text("gid")
        return f"{uid}:{gid}" if uid and gid else self._parsed.text("user") or uid

    def _environment(self, inherited: list[str]) -> list[str]:
        """Return the variables for the engine.

        The command appends them to the inherited ones without removing those of the same name. A shell takes the last
        of two, and getenv() in anything else the first; the engine cannot have a name twice, so it gets the one.
        """
        known = {entry.partition("=")[0] for entry in inherited}
        given = specs.environment(self._context, self._parsed, [])
        if self._words[0].rpartition("/")[2] in _SHELLS:
            return given
        return [entry for entry in given if entry.partition("=")[0] not in known]

    def _make_directory(self, path: str) -> None:
        engine = self._context.engine
        missing: list[str] = []
        while path.strip("/"):
            try:
                engine.open("HEAD", f"{self._path}/archive?path={quote(path)}").close()
                break
            except EngineError:
                missing.append(path)
                path = path.rpartition("/")[0]
        if not missing:
            return
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for inner in reversed(missing):
                entry = tarfile.TarInfo(inner.strip("/"))
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
        engine.open("PUT", f"{self._path}/archive?path=/", body=buffer.getvalue()).body()

    def detach(self) -> None:
        """Leave the process to itself."""
        self._context.engine.call("POST", f"/exec/{self._id}/start", {"Detach": True})

    def attach(self) -> int:
        """Stay with the process to its end and return its exit code."""
        terminal = self._parsed.flag("tty")
        try:
            answer = self._context.engine.upgrade(f"/exec/{self._id}/start", {"Detach": False, "Tty": terminal})
        except EngineError as error:
            raise self._refused(error.text) from None
        Signals(self._context, self._forward, escape=not terminal).install()
        relay = Relay(
            self._context,
            answer.sock,
            answer.buffered(),
            terminal=terminal,
            stdin=self._parsed.flag("interactive"),
            ended=self._ended,
            resize=self._resize,
        )
        relay.run()
        if relay.interrupted:
            with self._context.state.change() as data:
                data["up"] = False
            raise interrupted()
        self._context.faults.hang("exec-wait")
        code = self._code()
        if self._context.faults.get("slow-reader"):
            raise Failure("unknown", "CancellationError()")
        if relay.refusal:
            raise self._refused(relay.refusal.decode("utf-8", "replace"))
        return code

    def _ended(self) -> bool:
        try:
            return not self._context.engine.call("GET", f"/exec/{self._id}/json")["Running"]
        except EngineError:
            return True

    def _code(self) -> int:
        try:
            while (seen := self._context.engine.call("GET", f"/exec/{self._id}/json"))["Running"]:
                time.sleep(0.02)
        except EngineError:
            raise interrupted() from None
        code = seen["ExitCode"]
        if code is None or (code in _KILLED and self._container_ends()):
            raise interrupted()
        return int(code)

    def _container_ends(self) -> bool:
        """Whether the process was killed because its container was: the engine tells of that a little later."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            now = self._context.container(self._name)
            if now is None or now["state"] != "running" or now["boot"] != self._boot:
                return True
            time.sleep(0.05)
        return False

    def _refused(self, text: str) -> Failure:
        missing = "not found" in text or "no such file" in text
        words = f"failed to find target executable {self._words[0]}" if missing else text.strip()
        inner = f'startProcess: failed to start process: internalError: "vmexec error: internalError: "{words}""'
        cause = Failure(
            "internalError", "failed to start process", Failure("internalError", f"internal error (13): {inner}")
        )
        return Failure("internalError", f"failed to start process {self._token} in container {self._name}", cause)

    def _forward(self, number: int) -> None:
        found = f"$(grep -l {self._token} /proc/[0-9]*/environ)"
        script = f'for f in {found}; do p=${{f#/proc/}}; kill -{number} "${{p%/*}}"; done'
        wanted = {"Cmd": ["/bin/sh", "-c", script], "User": "0"}
        made = self._context.engine.call("POST", f"{self._path}/exec", wanted)
        self._context.engine.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    def _resize(self, rows: int, columns: int) -> None:
        with contextlib.suppress(EngineError):
            self._context.engine.call("POST", f"/exec/{self._id}/resize?h={rows}&w={columns}")


def execute(context: Context, parsed: Parsed) -> int:
    """`exec`."""
    name = parsed.words[0]
    record = _found(context, name)
    if record["state"] != "running":
        raise Failure("invalidState", f"container {name} is not running")
    _need_terminal(parsed, f"failed to exec process in container {name}")
    context.faults.hang("exec-start")
    process = _Exec(context, name, record, parsed)
    if parsed.flag("detach"):
        process.detach()
        context.out(name)
        return 0
    return process.attach()
