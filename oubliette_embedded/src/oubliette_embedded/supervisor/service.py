"""What goes on while a container runs: its output is kept, its commands are run, and its end is waited for."""

from __future__ import annotations

import os
import time
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_SEQPACKET, socket

from oubliette_embedded.supervisor import kernel
from oubliette_embedded.supervisor.commands import CannotRunError, Order, Rules, start
from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.inside import Namespaces
from oubliette_embedded.supervisor.loop import Loop
from oubliette_embedded.supervisor.output import Output
from oubliette_embedded.supervisor.plan import Plan
from oubliette_embedded.supervisor.requests import Connection
from oubliette_embedded.supervisor.running import Running, exit_code
from oubliette_embedded.supervisor.sandbox import Sandbox

__all__ = ["SOCKET", "Service"]

SOCKET = "control"
"""Name of the socket in the container's directory."""
_CHUNK = 65536
_BACKLOG = 128
_PF_EXITING = 0x4
"""Of the flags in ``/proc/PID/stat``; see include/linux/sched.h."""


class Service:
    """Serves one container.

    :param directory: descriptor of the container's. :param printed: where what the main process prints is read.

    :ivar loop: what it waits with.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        directory: int,
        sandbox: Sandbox,
        namespaces: Namespaces,
        rules: Rules,
        output: Output,
        printed: int,
    ) -> None:
        self._plan = plan
        self._directory = directory
        self._sandbox = sandbox
        self._namespaces = namespaces
        self._rules = rules
        self._output = output
        self._printed = printed
        self.loop = Loop()
        self._code: int | None = None
        self._kill_at: float | None = None
        self._waiting: list[Connection] = []
        """Who wants to know of new output and of the end."""
        self._bwrap = os.pidfd_open(sandbox.bwrap)
        self._first = os.pidfd_open(sandbox.first)
        self._main = -1
        self.loop.watch(self._bwrap, self._bwrap_ended)
        self.loop.watch(printed, self._read_output)
        self._socket = self._listen()
        self.loop.watch(self._socket.fileno(), self._accept)

    def _listen(self) -> socket:
        with ignored(FileNotFoundError):
            os.unlink(SOCKET, dir_fd=self._directory)
        listening = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK)
        before = os.umask(0o177)
        # A socket's path has at most 107 bytes, which this one never needs.
        listening.bind(f"/proc/self/fd/{self._directory}/{SOCKET}")
        os.umask(before)
        listening.listen(_BACKLOG)
        return listening

    def serve(self, seconds: float | None = None) -> int | None:
        """Go on until the container has ended, or for so long.

        :returns: the exit code of its main process, or None while it runs.
        """
        until = None if seconds is None else time.monotonic() + seconds
        while self._code is None:
            now = time.monotonic()
            if until is not None and now >= until:
                break
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_at = None
                self._kill()
            moments = [moment - now for moment in (until, self._kill_at) if moment is not None]
            self.loop.turn(min(moments) if moments else None)
        return self._code

    # -- The main process -----------------------------------------------------------------------------------------

    def main_process(self) -> int:
        """Return the id of the main process; 0 when there is none yet."""
        first = self._sandbox.first
        if not self._plan.init:
            return first
        for name in os.listdir("/proc"):
            with ignored(OSError, IndexError):
                if name.isdigit() and _parent(name) == first:
                    return int(name)
        return 0

    def hold_main(self) -> None:
        """Hold on to the main process, now that it runs."""
        with ignored(OSError):
            self._main = os.pidfd_open(self.main_process())

    def _read_output(self) -> None:
        try:
            data = os.read(self._printed, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self.loop.forget(self._printed)
            return
        self._output.add(data)
        for connection in self._waiting:
            connection.say(b"more")

    def _bwrap_ended(self) -> None:
        """The main process has ended; what else is inside ends with the first process."""
        self.loop.forget(self._bwrap)
        _, status = os.waitpid(self._sandbox.bwrap, 0)
        self._kill()
        # It does not end before commands have been reaped that were killed with it, which the loop goes on doing.
        self.loop.watch(self._first, lambda: self._first_ended(exit_code(status)))

    def _first_ended(self, code: int) -> None:
        self.loop.forget(self._first)
        with ignored(BlockingIOError):
            while data := os.read(self._printed, _CHUNK):
                self._output.add(data)
        self._code = code

    def _kill(self) -> None:
        """Kill everything in the container: the kernel does that when its first process ends."""
        with ignored(OSError):
            kernel.send_signal(self._first, kernel.SIGKILL)

    def _is_ending(self) -> bool:
        """Tell whether the first process has begun to end, and with it all others."""
        try:
            with open(f"/proc/{self._sandbox.first}/stat", "rb") as file:
                return bool(int(file.read().rpartition(b")")[2].split()[6]) & _PF_EXITING)
        except (OSError, IndexError):
            return True

    # -- Clients --------------------------------------------------------------------------------------------------

    def _accept(self) -> None:
        with ignored(OSError):
            # What `accept` of the module `socket` is made of: to import that would cost more than all the rest.
            descriptor, _ = self._socket._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            connection = Connection(socket(fileno=descriptor))
            self.loop.watch(descriptor, lambda: self._asked(connection))

    def _asked(self, connection: Connection) -> None:
        self.loop.forget(connection.fileno())
        try:
            ((what, *words), *lists), streams = connection.request()
        except ValueError:
            connection.close()
            return
        if what == b"run":
            self._run(connection, words, lists, streams)
            return
        if what == b"stop":
            self._stop(float(words[0]))
        self._waiting.append(connection)
        connection.say(b"ready")
        self.loop.watch(connection.fileno(), lambda: self._left(connection))

    def _left(self, connection: Connection) -> None:
        self.loop.forget(connection.fileno())
        self._waiting.remove(connection)
        connection.close()

    def _stop(self, grace: float) -> None:
        """Ask the main process to end, and kill it later; to be asked again can only make that sooner."""
        if self._kill_at is None and self._main >= 0 and grace > 0:
            with ignored(OSError):
                kernel.send_signal(self._main, self._plan.stop_signal)
        moment = time.monotonic() + grace
        self._kill_at = moment if self._kill_at is None else min(moment, self._kill_at)

    def _run(self, connection: Connection, words: list[bytes], lists: list[list[bytes]], streams: list[int]) -> None:
        (user, workdir), (argv, env) = words, lists
        order = Order(
            argv=argv,
            env=env,
            user=user.decode(errors="replace"),
            workdir=workdir,
            streams=streams,
            answer=connection.fileno(),
        )
        try:
            started = start(self._rules, order)
        except CannotRunError as error:
            connection.say(f"failed 126 {error}".encode())
            connection.close()
        else:
            Running(self.loop, self._namespaces, connection, started, self._is_ending)
        finally:
            for descriptor in streams:
                os.close(descriptor)

    # -- The end --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take no more requests."""
        self._socket.close()
        with ignored(OSError):
            os.unlink(SOCKET, dir_fd=self._directory)

    def tell_end(self) -> None:
        """Let those know who wait for the end."""
        for connection in self._waiting:
            connection.say(b"ended")


def _parent(pid: str) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[1])
