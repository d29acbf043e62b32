"""A command that one talks to while it runs."""

from __future__ import annotations

import contextlib
import select
import threading
import time
from typing import TYPE_CHECKING, Self

from oubliette_core.errors import OperationTimeoutError, RuntimeOperationError
from oubliette_docker._connection import DEADLINE
from oubliette_docker._errors import EngineError, translated
from oubliette_docker._exec_calls import ExitWatch
from oubliette_docker._refusals import refusal
from oubliette_docker._streams import CHUNK, END_OF_TRANSMISSION, STDERR, STDOUT, Dialogue

if TYPE_CHECKING:
    from types import TracebackType

    from oubliette_core.models import ByteSink, ByteSource
    from oubliette_docker._connection import HijackedStream
    from oubliette_docker._exec_calls import ExecCalls, ExecState, Job
    from oubliette_docker._killer import Killer

__all__ = ["DockerProcess"]

_TICK = 1.0
_HUNG_UP = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR
"""Where the system can tell: the engine will say nothing more, which it does when the command has ended."""
_ENOUGH = 1024 * 1024
"""Bytes of one stream that are held for a reader; beyond that nothing is read, and the command has to wait."""
_KILL_WITHIN = 5.0
_NEWS_FIRST, _NEWS_LAST = 0.01, 0.5
_ASK_WITHIN = 5.0


class DockerProcess:
    """See `oubliette_core.models.Process`. Safe between threads.

    There is no thread of its own: whoever reads moves what has come for both streams, and hands the other its part.
    What is said to a terminal ends with the character for it (Ctrl-D) when ``stdin`` is closed.
    """

    def __init__(self, calls: ExecCalls, killer: Killer, job: Job, identity: str, stream: HijackedStream) -> None:
        self._calls, self._killer, self._job, self._identity, self._stream = calls, killer, job, identity, stream
        self._changed = threading.Condition()
        self._held = {STDOUT: bytearray(), STDERR: bytearray()}
        self._heard = self._reading = self._at_end = self._is_closed = self._is_killed = False
        self._report = bytearray()
        self._watch = ExitWatch(calls, identity)
        self._exit_code: int | None = None
        self._dialogue = Dialogue(stream, framed=not job.spec.tty, take=self._take)
        self.stdin: ByteSink = _Input(stream, tty=job.spec.tty)
        self.stdout: ByteSource = _Output(self, STDOUT)
        self.stderr: ByteSource = _Output(self, STDERR)

    @classmethod
    def start(cls, calls: ExecCalls, killer: Killer, job: Job) -> Self:
        """Start a command and wait until the engine says that it runs, or why it does not.

        :raises CommandNotFoundError: it could not be run. :raises NoShellError: there is no shell to start it with.
        """
        identity = calls.create(job, stdin=True)
        process = cls(calls, killer, job, identity, calls.start(job, identity))
        try:
            process._wait_for_start()
        except BaseException:
            process.close()
            raise
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """See `Process.wait`. 126 and 127 are also the codes of a command that could not be run."""
        until = float("inf") if timeout is None else time.monotonic() + timeout
        pause, at_end = _NEWS_FIRST, False
        while self._exit_code is None:
            state = self._look(until)
            if state is not None:
                self._exit_code = state.exit_code
                break
            with self._changed:
                if self._at_end and not at_end:  # the news of its end follow at once
                    pause, at_end = _NEWS_FIRST, True
                left = until - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(pause, left))
            pause = min(2 * pause, _NEWS_LAST)
        return self._exit_code

    def kill(self) -> bool:
        """See `Process.kill`; takes five seconds at most."""
        if not self._is_killed:
            self._is_killed = self._killer.end(self._job, self._identity, time.monotonic() + _KILL_WITHIN)
        return self._is_killed

    def resize(self, rows: int, columns: int) -> None:
        """See `Process.resize`."""
        if not self._job.spec.tty:
            return
        with translated("open_exec", self._job.container), contextlib.suppress(EngineError):  # it has ended
            self._calls.resize(self._identity, rows, columns)

    def close(self) -> None:
        """See `Process.close`. A command that has ended by itself leaves its background children running."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
        try:
            if self._may_be_running():
                self.kill()
        finally:
            self._release()

    # -- Starting and ending ------------------------------------------------------------------------------------------

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + DEADLINE
        pause = _NEWS_FIRST
        while True:
            state = self._calls.state(self._identity)
            if state.ended:
                self._refuse(state)
                return
            if state.pid:
                return
            if time.monotonic() > deadline:
                why = f"the engine did not start the command within {DEADLINE:g} s"
                raise OperationTimeoutError(why, operation="open_exec", timeout=DEADLINE)
            time.sleep(pause)
            pause = min(2 * pause, 5 * _NEWS_FIRST)

    def _refuse(self, state: ExecState) -> None:
        """Raise the reason if a command that ended at once never ran. What it printed stays to be read."""
        until = time.monotonic() + _TICK
        while not self._at_end and time.monotonic() < until and not self._is_full():
            self._move(until - time.monotonic())
        stdout, stderr = (bytes(self._held[channel][:4096]) for channel in (STDOUT, STDERR))
        if self._job.spec.tty:
            stdout += self._report
        else:
            stderr += self._report
        stdout = self._dialogue.strange or stdout
        error = refusal(self._job, state, stdout, stderr, pids_are_kept=self._calls.pids_are_kept)
        if error is not None:
            raise error

    def _look(self, until: float) -> ExecState | None:
        within = min(max(until - time.monotonic(), _TICK), _ASK_WITHIN)
        with translated("open_exec", self._job.container):
            return self._watch.look(timeout=within)

    def _may_be_running(self) -> bool:
        if self._exit_code is not None or self._is_killed:
            return False
        try:
            return not self._calls.state(self._identity, timeout=_ASK_WITHIN).ended
        except EngineError as error:
            return error.status != 404
        except RuntimeOperationError:
            return True

    def _release(self) -> None:
        """Close the connection once the threads that use it have left it."""
        self._stream.abort()
        with self._changed:
            self._changed.wait_for(lambda: not self._reading, 2 * _TICK)
        self.stdin.close()
        self._stream.close()

    # -- Reading ------------------------------------------------------------------------------------------------------

    def read(self, channel: int, size: int) -> bytes:
        """Return what has come for one stream, waiting for something; ``b""`` at its end."""
        held = self._held[channel]
        while True:
            with self._changed:
                if held and not self._is_closed:
                    data = bytes(held[:size])
                    del held[:size]
                    self._changed.notify_all()
                    return data
                if self._at_end or self._is_closed:
                    return b""
                if self._reading or self._is_full():
                    self._changed.wait(_TICK)
                    continue
                self._reading = True
            self._move(_TICK)

    def _is_full(self) -> bool:
        return any(len(held) >= _ENOUGH for held in self._held.values())

    def _move(self, timeout: float) -> None:
        """Take in what has come, as the only thread that does."""
        alive = False
        try:
            alive = self._dialogue.step(timeout)
        finally:
            with self._changed:
                self._reading = False
                if not alive:
                    self._at_end = True
                    self._watch.output_ended()
                self._changed.notify_all()

    def _take(self, channel: int, part: memoryview) -> None:
        """Keep what came for its reader, except for what the shell says that could not run the command.

        That comes before anything else, and begins with the secret of the mark.
        """
        with self._changed:
            errors = STDOUT if self._job.spec.tty else STDERR
            if channel == errors and not self._heard:
                self._heard = True
                if self._job.mark.secret.encode() in bytes(part):
                    self._report += part
                    return
            if self._report:
                self._report += part
                return
            self._held[channel] += part
            self._changed.notify_all()


class _Output:
    """One stream of a process, as a source of bytes."""

    def __init__(self, process: DockerProcess, channel: int) -> None:
        self._process, self._channel = process, channel

    def read(self, size: int, /) -> bytes:
        """See `ByteSource.read`."""
        return self._process.read(self._channel, size)


class _Input:
    """Standard input of a process, as a sink of bytes."""

    def __init__(self, stream: HijackedStream, *, tty: bool) -> None:
        self._stream, self._tty = stream, tty
        self._lock = threading.Lock()
        self._is_closed = False

    def write(self, data: bytes, /) -> int:
        """See `ByteSink.write`. :raises BrokenPipeError: the command has ended, or its input was closed."""
        with self._lock:
            if self._is_closed:
                raise BrokenPipeError("standard input of the command is closed")
            return self._send(data)

    def _send(self, data: bytes) -> int:
        view = memoryview(data)
        poll = select.poll()
        poll.register(self._stream.sock, select.POLLOUT | _HUNG_UP)
        while view:
            try:
                view = view[self._stream.sock.send(view[:CHUNK]) :]
            except BlockingIOError:
                if any(events & _HUNG_UP for _, events in poll.poll(_TICK * 1000)):
                    raise BrokenPipeError("the command has ended, and reads no more") from None
            except OSError as error:
                raise BrokenPipeError("the command has ended, and reads no more") from error
        return len(data)

    def close(self) -> None:
        """See `ByteSink.close`."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if not self._tty:
                self._stream.close_write()
                return
            with contextlib.suppress(BrokenPipeError):
                self._send(END_OF_TRANSMISSION)
