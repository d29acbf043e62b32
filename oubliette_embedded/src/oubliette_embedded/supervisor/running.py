"""A command that runs, and the client that wanted it."""

from __future__ import annotations

import os
from collections.abc import Callable

from oubliette_embedded.supervisor.commands import Started
from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.inside import Namespaces
from oubliette_embedded.supervisor.killing import kill_all
from oubliette_embedded.supervisor.loop import Loop
from oubliette_embedded.supervisor.requests import Connection
from oubliette_embedded.supervisor.trampoline import ABSENT, READY

__all__ = ["Running", "exit_code"]

_KILLED = 128 + 9
_CHUNK = 65536


def exit_code(status: int) -> int:
    """Return the exit code by a status of wait(2), as shells give it: 128 and the signal for what was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


class Running:
    """Tells a client what becomes of its command, and kills the command when it is told to.

    It also does when the client is gone before its command: nobody is there who could want it any more.

    :param is_ending: tells whether the container is at its end.
    """

    def __init__(
        self,
        loop: Loop,
        namespaces: Namespaces,
        connection: Connection,
        started: Started,
        is_ending: Callable[[], bool],
    ) -> None:
        self._is_ending = is_ending
        self._loop = loop
        self._namespaces = namespaces
        self._connection = connection
        self._started = started
        self._mark = os.fstat(started.mark).st_ino
        self._process = os.pidfd_open(started.pid)
        self._running = True
        self._starting = True
        loop.watch(started.status, self._executed)
        loop.watch(self._process, self._ended)
        loop.watch(connection.fileno(), self._told)

    def _executed(self) -> None:
        """The command is about to be executed, has been, or could not be."""
        reason = os.read(self._started.status, _CHUNK)
        if reason == READY:
            return
        reason = reason.removeprefix(READY)
        self._starting = False
        self._loop.forget(self._started.status)
        os.close(self._started.status)
        if not reason:
            self._connection.say(b"started")
        elif len(reason) == 1:
            text = os.strerror(reason[0]).encode()
            self._connection.say(b"failed %d %s" % (127 if reason[0] in ABSENT else 126, text))
        else:
            self._connection.say(b"failed 126 " + reason)

    def _ended(self) -> None:
        while self._starting:  # it has come to both at once
            self._executed()
        self._loop.forget(self._process)
        os.close(self._process)
        _, status = os.waitpid(self._started.pid, 0)
        self._running = False
        code = exit_code(status)
        # Who was killed with the whole container has not ended: nobody knows what would have come of it.
        lost = code == _KILLED and self._is_ending()
        self._connection.say(b"lost" if lost else b"exit %d" % code)

    def _told(self) -> None:
        message, descriptors = self._connection.receive()
        if message == b"kill":
            self._kill(self._connection)
        elif message == b"drain":
            for descriptor in descriptors:
                self._drain(descriptor)
        if not message:
            self._left()

    def _left(self) -> None:
        self._loop.forget(self._connection.fileno())
        self._connection.close()
        if self._running:
            self._kill(None)
        os.close(self._started.mark)

    def _kill(self, listener: Connection | None) -> None:
        """Kill all of it in a process of its own, so that others need not wait."""

        def work() -> None:
            killed = kill_all(self._mark, self._namespaces)
            if listener is not None:
                listener.say(b"killed %d" % killed)

        self._loop.in_background(work)

    def _drain(self, descriptor: int) -> None:
        """Read what a command's children print after its end, so that they can go on printing."""
        os.set_blocking(descriptor, False)

        def read() -> None:
            with ignored(BlockingIOError):
                if not os.read(descriptor, _CHUNK):
                    self._loop.forget(descriptor)
                    os.close(descriptor)

        self._loop.watch(descriptor, read)
