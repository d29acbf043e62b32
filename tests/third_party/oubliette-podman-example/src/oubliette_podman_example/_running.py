"""Running commands in containers, and ending them with all that they started."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import IO, Self

import attrs

from oubliette_core.errors import CommandNotFoundError, OublietteError, RuntimeLostError
from oubliette_core.guest import Marks, Verdict, can_supervise, kill_tree, not_run, supervised
from oubliette_core.models import ByteSink, ByteSource, Cancel, ExecResult, ExecSpec
from oubliette_podman_example._command import NAME, Podman, last_line, variables

_KILL_WITHIN = 1.9
_CHUNK = 65536
_NOT_STARTED = re.compile(rb"^Error: .*(OCI runtime|OCI permission|unable to find user|unable to start container)")


class Runner:
    """Runs commands in the containers of one Podman. Safe between threads.

    :param is_running: tells whether a container runs.
    """

    def __init__(self, podman: Podman, is_running: Callable[[str], bool]) -> None:
        self.podman, self.is_running = podman, is_running
        self.marks = Marks()
        self.freezing = threading.Lock()

    def open(self, container: str, spec: ExecSpec) -> Command:
        """See `RuntimeSpec.open_exec`; the container runs."""
        return Command(self, container, spec, interactive=True)

    def run(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """See `RuntimeSpec.exec`; the container runs."""
        if cancel is not None and cancel.cancelled:
            return ExecResult(exit_code=None, cancelled=True, killed=True)
        began = time.monotonic()
        with Command(self, container, spec, interactive=bool(spec.stdin)) as command:
            output = command.collected(spec.stdin, spec.output_limit)
            ended = _first_of(command, cancel, spec.timeout)
            if ended:
                result = ExecResult(exit_code=command.wait())
            else:
                cancelled = cancel is not None and cancel.cancelled
                result = ExecResult(exit_code=None, timed_out=not cancelled, cancelled=cancelled, killed=command.kill())
                command.let_go()
            stdout, stderr = output()
        if ended:
            command.raise_if_not_run(stdout, stderr)
        return attrs.evolve(
            result,
            stdout=bytes(stdout.data),
            stderr=bytes(stderr.data),
            truncated=stdout.truncated or stderr.truncated,
            duration=time.monotonic() - began,
        )


def _first_of(command: Command, cancel: Cancel | None, timeout: float | None) -> bool:
    """Wait until the command has ended, its time is over or the caller cancels; True for the first of them."""
    news = threading.Event()
    forget = cancel.on_cancel(news.set) if cancel is not None else lambda: None
    command.tell(news)
    try:
        news.wait(timeout)
    finally:
        forget()
    return command.has_ended()


class Command:
    """A command that runs in a container: the `Process` that `open_exec` gives."""

    def __init__(self, runner: Runner, container: str, spec: ExecSpec, *, interactive: bool) -> None:
        self._runner, self._container, self._spec = runner, container, spec
        self._mark = runner.marks.new()
        # Without the shell in front of it, a command is found again by its variable alone.
        self._limited = can_supervise(spec.command, spec.env)
        argv = supervised(spec.command, self._mark) if self._limited else spec.command
        options, inherited = variables({**spec.env, **self._mark.variable})
        options += ["--interactive"] if interactive else []
        options += [f"--workdir={spec.workdir}"] if spec.workdir else []
        options += [f"--user={spec.user}"] if spec.user else []
        self._began = time.monotonic()
        self._process = runner.podman.start(
            ("exec", *options, container, *argv),
            subject=container,
            env=inherited,
            stdin=subprocess.PIPE if interactive else subprocess.DEVNULL,
        )
        self.stdin: ByteSink = self._process.stdin or io.BytesIO()
        self.stdout: ByteSource = raw_pipe(self._process.stdout)
        self.stderr: ByteSource = raw_pipe(self._process.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """See `Process.wait`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def resize(self, rows: int, columns: int) -> None:
        """Do nothing: there is never a terminal."""

    def close(self) -> None:
        """See `Process.close`."""
        if not self.has_ended():
            self.kill()
            self.let_go()
        with contextlib.suppress(OSError):
            self.stdin.close()
        for pipe in (self._process.stdout, self._process.stderr):
            raw_pipe(pipe).close()

    def has_ended(self) -> bool:
        """Tell whether ``podman exec`` has come to its end, which is that of the command."""
        return self._process.poll() is not None

    def let_go(self) -> None:
        """End ``podman exec`` itself, whatever became of the command."""
        self._process.kill()
        self._process.wait()

    def tell(self, news: threading.Event) -> None:
        """Set ``news`` when the command ends."""

        def wait() -> None:
            self._process.wait()
            news.set()

        threading.Thread(target=wait, daemon=True).start()

    # -- Killing --------------------------------------------------------------------------------------------------

    def kill(self) -> bool:
        """See `Process.kill`.

        What the killer saw counts only when the command can start nothing any more: it was among what was killed, or
        had ended before. Podman may still be about to start it.
        """
        until = time.monotonic() + _KILL_WITHIN
        ended, user = self.has_ended(), "0:0"
        while time.monotonic() < until:
            try:
                verdict = self._strike(user, until)
            except OublietteError:
                if not self._runner.is_running(self._container):
                    return True  # and all its processes with it
                continue
            if verdict.found:
                self.wait(0.2)
            before, ended = ended, self.has_ended()
            if verdict.complete and ended and not verdict.left and (before or verdict.found):
                return self._runner.marks.confirms(verdict, ended=True)
            if verdict.left and self._spec.user:  # root without the right to kill other users' processes
                user = self._spec.user if user == "0:0" else "0:0"
        return False

    def _strike(self, user: str, until: float) -> Verdict:
        """Run the killer once."""
        freeze = self._runner.freezing.acquire(blocking=False)
        try:
            age = time.monotonic() - self._began
            argv = kill_tree(self._mark, age, limited=self._limited, freeze=freeze)
            left = max(until - time.monotonic(), 0.1)
            printed = self._runner.podman.run(
                "exec", f"--user={user}", "--workdir=/", self._container, *argv, subject=self._container, timeout=left
            )
            return Verdict.read(printed.encode())
        finally:
            if freeze:
                self._runner.freezing.release()

    # -- Output ---------------------------------------------------------------------------------------------------

    def collected(self, stdin: bytes, limit: int) -> Callable[[], tuple[Kept, Kept]]:
        """Begin to write the input and to read the output; the result waits for the end of it."""
        stdout, stderr = Kept(limit), Kept(limit)
        readers = [
            threading.Thread(target=stdout.read, args=(self.stdout,), daemon=True),
            threading.Thread(target=stderr.read, args=(self.stderr,), daemon=True),
        ]
        if stdin:
            threading.Thread(target=_write, args=(self.stdin, stdin), daemon=True).start()
        for reader in readers:
            reader.start()

        def result() -> tuple[Kept, Kept]:
            for reader in readers:
                reader.join(1.0)
            return stdout, stderr

        return result

    def raise_if_not_run(self, stdout: Kept, stderr: Kept) -> None:
        """Raise what the end of the command means, when it is not its own.

        Podman says on the command's standard error what kept it from starting it.
        """
        code = self._process.returncode
        shell_failed = self._limited and not_run(self._mark, code, stderr.tail)
        podman_failed = code in (125, 126, 127, 255) and _NOT_STARTED.match(stderr.tail)
        if shell_failed or podman_failed:
            cause = "the container has no such command" if code == 127 else "it is not executable"
            raise CommandNotFoundError(
                f"{self._spec.command[0]} could not be run in container {self._container}: "
                + (cause if shell_failed else last_line(stderr.tail.decode(errors="replace"))),
                exit_code=code if shell_failed else 126,
                runtime=NAME,
                subject=self._container,
            )
        if code in (137, 255) and not self._runner.is_running(self._container):
            raise RuntimeLostError(
                f"container {self._container} ended while the command ran in it",
                runtime=NAME,
                subject=self._container,
                stdout=bytes(stdout.data),
                stderr=bytes(stderr.data),
            )


class Kept:
    """The output of a command up to a limit, and the end of it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.data, self.tail = bytearray(), b""
        self.truncated = False

    def read(self, pipe: ByteSource) -> None:
        """Read to the end."""
        for part in chunks(pipe):
            room = self._limit - len(self.data)
            self.data += part[:room]
            self.truncated = self.truncated or len(part) > room
            self.tail = (self.tail + part)[-4096:]


def chunks(pipe: ByteSource) -> Iterator[bytes]:
    """Give what is read from a pipe, as it comes, until its end or until it is closed."""
    with contextlib.suppress(OSError, ValueError):
        while part := pipe.read(_CHUNK):
            yield part


def _write(pipe: ByteSink, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(OSError, ValueError):  # the command need not read to the end
        while view:
            view = view[pipe.write(bytes(view[:_CHUNK])) or 0 :]
        pipe.close()


def raw_pipe(pipe: IO[bytes] | None) -> io.FileIO:
    """Give a pipe of a process that was started without buffers."""
    assert isinstance(pipe, io.FileIO)
    return pipe
