"""Running commands in containers."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from oubliette_core.errors import (
    OperationCancelledError,
    OperationTimeoutError,
    RuntimeLostError,
    RuntimeOperationError,
)
from oubliette_core.guest import Marks
from oubliette_core.models import ExecResult
from oubliette_docker._connection import DEADLINE
from oubliette_docker._errors import RUNTIME, EngineError, translated
from oubliette_docker._exec_calls import ExecCalls, ExecState, ExitWatch, Job
from oubliette_docker._killer import Killer
from oubliette_docker._process import DockerProcess
from oubliette_docker._refusals import NoShellError, refusal
from oubliette_docker._streams import STDERR, Dialogue, Kept, Wake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from oubliette_core.models import Cancel, ExecSpec
    from oubliette_docker._connection import Connection

__all__ = ["Execs"]

_Result = TypeVar("_Result")
_Reason = Literal["timed_out", "cancelled"]

_KILL_WITHIN = 1.7
"""Seconds after the deadline or the cancel that are given to the killing: the call ends within 2 s of it."""
_LOOK_FIRST, _LOOK_LAST = 0.25, 0.5
"""How soon, and how often at least, the engine is asked whether a command has ended whose output is still open."""
_LOOK_WITHIN = 1.0
_NEWS_FIRST = 0.01
_DYING = 0.3
_QUIET, _DRAIN, _COLLECT = 0.1, 0.5, 0.1


class Execs:
    """The commands that are run in one engine's containers. Safe between threads.

    A container is given by its whole id or name, as `Containers.whole` returns it.
    """

    def __init__(self, connection: Connection) -> None:
        self._calls = ExecCalls(connection)
        self._marks = Marks()
        self._killer = Killer(self._calls, self._marks)

    def run(self, container: str, spec: ExecSpec, cancel: Cancel | None = None) -> ExecResult:
        """See `RuntimeSpec.exec`.

        A container that ends while the command runs is `RuntimeLostError`, with what was printed by then: how the
        command would have ended is not known.
        """
        clock = _Clock(spec.timeout, cancel)

        def once(job: Job) -> ExecResult:
            return _Run(self._calls, self._killer, job, clock).result()

        with translated("exec", container):
            return _with_or_without_shell(Job.of(container, spec, self._marks.new()), once)

    def open(self, container: str, spec: ExecSpec) -> DockerProcess:
        """See `RuntimeSpec.open_exec`. Returns once the engine has started the command."""

        def once(job: Job) -> DockerProcess:
            return DockerProcess.start(self._calls, self._killer, job)

        with translated("open_exec", container):
            return _with_or_without_shell(Job.of(container, spec, self._marks.new()), once)


def _with_or_without_shell(job: Job, once: Callable[[Job], _Result]) -> _Result:
    try:
        return once(job)
    except NoShellError:
        return once(attrs.evolve(job, plain=True))


class _Clock:
    """When a command has to end: at its deadline, or when the caller cancels."""

    def __init__(self, timeout: float | None, cancel: Cancel | None) -> None:
        self.began = time.monotonic()
        self.cancel = cancel
        self._end = float("inf") if timeout is None else self.began + timeout

    def reason(self) -> _Reason | None:
        """Tell why the command has to end now; None while it may run."""
        if self.cancel is not None and self.cancel.cancelled:
            return "cancelled"
        return "timed_out" if time.monotonic() >= self._end else None

    def left(self, limit: float) -> float:
        """Return the seconds until the deadline, at most ``limit``."""
        return max(min(limit, self._end - time.monotonic()), 0.001)

    def sleep(self, seconds: float) -> None:
        """Wait, not beyond the end."""
        if self.cancel is not None:
            self.cancel.wait(self.left(seconds))
        else:
            time.sleep(self.left(seconds))

    @contextlib.contextmanager
    def alarm(self) -> Iterator[Wake | None]:
        """Give something that is set at once when the caller cancels."""
        if self.cancel is None:
            yield None
            return
        wake = Wake()
        forget = self.cancel.on_cancel(wake.set)
        try:
            yield wake
        finally:
            forget()
            wake.close()


class _Run:
    """One command, from its creation to its result."""

    def __init__(self, calls: ExecCalls, killer: Killer, job: Job, clock: _Clock) -> None:
        self._calls, self._killer, self._job, self._clock = calls, killer, job, clock
        self._identity = ""
        self._stdout, self._stderr = Kept(job.spec.output_limit), Kept(job.spec.output_limit)

    def result(self) -> ExecResult:
        """Run it. Errors are those of `RuntimeSpec.exec`, and `NoShellError`."""
        try:
            return self._talk()
        except (OperationTimeoutError, OperationCancelledError):
            reason = self._clock.reason()
            if reason is None:
                raise
            return self._killed(reason, None)
        except RuntimeLostError as error:
            error.stdout, error.stderr = self._stdout.whole(), self._stderr.whole()
            raise

    def _talk(self) -> ExecResult:
        clock, spec = self._clock, self._job.spec
        stdin = spec.stdin if spec.stdin or spec.tty else None
        self._identity = self._calls.create(
            self._job, stdin=stdin is not None, timeout=clock.left(DEADLINE), cancel=clock.cancel
        )
        stream = self._calls.start(self._job, self._identity, timeout=clock.left(DEADLINE), cancel=clock.cancel)
        with stream, clock.alarm() as wake:
            dialogue = Dialogue(stream, framed=not spec.tty, take=self._take, stdin=stdin, wake=wake)
            end = self._until_it_ends(dialogue)
            return self._ended(end, dialogue) if isinstance(end, ExecState) else self._killed(end, dialogue)

    def _take(self, channel: int, part: memoryview) -> None:
        (self._stderr if channel == STDERR else self._stdout).add(part)

    def _until_it_ends(self, dialogue: Dialogue) -> ExecState | _Reason:
        """Move bytes until the engine says that the command has ended, or until it has to end.

        The engine is asked at the end of the output, and now and then before: a child may hold the output open.
        """
        watch = ExitWatch(self._calls, self._identity)
        pause = _LOOK_FIRST
        look_at = time.monotonic() + pause
        open_ = True
        while (reason := self._clock.reason()) is None:
            if not open_:
                self._clock.sleep(look_at - time.monotonic())
            elif not dialogue.step(self._clock.left(look_at - time.monotonic())):
                open_ = False
                watch.output_ended()
                pause, look_at = _NEWS_FIRST, time.monotonic()
            if time.monotonic() >= look_at:
                state = watch.look(timeout=self._clock.left(_LOOK_WITHIN), cancel=self._clock.cancel)
                if state is not None:
                    if open_:
                        _drain(dialogue, time.monotonic() + _DRAIN)
                    return state
                pause = min(2 * pause, _LOOK_LAST)
                look_at = time.monotonic() + pause
        return reason

    def _ended(self, state: ExecState, dialogue: Dialogue) -> ExecResult:
        if state.exit_code == 0:
            return self._with_output(ExecResult(exit_code=0))
        stdout = dialogue.strange or self._stdout.ends()
        error = refusal(self._job, state, stdout, self._stderr.ends(), pids_are_kept=self._calls.pids_are_kept)
        if error is not None:
            raise error
        if state.exit_code == 128 + 9 and self._container_has_ended():
            raise RuntimeLostError(
                f"container {self._job.container} ended while the command ran in it",
                runtime=RUNTIME,
                subject=self._job.container,
                hint="See why in its log.",
            )
        return self._with_output(ExecResult(exit_code=state.exit_code))

    def _container_has_ended(self) -> bool:
        """Tell whether the container ended too. Its engine may learn of that a little after the command's end."""
        until = time.monotonic() + _DYING
        while time.monotonic() < until:
            try:
                if not self._calls.is_up(self._job.container):
                    return True
            except EngineError as error:
                return error.status == 404
            except RuntimeOperationError:
                return False
            time.sleep(_NEWS_FIRST)
        return False

    def _killed(self, reason: _Reason, dialogue: Dialogue | None) -> ExecResult:
        until = time.monotonic() + _KILL_WITHIN
        killed = bool(self._identity) and self._killer.end(self._job, self._identity, until)
        if dialogue is not None:
            _drain(dialogue, until + _COLLECT)
        cancelled = reason == "cancelled"
        result = ExecResult(exit_code=None, timed_out=not cancelled, cancelled=cancelled, killed=killed)
        return self._with_output(result)

    def _with_output(self, result: ExecResult) -> ExecResult:
        return attrs.evolve(
            result,
            stdout=self._stdout.whole(),
            stderr=self._stderr.whole(),
            truncated=self._stdout.truncated or self._stderr.truncated,
            duration=time.monotonic() - self._clock.began,
        )


def _drain(dialogue: Dialogue, until: float) -> None:
    """Read what is still under way: until nothing comes for a moment, at most until a time by `time.monotonic`."""
    while (left := until - time.monotonic()) > 0:
        before = dialogue.moved
        if not dialogue.step(min(left, _QUIET)) or dialogue.moved == before:
            return
