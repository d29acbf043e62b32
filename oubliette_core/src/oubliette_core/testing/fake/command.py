"""Running commands in a container of the fake engine."""

from __future__ import annotations

import errno
import stat
import time
from typing import TYPE_CHECKING, Self

from oubliette_core.errors import CommandNotFoundError, ContainerNotRunningError
from oubliette_core.models import Cancel, ContainerStatus, ExecResult, ExecSpec
from oubliette_core.testing.fake.kernel import Kernel, Session, Task
from oubliette_core.testing.fake.nodes import File, fail
from oubliette_core.testing.fake.streams import FileStream, OpenFile, Pipe, ReadEnd, Sink, Terminal, WriteEnd

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from oubliette_core.testing.fake.container import FakeContainer
    from oubliette_core.testing.fake.faults import Switchboard

__all__ = ["FakeProcess", "run_command", "start_command"]


class _Output:
    """What a command prints, up to a limit; more is dropped.

    :param cut: bytes after which the connection breaks.
    """

    def __init__(self, kernel: Kernel, limit: int, cut: int | None = None) -> None:
        self._kernel = kernel
        self._limit = limit
        self._cut = cut
        self.data = bytearray()
        self.total = 0

    def append(self, data: bytes) -> None:
        """Keep what fits."""
        with self._kernel.lock:
            self.total += len(data)
            limit = self._limit if self._cut is None else min(self._limit, self._cut)
            self.data += data[: max(0, limit - len(self.data))]
            if self.broken:
                self._kernel.lock.notify_all()

    @property
    def truncated(self) -> bool:
        """Whether something was dropped."""
        return self.total > self._limit

    @property
    def broken(self) -> bool:
        """Whether the connection has broken."""
        return self._cut is not None and self.total > self._cut


def run_command(
    container: FakeContainer, spec: ExecSpec, cancel: Cancel | None, board: Switchboard, *, cut: int | None = None
) -> ExecResult:
    """Run a command to its end, its deadline or ``cancel``: see `RuntimeSpec.exec`."""
    kernel = _running(container)
    began = time.monotonic()
    out, err = _Output(kernel, spec.output_limit, cut), _Output(kernel, spec.output_limit)
    session = Session()
    screen = Sink(out)
    if spec.tty:
        terminal = _terminal(kernel, screen, session)
        streams: dict[int, OpenFile] = dict.fromkeys(range(3), terminal)
    else:
        streams = {0: FileStream(File(spec.stdin), "r"), 1: screen, 2: Sink(err)}
    task = _spawn(container, kernel, spec, streams, session)
    if spec.tty:
        terminal.type(spec.stdin + b"\x04")
    for stream in set(streams.values()):
        stream.close()
    ended = _await_end(kernel, task, board, out, timeout=spec.timeout, cancel=cancel)
    return _result(kernel, task, (out, err), began, ended=ended, cancel=cancel)


def _await_end(
    kernel: Kernel, task: Task, board: Switchboard, out: _Output, *, timeout: float | None, cancel: Cancel | None
) -> bool:
    """Wait for the end of a command; False when the deadline or ``cancel`` came first.

    :raises RuntimeLostError: the engine went away, or the connection broke.
    """
    forget = cancel.on_cancel(kernel.wake) if cancel is not None else None

    def over() -> bool:
        return task.exit_code is not None or board.gone or out.broken or (cancel is not None and cancel.cancelled)

    try:
        kernel.wait(over, timeout=timeout)
    finally:
        if forget is not None:
            forget()
    if out.broken or (board.gone and task.exit_code is None):
        raise board.lost(" ".join(task.argv), bytes(out.data))
    return task.exit_code is not None


def _result(
    kernel: Kernel, task: Task, outputs: tuple[_Output, _Output], began: float, *, ended: bool, cancel: Cancel | None
) -> ExecResult:
    cancelled = not ended and cancel is not None and cancel.cancelled
    killed = not ended and kernel.kill_session(task.session)
    out, err = outputs
    with kernel.lock:
        return ExecResult(
            exit_code=task.exit_code if ended else None,
            stdout=bytes(out.data),
            stderr=bytes(err.data),
            timed_out=not ended and not cancelled,
            cancelled=cancelled,
            killed=killed,
            truncated=out.truncated or err.truncated,
            duration=time.monotonic() - began,
        )


def start_command(
    container: FakeContainer, spec: ExecSpec, board: Switchboard, *, cut: int | None = None
) -> FakeProcess:
    """Start a command and return while it runs: see `RuntimeSpec.open_exec`."""
    kernel = _running(container)
    session = Session()
    given, out, err = Pipe(kernel), Pipe(kernel), Pipe(kernel)
    terminal = None
    if spec.tty:
        terminal = _terminal(kernel, WriteEnd(out), session)
        err.end_writing()
        streams: dict[int, OpenFile] = dict.fromkeys(range(3), terminal)
    else:
        streams = {0: ReadEnd(given), 1: WriteEnd(out), 2: WriteEnd(err)}
    task = _spawn(container, kernel, spec, streams, session)
    for stream in set(streams.values()):
        stream.close()
    return FakeProcess(
        kernel,
        task,
        board,
        stdin=_Stdin(given, terminal),
        stdout=_Source(out, board, task, cut),
        stderr=_Source(err, board, task),
    )


def _running(container: FakeContainer) -> Kernel:
    status = container.status
    if container.kernel is None or status is not ContainerStatus.RUNNING:
        raise ContainerNotRunningError(
            f"container {container.name} is {status.value}, not running",
            runtime="fake", subject=container.name, hint="Start it first.",
        )  # fmt: skip
    return container.kernel


def _terminal(kernel: Kernel, screen: OpenFile, session: Session) -> Terminal:
    def interrupt(number: int) -> None:
        for task in kernel.of_session(session):
            kernel.signal(task.pid, number)

    return Terminal(kernel, screen, interrupt)


def _spawn(
    container: FakeContainer, kernel: Kernel, spec: ExecSpec, streams: Mapping[int, OpenFile], session: Session
) -> Task:
    """Start the command's process.

    :raises CommandNotFoundError: as `RuntimeSpec.exec` says.
    """
    who = container.identity(spec.user or container.spec.user or container.image.user)
    if who is None:
        raise _not_run(spec, f"there is no user {spec.user}", 126)
    cwd = spec.workdir or container.spec.workdir or container.image.workdir
    env = container.environment(who, spec.env)
    try:
        directory = container.files.real_path(cwd, who)
        if not stat.S_ISDIR(container.files.locate(directory, who).here.mode):
            raise fail(errno.ENOTDIR, cwd)
    except OSError as error:
        raise _not_run(spec, f"working directory {cwd}: {error.strerror}", 126) from error
    try:
        path = kernel.find(spec.command[0], path=env.get("PATH", ""), cwd=directory, who=who)
        program, argv = kernel.program(path, spec.command, cwd=directory)
        return kernel.spawn(program, argv, env=env, cwd=directory, who=who, streams=streams, session=session)
    except OSError as error:
        code = 127 if isinstance(error, FileNotFoundError) else 126
        raise _not_run(spec, str(error.strerror), code) from error


def _not_run(spec: ExecSpec, reason: str, code: int) -> CommandNotFoundError:
    return CommandNotFoundError(
        f"{spec.command[0]} cannot be run: {reason}", exit_code=code, runtime="fake", subject=spec.command[0]
    )


class _Stdin:
    """The standard input of a command, seen from the host."""

    def __init__(self, pipe: Pipe, terminal: Terminal | None) -> None:
        self._pipe = pipe
        self.terminal = terminal
        self._closed = False

    def write(self, data: bytes, /) -> int:
        """Give ``data`` to the command."""
        if self._closed:
            raise ValueError("write to closed stdin")
        if self.terminal is not None:
            self.terminal.type(data)
        else:
            self._pipe.write(data)
        return len(data)

    def close(self) -> None:
        """End of file."""
        self._closed = True
        if self.terminal is not None:
            self.terminal.hang_up()
        self._pipe.end_writing()


class _Source:
    """An output stream of a command, seen from the host."""

    def __init__(self, pipe: Pipe, board: Switchboard, task: Task, cut: int | None = None) -> None:
        self._pipe = pipe
        self._board = board
        self._task = task
        self._cut = cut

    def read(self, size: int, /) -> bytes:
        """Return what there is; ``b""`` at the end. :raises RuntimeLostError: the connection broke."""
        while not self._board.gone and self._cut != 0:
            data = self._pipe.read(size if self._cut is None else min(size, self._cut), timeout=1.0)
            if data is not None:
                self._cut = None if self._cut is None else self._cut - len(data)
                return data
        raise self._board.lost(" ".join(self._task.argv))

    def close(self) -> None:
        """Read no more."""
        self._pipe.end_reading()


class FakeProcess:
    """A command that runs while we talk to it: see `oubliette_core.models.Process`."""

    def __init__(
        self, kernel: Kernel, task: Task, board: Switchboard, *, stdin: _Stdin, stdout: _Source, stderr: _Source
    ) -> None:
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._kernel = kernel
        self._task = task
        self._board = board
        self._terminal: Terminal | None = stdin.terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the command."""
        task, board = self._task, self._board
        self._kernel.wait(lambda: task.exit_code is not None or board.gone, timeout=timeout)
        if board.gone and task.exit_code is None:
            raise board.lost(" ".join(task.argv))
        return task.exit_code

    def kill(self) -> bool:
        """Kill the whole process tree."""
        return self._kernel.kill_session(self._task.session)

    def resize(self, rows: int, columns: int) -> None:
        """Set the terminal's size."""
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    def close(self) -> None:
        """Kill what is left of a command that still runs, and let go of the streams."""
        if self._task.exit_code is None:
            self.kill()
        self.stdin.close()
        self.stdout.close()
        self.stderr.close()
