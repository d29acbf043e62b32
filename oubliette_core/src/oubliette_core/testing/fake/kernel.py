"""Processes, pipes and signals of a fake container.

A process is a thread that runs a *program*: a Python function that gets the process and returns an exit code. It
uses nothing of the host's processes. All waiting (for a pipe, a child, time) happens in `Kernel.wait`, which a signal
wakes, so that a kill takes effect at once and is certain. A program that computes without ever reading, writing or
sleeping should call `Task.check` now and then.
"""

from __future__ import annotations

import errno
import signal
import stat
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NoReturn

from oubliette_core.testing.fake.files import ROOT
from oubliette_core.testing.fake.nodes import Identity, fail
from oubliette_core.testing.fake.streams import PIPE_SIZE, OpenFile

if TYPE_CHECKING:
    from oubliette_core.testing.fake.files import Files

__all__ = ["EXIT_BY_SIGNAL", "Ended", "Kernel", "Program", "Session", "Task"]

EXIT_BY_SIGNAL = 128
MAGIC = b"\x7fFAKE "
"""How the file of a program begins; its name follows."""
_IGNORED = {signal.SIGCHLD, signal.SIGWINCH, signal.SIGURG}

Program = Callable[["Task"], int]
"""What a command does: it uses the task's arguments, streams and files, and returns an exit code."""


class Ended(BaseException):
    """Ends a program from within; not an `Exception`, so that no program catches it by accident."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Session:
    """The processes that come from one start of a container or one exec, however they detach."""


class Kernel:
    """What the processes of one running container share.

    :param files: the file system they see. :param programs: what commands do, by name.
    :param pids: most processes at a time; None for no limit. :param machine: what ``uname -m`` says.
    """

    def __init__(
        self,
        files: Files,
        programs: Mapping[str, Program],
        *,
        pids: int | None = None,
        hostname: str = "fake",
        machine: str = "x86_64",
    ) -> None:
        self.files = files
        self.programs = programs
        self.hostname = hostname
        self.machine = machine
        lock = threading.RLock()
        self.lock = threading.Condition(lock)
        self._rested = threading.Condition(lock)
        self.tasks: dict[int, Task] = {}
        self.frozen = False
        self.started = time.monotonic()
        self._pids = pids
        self._last_pid = 0

    def wait(self, ready: Callable[[], bool], *, timeout: float | None = None, task: Task | None = None) -> bool:
        """Wait until ``ready`` (called with the lock held); False after ``timeout`` seconds.

        :param task: who waits; a signal that ends it raises `Ended` here. None for a thread of the host.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            while True:
                if task is not None:
                    task.check()
                if not (task and self.frozen) and ready():
                    return True
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._rest(ready, left, task)

    def _rest(self, ready: Callable[[], bool], left: float | None, task: Task | None) -> None:
        if task is None:
            self.lock.wait(left)
            return
        task.waiting = ready
        self._rested.notify_all()
        self.lock.wait(left)
        task.waiting = None

    def wake(self) -> None:
        """Let everyone who waits look again."""
        with self.lock:
            self.lock.notify_all()

    def note_end(self) -> None:
        """A process has ended, with the lock held: whoever waits looks again."""
        self.lock.notify_all()
        self._rested.notify_all()

    def settle(self, main: Task, *, timeout: float) -> bool:
        """Wait until every process waits for something that has not happened, or ``main`` has ended.

        :returns: whether ``main`` is alive.
        """

        def settled() -> bool:
            tasks = self.tasks.values()
            return main.exit_code is not None or all(
                task.waiting is not None and task.fatal is None and not task.waiting() for task in tasks
            )

        with self.lock:
            self._rested.wait_for(settled, timeout)
            return main.exit_code is None

    def spawn(
        self,
        program: Program,
        argv: tuple[str, ...],
        *,
        parent: Task | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        who: Identity = ROOT,
        streams: Mapping[int, OpenFile],
        session: Session | None = None,
        at_end: Callable[[], None] | None = None,
    ) -> Task:
        """Start a process. It gets references of its own to ``streams``.

        :param at_end: called once it has ended.

        :raises OSError: EAGAIN, there are as many as the limit allows.
        """
        with self.lock:
            if self._pids is not None and len(self.tasks) >= self._pids:
                raise fail(errno.EAGAIN)
            self._last_pid += 1
            task = Task(self, self._last_pid, program, argv)
            task.parent, task.session = parent, session or (parent.session if parent else Session())
            task.env, task.cwd, task.who = dict(env or {}), cwd, who
            task.streams = {number: stream.share() for number, stream in streams.items()}
            if parent is not None:
                task.group, task.ignored = parent.group, set(parent.ignored)
            task.at_end = at_end
            self.tasks[task.pid] = task
        task.start()
        return task

    def find(self, name: str, *, path: str = "", cwd: str = "/", who: Identity) -> str:
        """Return the path of a command, looked up in the directories of ``path`` unless it has a slash.

        :raises OSError: ENOENT or EACCES.
        """
        candidates = [name] if "/" in name else [f"{directory or '.'}/{name}" for directory in path.split(":")]
        denied = False
        for candidate in candidates:
            try:
                node = self.files.locate(candidate, who, cwd=cwd).here
            except OSError as error:
                denied = denied or error.errno == errno.EACCES
                continue
            if stat.S_ISREG(node.mode) and self.files.allowed(node, who, 1):
                return candidate
            denied = True
        raise fail(errno.EACCES if denied else errno.ENOENT, name)

    def program(self, path: str, argv: tuple[str, ...], *, cwd: str = "/") -> tuple[Program, tuple[str, ...]]:
        """Return what a file does when it is executed, and its arguments.

        A file of the fake's own names its program; a binary of a real image is known by the name of its file; a
        script by its first line; any other text is one for ``sh``.

        :raises OSError: ENOEXEC, or ENOENT when a script's interpreter is missing.
        """
        head = self.files.read(path, cwd=cwd)[:256]
        line, _, _ = head.partition(b"\n")
        if line.startswith(MAGIC):
            return self._named(line[len(MAGIC) :].decode(), path), argv
        if line.startswith(b"\x7fELF"):
            return self._named(path.rpartition("/")[2], path), argv
        if line.startswith(b"#!"):
            words = line[2:].decode("utf-8", "surrogateescape").split(None, 1)
            return self.program(words[0], (*words, path, *argv[1:]))
        if b"\0" in head:
            raise fail(errno.ENOEXEC, path)
        return self._named("sh", path), ("sh", path, *argv[1:])

    def _named(self, name: str, path: str) -> Program:
        if name not in self.programs:
            raise fail(errno.ENOEXEC, path)
        return self.programs[name]

    def current(self) -> Task | None:
        """Return the process whose thread asks."""
        with self.lock:
            return next((task for task in self.tasks.values() if task.runs_here()), None)

    def signal(self, pid: int, number: int) -> bool:
        """Send a signal; False if there is no such process."""
        with self.lock:
            task = self.tasks.get(pid)
            if task is None:
                return False
            task.deliver(number)
            self.lock.notify_all()
            return True

    def of_session(self, session: Session) -> list[Task]:
        """List the processes that come from one exec."""
        with self.lock:
            return [task for task in self.tasks.values() if task.session is session]

    def kill_session(self, session: Session, *, timeout: float = 2.0) -> bool:
        """Kill all that come from one exec; True once none is left."""

        def none_left() -> bool:
            left = self.of_session(session)
            for task in left:
                task.deliver(signal.SIGKILL, force=True)
            if left:
                self.lock.notify_all()
            return not left

        return self.wait(none_left, timeout=timeout)

    def kill_all(self, *, timeout: float = 5.0) -> bool:
        """Kill every process; True once none is left."""
        with self.lock:
            self.frozen = False
        sessions = {task.session for task in list(self.tasks.values())}
        return all(self.kill_session(session, timeout=timeout) for session in sessions)

    def freeze(self, frozen: bool) -> None:
        """Pause all processes, or let them go on."""
        with self.lock:
            self.frozen = frozen
            self.lock.notify_all()


class Task:
    """A process: what a program acts through.

    :ivar argv: its name and arguments. :ivar env: its variables. :ivar cwd: real path of its working directory.
    :ivar who: its user and group. :ivar streams: its open files by number; 0, 1 and 2 as everywhere.
    """

    def __init__(self, kernel: Kernel, pid: int, program: Program, argv: tuple[str, ...]) -> None:
        self.kernel = kernel
        self.pid = pid
        self.argv = argv
        self.env: dict[str, str] = {}
        self.cwd = "/"
        self.who = Identity()
        self.parent: Task | None = None
        self.session = Session()
        self.streams: dict[int, OpenFile] = {}
        self.exit_code: int | None = None
        self.caught: set[int] = set()
        self.ignored: set[int] = set()
        self.pending: list[int] = []
        self.fatal: int | None = None
        self.stopped = False
        self.group = pid
        self.at_end: Callable[[], None] | None = None
        self.waiting: Callable[[], bool] | None = None
        self._program = program
        self._thread = threading.Thread(target=self._run, name=f"fake-{pid}-{argv[0][-20:]}", daemon=True)

    # -- For programs ---------------------------------------------------------------------------------------------

    @property
    def files(self) -> Files:
        """The file system it sees."""
        return self.kernel.files

    def check(self) -> None:
        """End here if a signal has ended this process; wait here while one has stopped it."""
        with self.kernel.lock:
            while self.stopped and self.fatal is None:
                self.kernel.lock.wait()
        if self.fatal is not None:
            raise Ended(EXIT_BY_SIGNAL + self.fatal)

    def read(self, size: int = PIPE_SIZE, number: int = 0) -> bytes:
        """Read at least one byte of a stream and at most ``size``; ``b""`` at its end."""
        return self._stream(number).read(size, self)

    def read_line(self, number: int = 0) -> bytes:
        """Read a stream up to its next newline and not a byte further; without one up to its end."""
        return self._stream(number).read_line(self)

    def read_all(self, number: int = 0) -> bytes:
        """Read a stream to its end."""
        return b"".join(iter(lambda: self.read(number=number), b""))

    def write(self, data: bytes | str, number: int = 1) -> None:
        """Write all of ``data``; ends the process with SIGPIPE when nobody reads."""
        self._stream(number).write(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data, self)

    def complain(self, text: str) -> int:
        """Write one line to standard error, with the program's name before it; returns 1."""
        self.write(f"{self.argv[0].rpartition('/')[2]}: {text}\n", 2)
        return 1

    def exit(self, code: int) -> NoReturn:
        """End this program here."""
        raise Ended(code)

    def sleep(self, seconds: float) -> None:
        """Let time pass; a signal ends it."""
        self.kernel.wait(lambda: False, timeout=seconds, task=self)

    def wait_for(self, child: Task, *, interruptible: bool = False) -> int | None:
        """Wait for the end of a child; its exit code, or None when a caught signal came first."""
        self.kernel.wait(lambda: child.exit_code is not None or (interruptible and bool(self.pending)), task=self)
        return child.exit_code

    def become(self, program: Program, argv: tuple[str, ...]) -> int:
        """Run another program in this process, as exec(2) does."""
        self.argv = argv
        self.caught = set()
        return program(self)

    def _stream(self, number: int) -> OpenFile:
        stream = self.streams.get(number)
        if stream is None:
            raise fail(errno.EBADF)
        return stream

    # -- For the kernel -------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to run."""
        self._thread.start()

    def runs_here(self) -> bool:
        """Tell whether the current thread is this process."""
        return self._thread is threading.current_thread()

    def deliver(self, number: int, *, force: bool = False) -> None:
        """Take note of a signal, with the kernel's lock held."""
        if number == signal.SIGKILL:
            # PID 1 is immune to the signals of its own container, not to those of the engine.
            if force or self.pid != 1:
                self.fatal = int(number)
        elif number in (signal.SIGSTOP, signal.SIGCONT):
            self.stopped = number == signal.SIGSTOP and (force or self.pid != 1)
        elif number in self.caught:
            self.pending.append(number)
        elif number not in self.ignored and number not in _IGNORED and number != 0 and (force or self.pid != 1):
            self.fatal = int(number)

    def _run(self) -> None:
        code = 1
        try:
            self.check()
            code = self._program(self)
        except Ended as end:
            code = end.code
        except BrokenPipeError:
            code = EXIT_BY_SIGNAL + signal.SIGPIPE
        except OSError as error:
            self._last_words(f"{self.argv[0]}: {error.filename or ''}: {error.strerror}\n")
        except Exception:  # noqa: BLE001 - a bug in a test's own program is shown as Python shows it, and is not ours
            self._last_words(traceback.format_exc())
        finally:
            self._finish(code)

    def _last_words(self, text: str) -> None:
        try:
            self.write(text, 2)
        except (Ended, OSError):
            return

    def _finish(self, code: int) -> None:
        with self.kernel.lock:
            for stream in self.streams.values():
                stream.close()
            self.streams = {}
            self.kernel.tasks.pop(self.pid, None)
            for task in self.kernel.tasks.values():
                if task.parent is self:
                    task.parent = self.kernel.tasks.get(1)
            self.exit_code = self._final(code)
            if self.pid == 1:
                for task in self.kernel.tasks.values():
                    task.deliver(signal.SIGKILL, force=True)
            self.kernel.note_end()
        if self.at_end is not None:
            self.at_end()

    def _final(self, code: int) -> int:
        return EXIT_BY_SIGNAL + self.fatal if self.fatal is not None else code & 0xFF
