"""The engine's calls that an exec is made of."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import (
    OperationCancelledError,
    OperationTimeoutError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from oubliette_core.guest import EXEC_VARIABLE, Mark, can_supervise, supervised
from oubliette_docker._connection import DEADLINE
from oubliette_docker._errors import RUNTIME, EngineError
from oubliette_docker._refusals import known_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.models import Cancel, ExecSpec
    from oubliette_docker._connection import Connection, HijackedStream

__all__ = ["ExecCalls", "ExecState", "ExitWatch", "Job"]

_NEWS_WITHIN = 5.0
"""Seconds after the end of its output in which an engine has to say how a command ended."""


@attrs.frozen(kw_only=True)
class Job:
    """A command on its way into a container.

    :param container: id or name. :param mark: what its processes are known by.
    :param plain: start it without the shell that marks it: the image has none, or it would change the command.
    """

    container: str
    spec: ExecSpec
    mark: Mark
    plain: bool = False
    _began: tuple[float, float] = attrs.field(init=False, factory=lambda: (time.monotonic(), time.time()))

    @classmethod
    def of(cls, container: str, spec: ExecSpec, mark: Mark) -> Job:
        """Make the job for ``spec``, with the shell wherever that is possible."""
        return cls(container=container, spec=spec, mark=mark, plain=not can_supervise(spec.command, spec.env))

    @property
    def argv(self) -> tuple[str, ...]:
        """What the engine is to start."""
        return self.spec.command if self.plain else supervised(self.spec.command, self.mark)

    @property
    def env(self) -> list[str]:
        """The variables that the engine is to add."""
        return [f"{name}={value}" for name, value in {**self.spec.env, EXEC_VARIABLE: self.mark.token}.items()]

    def age(self) -> float:
        """Return the seconds since the job was made, by the clock that has advanced more: one stands still in sleep."""
        monotonic, wall = self._began
        return max(time.monotonic() - monotonic, time.time() - wall)


@attrs.frozen(kw_only=True)
class ExecState:
    """What the engine knows of an exec.

    :param pid: of its process on the engine's machine; 0 when it was never started, and with Podman after the end.
    """

    running: bool
    exit_code: int | None
    pid: int

    @property
    def ended(self) -> bool:
        """Whether it has run and ended, or could not be run."""
        return not self.running and self.exit_code is not None


class ExecCalls:
    """Creates, starts and inspects execs. Errors are those of `Connection.request`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def pids_are_kept(self) -> bool:
        """Whether `ExecState.pid` is still known after the end of a command that ran."""
        return self._connection.podman_version() is None

    def create(self, job: Job, *, stdin: bool, timeout: float = DEADLINE, cancel: Cancel | None = None) -> str:
        """Have the engine prepare a command; its exec id. Nothing is started.

        :raises CommandNotFoundError: the engine sees already that it could not be run.
        """
        spec = job.spec
        body = {"AttachStdin": stdin, "Tty": spec.tty, "Env": job.env, **_place(spec.user, spec.workdir)}
        with _refusals_of(job):
            return self._create(job.container, job.argv, body, timeout=timeout, cancel=cancel)

    def create_killer(self, container: str, argv: tuple[str, ...], user: str | None, *, timeout: float) -> str:
        """Prepare a command of Oubliette's own that only prints something."""
        return self._create(container, argv, {"AttachStderr": False, **_place(user, "/")}, timeout=timeout, cancel=None)

    def _create(
        self,
        container: str,
        argv: tuple[str, ...],
        settings: Mapping[str, Any],
        *,
        timeout: float,
        cancel: Cancel | None,
    ) -> str:
        body = {"Cmd": list(argv), "AttachStdout": True, "AttachStderr": True, **settings}
        path = f"/containers/{container}/exec"
        return str(self._connection.request("POST", path, body=body, timeout=timeout, cancel=cancel).json()["Id"])

    def start(
        self, job: Job, identity: str, *, timeout: float = DEADLINE, cancel: Cancel | None = None
    ) -> HijackedStream:
        """Start a prepared command; the stream to talk to it.

        :raises CommandNotFoundError: the engine could not start it; older engines say so in the stream instead.
        """
        body = {"Detach": False, "Tty": job.spec.tty}
        with _refusals_of(job):
            return self._connection.hijack("POST", f"/exec/{identity}/start", body, timeout=timeout, cancel=cancel)

    def start_killer(self, identity: str, *, timeout: float) -> HijackedStream:
        """Start a prepared command of Oubliette's own."""
        body = {"Detach": False, "Tty": False}
        return self._connection.hijack("POST", f"/exec/{identity}/start", body, timeout=timeout)

    def state(self, identity: str, *, timeout: float = DEADLINE, cancel: Cancel | None = None) -> ExecState:
        """Return what the engine knows of an exec."""
        raw = self._connection.request("GET", f"/exec/{identity}/json", timeout=timeout, cancel=cancel).json()
        return ExecState(running=bool(raw["Running"]), exit_code=raw.get("ExitCode"), pid=raw.get("Pid") or 0)

    def resize(self, identity: str, rows: int, columns: int) -> None:
        """Set the size of an exec's terminal."""
        self._connection.request("POST", f"/exec/{identity}/resize", query={"h": rows, "w": columns})

    def is_up(self, container: str, *, timeout: float = DEADLINE) -> bool:
        """Tell whether the container's main process lives, paused or not."""
        raw = self._connection.request("GET", f"/containers/{container}/json", timeout=timeout).json()
        return bool(raw["State"].get("Running") or raw["State"].get("Paused"))


@contextlib.contextmanager
def _refusals_of(job: Job) -> Iterator[None]:
    """Turn what an engine says that cannot run a command into the error for it."""
    try:
        yield
    except EngineError as error:
        raise known_refusal(job, error.message) or error from error


class ExitWatch:
    """Asks the engine how a command ended. Only an exit code proves that it did; the end of its output does not."""

    def __init__(self, calls: ExecCalls, identity: str) -> None:
        self._calls, self._identity = calls, identity
        self._silent_since: float | None = None
        self._quiet_since: float | None = None

    def output_ended(self) -> None:
        """Note that nothing more will be printed. From now on the engine has to know, or the command is lost."""
        self._quiet_since = time.monotonic()

    def look(self, *, timeout: float, cancel: Cancel | None = None) -> ExecState | None:
        """Return the state of the command if it has ended, None if it has not or if that could not be asked.

        A command may close its output and run on, for as long as the engine says that it runs.

        :raises RuntimeLostError: nobody will ever know how it ended.
        """
        try:
            state = self._calls.state(self._identity, timeout=timeout, cancel=cancel)
        except OperationCancelledError:
            return None
        except (EngineError, RuntimeUnavailableError, RuntimeLostError, OperationTimeoutError) as error:
            self._bear(error)
            return None
        self._silent_since = None
        if state.ended:
            return state
        if state.running and self._quiet_since is not None:
            self._quiet_since = time.monotonic()
        self._give_up_in_time(None)
        return None

    def _bear(self, error: Exception) -> None:
        forgotten = isinstance(error, EngineError) and error.status == 404
        gone = isinstance(error, RuntimeUnavailableError) and self._quiet_since is not None
        if forgotten or gone:
            raise _lost() from error
        self._silent_since = self._silent_since or time.monotonic()
        self._give_up_in_time(error)

    def _give_up_in_time(self, cause: Exception | None) -> None:
        now = time.monotonic()
        silent = self._silent_since is not None and now - self._silent_since > DEADLINE
        quiet = self._quiet_since is not None and now - self._quiet_since > _NEWS_WITHIN
        if silent or quiet:
            raise _lost() from cause


def _lost() -> RuntimeLostError:
    return RuntimeLostError(
        "the engine went away while the command ran; how the command ended is not known",
        runtime=RUNTIME,
        hint="See whether the engine and the container still run.",
    )


def _place(user: str | None, workdir: str | None) -> dict[str, str]:
    given = {"User": user, "WorkingDir": workdir}
    return {name: value for name, value in given.items() if value is not None}
