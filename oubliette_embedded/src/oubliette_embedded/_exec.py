"""Commands: run to their end, or opened to be talked to."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotRunningError,
    OperationTimeoutError,
    RuntimeLostError,
)
from oubliette_core.models import Cancel, ExecResult, ExecSpec
from oubliette_embedded._control import Control
from oubliette_embedded._options import RUNTIME
from oubliette_embedded._places import read_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Command", "run"]

_CHUNK = 65536
_PIPE = 1024 * 1024
_STARTING = 30.0
_KILLING = 12.0
_DRAIN = 2.0
_QUIET = 0.3
"""Seconds without output after which what a command's children may still print is not waited for."""
_WAKE = 1.0


class Command:
    """A command in a container.

    :ivar stdin: descriptor to write to. :ivar stdout: descriptor to read from, likewise ``stderr``; all three are
        the terminal's where there is one, and ``stderr`` is -1.
    :raises ContainerNotRunningError: as for `RuntimeSpec.exec`. :raises CommandNotFoundError: likewise.
    """

    def __init__(self, directory: Path, spec: ExecSpec) -> None:
        self._directory = directory
        self.subject = directory.name
        self.exit_code: int | None = None
        self.killed: bool | None = None
        self.lost = False
        request = [
            [b"run", os.fsencode(spec.user or ""), os.fsencode(spec.workdir or "")],
            [os.fsencode(word) for word in spec.command],
            [os.fsencode(f"{name}={value}") for name, value in spec.env.items()],
        ]
        theirs: list[int] = []
        self.stdin = self.stdout = self.stderr = -1
        if not spec.tty:
            self.stdin, self.stdout, self.stderr, theirs = _pipes()
        try:
            self._control = Control(directory, request, theirs)
        except OSError as error:
            self.close_streams()
            raise ContainerNotRunningError(
                f"container {self.subject} is not running", runtime=RUNTIME, subject=self.subject
            ) from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        try:
            self._await_start(spec)
        except BaseException:
            self.close()
            raise

    def _await_start(self, spec: ExecSpec) -> None:
        deadline = time.monotonic() + _STARTING
        while True:
            if not self._control.ready(deadline - time.monotonic()):
                raise OperationTimeoutError(
                    f"command {spec.command[0]} was not started in time",
                    operation="exec",
                    timeout=_STARTING,
                    runtime=RUNTIME,
                    subject=self.subject,
                )
            message, terminal = self._control.hear()
            what, _, rest = message.partition(b" ")
            if what == b"terminal":
                self.stdin, self.stdout = os.dup(terminal), terminal
            elif what == b"started":
                return
            elif what == b"failed":
                code, _, reason = rest.decode(errors="replace").partition(" ")
                raise _not_run(spec, int(code), reason)
            elif self.stdout < 0:
                raise self.loss()
            else:
                # It may have been started, and have printed something, before that could be told.
                self.lost = True
                return

    def fileno(self) -> int:
        """Return the descriptor on which news of the command can be waited for."""
        return self._control.fileno()

    def hear(self) -> None:
        """Take in the next piece of news."""
        message, _ = self._control.hear()
        what, _, rest = message.partition(b" ")
        if what == b"exit":
            self.exit_code = int(rest)
        elif what == b"killed":
            self.killed = rest == b"1"
        elif message in (b"", b"lost"):
            self.lost = True

    def wait_for_news(self, seconds: float) -> bool:
        """Take in the next piece of news; False when there was none in time."""
        if self.lost or not self._control.ready(seconds):
            return False
        self.hear()
        return True

    def ask_to_kill(self) -> None:
        """Have everything killed that the command has started."""
        self._control.say(b"kill")

    def is_gone(self) -> bool:
        """Tell whether the container is known to have ended, and the command with it."""
        return self.lost and read_run(self._directory).get("status") == "exited"

    def loss(self) -> RuntimeLostError:
        """Return the error for a supervisor that is gone."""
        return RuntimeLostError(
            f"container {self.subject} ended while the command ran", runtime=RUNTIME, subject=self.subject
        )

    def hand_over(self, descriptors: list[int]) -> None:
        """Have output read that may still come, so that what the command left running can go on printing."""
        if descriptors:
            self._control.say(b"drain", descriptors)

    def close_stdin(self) -> None:
        """End of file for the command, where it has no terminal. Idempotent."""
        if self.stdin >= 0:
            os.close(self.stdin)
            self.stdin = -1

    def close_streams(self) -> None:
        """Close what is open. Idempotent."""
        for name in ("stdin", "stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def close(self) -> None:
        """Let go of it; a command that still runs is killed. Idempotent."""
        self.close_streams()
        self._control.close()


def _pipes() -> tuple[int, int, int, list[int]]:
    """Make the pipes for a command: our ends, and its own."""
    input_, stdin = os.pipe2(os.O_CLOEXEC)
    stdout, output = os.pipe2(os.O_CLOEXEC)
    stderr, errors = os.pipe2(os.O_CLOEXEC)
    for descriptor in (stdin, stdout):
        with contextlib.suppress(OSError):  # there is a limit to how much one user's pipes may hold
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE)
    return stdin, stdout, stderr, [input_, output, errors]


def _not_run(spec: ExecSpec, code: int, reason: str) -> CommandNotFoundError:
    return CommandNotFoundError(
        f"{spec.command[0]} could not be run: {reason}", exit_code=code, runtime=RUNTIME, subject=spec.command[0]
    )


def run(directory: Path, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
    """See `RuntimeSpec.exec`."""
    started = time.monotonic()
    if cancel is not None and cancel.cancelled:
        return ExecResult(exit_code=None, cancelled=True, killed=True)
    command = Command(directory, spec)
    try:
        with _wakes_on(cancel) as alarm:
            return _Talk(command, spec, started, cancel, alarm).to_the_end()
    finally:
        command.close()


@contextlib.contextmanager
def _wakes_on(cancel: Cancel | None) -> Iterator[int]:
    """Give a descriptor that can be read once somebody cancels."""
    if cancel is None:
        yield -1
        return
    alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    forget = cancel.on_cancel(lambda: os.eventfd_write(alarm, 1))
    try:
        yield alarm
    finally:
        forget()
        os.close(alarm)


class _Talk:
    """Feeds a command, collects what it prints, and ends it at its deadline or when somebody cancels."""

    def __init__(self, command: Command, spec: ExecSpec, started: float, cancel: Cancel | None, alarm: int) -> None:
        self._command = command
        self._spec = spec
        self._started = started
        self._cancel = cancel
        self._deadline = float("inf") if spec.timeout is None else started + spec.timeout
        self._input = memoryview(spec.stdin)
        self._kept: dict[int, bytearray] = {}
        self._truncated = False
        self._poll = select.poll()
        self._poll.register(command.fileno(), select.POLLIN)
        if alarm >= 0:
            self._poll.register(alarm, select.POLLIN)
        for descriptor in (command.stdout, command.stderr):
            if descriptor >= 0:
                os.set_blocking(descriptor, False)
                self._kept[descriptor] = bytearray()
                self._poll.register(descriptor, select.POLLIN)
        self._streams = set(self._kept)
        self._feed_from_the_start()

    def _feed_from_the_start(self) -> None:
        stdin = self._command.stdin
        os.set_blocking(stdin, False)
        self._poll.register(stdin, select.POLLOUT)

    def to_the_end(self) -> ExecResult:
        while self._command.exit_code is None:
            if self._command.lost:
                raise self._lost()
            left = self._deadline - time.monotonic()
            cancelled = self._cancel is not None and self._cancel.cancelled
            if cancelled or left <= 0:
                return self._end(timed_out=not cancelled)
            self._turn(min(left, _WAKE))
        self._drain()
        self._command.hand_over(sorted(self._streams))
        return self._result(exit_code=self._command.exit_code)

    def _turn(self, seconds: float) -> bool:
        """Wait for something to do and do it; False when there was nothing."""
        events = self._poll.poll(seconds * 1000 + 1)
        for descriptor, _ in events:
            if descriptor == self._command.fileno():
                self._command.hear()
                if self._command.lost:
                    self._poll.unregister(descriptor)
            elif descriptor in self._streams:
                self._read(descriptor)
            elif descriptor == self._command.stdin:
                self._feed()
            else:
                self._poll.unregister(descriptor)  # the alarm: it has been heard, and would go on ringing
        return bool(events)

    def _feed(self) -> None:
        stdin = self._command.stdin
        try:
            self._input = self._input[os.write(stdin, self._input[:_CHUNK]) :] if self._input else self._input
        except BlockingIOError:
            return
        except OSError:
            self._input = memoryview(b"")  # the command reads no more
        if not self._input:
            self._poll.unregister(stdin)
            if self._spec.tty:
                with contextlib.suppress(OSError):
                    os.write(stdin, b"\x04")  # end of file, typed
            self._command.close_stdin()

    def _read(self, descriptor: int) -> None:
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that nobody has open any more
        kept = self._kept[descriptor]
        room = self._spec.output_limit - len(kept)
        kept += data[:room]
        self._truncated = self._truncated or len(data) > room
        if not data:
            self._poll.unregister(descriptor)
            self._streams.discard(descriptor)

    def _drain(self, quiet: float = _QUIET) -> None:
        """Read what is left, until nothing has come for `quiet` seconds."""
        deadline = time.monotonic() + _DRAIN
        while self._streams and time.monotonic() < deadline and self._turn(quiet):
            pass

    def _end(self, *, timed_out: bool) -> ExecResult:
        command = self._command
        command.ask_to_kill()
        deadline = time.monotonic() + _KILLING
        while command.killed is None and not command.lost and time.monotonic() < deadline:
            self._turn(deadline - time.monotonic())
        self._drain(quiet=0.0)
        killed = command.killed is True or command.is_gone()
        return self._result(exit_code=None, timed_out=timed_out, cancelled=not timed_out, killed=killed)

    def _output(self) -> tuple[bytes, bytes]:
        command = self._command
        return bytes(self._kept.get(command.stdout, b"")), bytes(self._kept.get(command.stderr, b""))

    def _lost(self) -> RuntimeLostError:
        self._drain()
        error = self._command.loss()
        error.stdout, error.stderr = self._output()
        return error

    def _result(
        self, *, exit_code: int | None, timed_out: bool = False, cancelled: bool = False, killed: bool = False
    ) -> ExecResult:
        stdout, stderr = self._output()
        return ExecResult(
            exit_code=exit_code,
            stdout=stdout,
            stderr=stderr,
            timed_out=timed_out,
            cancelled=cancelled,
            killed=killed,
            truncated=self._truncated,
            duration=time.monotonic() - self._started,
        )
