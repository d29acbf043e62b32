"""Connecting a container's own network with the world, by a program that carries the traffic (see `_network`)."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence

from oubliette_embedded.supervisor import kernel
from oubliette_embedded.supervisor.files import ignored
from oubliette_embedded.supervisor.inside import apart
from oubliette_embedded.supervisor.loop import wait_readable
from oubliette_embedded.supervisor.sandbox import NotStartedError

__all__ = ["Carrier"]

_SECONDS = 10.0
_LOOK_EVERY = 0.001
_ABOVE = 64


class Carrier:
    """The program that carries a container's traffic.

    It takes some milliseconds to set itself up, in which the sandbox can be made.

    :param command: its argv, in which ``{user}`` and ``{net}`` stand for the paths of the container's namespaces.
    :param user: descriptor of the user namespace that owns the network. :param net: of the network namespace.
    """

    def __init__(self, command: Sequence[bytes], user: int, net: int) -> None:
        self._name = os.path.basename(command[0]).decode(errors="replace")
        parent = os.getpid()
        self._process = apart(lambda: _execute(command, user, net, parent))

    def wait(self, first: int) -> None:
        """Wait until the container has a way out.

        :param first: id of the container's first process.
        :raises NotStartedError: the program gave up, or took too long.
        """
        watched = os.pidfd_open(self._process)
        deadline = time.monotonic() + _SECONDS
        while not _has_route(first):
            ended = wait_readable(watched, _LOOK_EVERY)
            if ended or time.monotonic() > deadline:
                self.close()
                raise NotStartedError(f"{self._name} could not connect it to the network")
        os.close(watched)

    def close(self) -> None:
        """End it."""
        with ignored(OSError):
            os.kill(self._process, kernel.SIGKILL)
            os.waitpid(self._process, 0)


def _execute(command: Sequence[bytes], user: int, net: int, parent: int) -> None:
    kernel.die_with_parent(parent)
    places = [f"/proc/self/fd/{_hand_on(namespace)}".encode() for namespace in (user, net)]
    argv = [word.replace(b"{user}", places[0]).replace(b"{net}", places[1]) for word in command]
    os.dup2(os.open("/dev/null", os.O_RDWR), 0)
    os.dup2(2, 1)
    kernel.reset_signals()
    os.execve(argv[0], argv, {b"PATH": b"/usr/sbin:/usr/bin:/sbin:/bin"})


def _hand_on(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE)


def _has_route(pid: int) -> bool:
    """Tell whether a process's network has a default route (proc_net(5): to nowhere in particular, by a gateway)."""
    try:
        with open(f"/proc/{pid}/net/route", "rb") as file:
            return any(line.split()[1:2] == [b"00000000"] for line in file)
    except OSError:
        return False
