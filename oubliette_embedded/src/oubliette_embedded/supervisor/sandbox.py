"""Starting the sandbox: bubblewrap makes it, and before the image's first process runs, it is completed."""

from __future__ import annotations

import fcntl
import os
from _socket import AF_UNIX, SOCK_DGRAM, socket, socketpair
from collections.abc import Sequence

from oubliette_embedded.supervisor import files, kernel
from oubliette_embedded.supervisor.inside import apart, offer
from oubliette_embedded.supervisor.loop import wait_readable
from oubliette_embedded.supervisor.trampoline import READY
from oubliette_embedded.supervisor.users import User

__all__ = ["Launch", "NotStartedError", "OwnNamespaces", "Sandbox", "launch"]

_SETTING_UP = 20.0
"""Seconds that bubblewrap may take."""
_ABOVE = 64
"""Where descriptors are out of the way of those that the main process has."""


class NotStartedError(Exception):
    """The sandbox could not be made. Its text says why."""


class OwnNamespaces:
    """A user namespace in which every id is what it is outside, and a network namespace that belongs to it.

    Who owns the former has all capabilities in it, so bubblewrap can be that user, and its sandbox's first process as
    well.

    :param network: whether there is one.

    :ivar user: descriptor of the user namespace. :ivar net: of the network namespace; -1 when there is none.
    :raises NotStartedError: they could not be made.
    """

    def __init__(self, owner: User, *, network: bool) -> None:
        ready, tell = os.pipe()
        go, release = os.pipe()

        def hold() -> None:
            os.close(release)
            os.setgroups([])
            os.setresgid(*[owner.gid] * 3)
            os.setresuid(*[owner.uid] * 3)
            kernel.unshare(kernel.CLONE_NEWUSER | (kernel.CLONE_NEWNET if network else 0))
            if network:
                kernel.start_loopback()
            os.write(tell, b"x")
            os.read(go, 1)

        self._holder = apart(hold)
        os.close(tell)
        os.close(go)
        try:
            if not os.read(ready, 1):
                raise NotStartedError("a user namespace could not be made")
            for kind in ("uid_map", "gid_map"):
                with open(f"/proc/self/{kind}", "rb") as file:
                    ranges = [line.split() for line in file]
                text = b"".join(b"%s %s %s\n" % (first, first, count) for first, _, count in ranges)
                files.write(f"/proc/{self._holder}/{kind}", text)
            self.user = self._open("user")
            self.net = self._open("net") if network else -1
        finally:
            os.close(ready)
            os.close(release)

    def _open(self, kind: str) -> int:
        return os.open(f"/proc/{self._holder}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let them go, and with them the process that made them."""
        for namespace in (self.user, self.net):
            if namespace >= 0:
                os.close(namespace)
        os.waitpid(self._holder, 0)


class Launch:
    """What a sandbox is made of.

    :param program: descriptor of bubblewrap. :param arguments: descriptor of its options, as ``--args`` takes them.
    :param library: descriptor of a library that it needs; -1 where the machine has them all.
    :param system_calls: descriptor of the program of seccomp(2).
    :param trampoline: descriptor of the program that executes the main process. :param argv: its arguments.
    :param user: whom bubblewrap and the main process run as, where all ids are mapped; else None.
    :param namespaces: in which the sandbox is made, where all ids are mapped; else bubblewrap makes its own.
    :param groups: files of control groups that the processes have to be written to.
    """

    def __init__(
        self,
        *,
        program: int,
        library: int,
        arguments: int,
        system_calls: int,
        trampoline: int,
        argv: Sequence[bytes],
        user: User | None,
        namespaces: OwnNamespaces | None,
        groups: Sequence[bytes],
        output: int,
    ) -> None:
        self.program = program
        self.library = library
        self.arguments = arguments
        self.system_calls = system_calls
        self.trampoline = trampoline
        self.argv = argv
        self.user = user
        self.namespaces = namespaces
        self.groups = groups
        self.output = output


class Sandbox:
    """A sandbox that has been made.

    :ivar bwrap: process id of bubblewrap outside of it. :ivar first: of its first process.
    :ivar executed: a descriptor that ends when the main process has been executed, or gives why it was not.
    """

    def __init__(self, bwrap: int, status: int, executed: int, gate: socket) -> None:
        self.bwrap = bwrap
        self.executed = executed
        self.first = 0
        self._status = status
        self._gate = gate

    def read_first(self) -> None:
        """Wait for the id of the first process. :raises NotStartedError: bubblewrap gave up."""
        told = b""
        while b"\n" not in told:
            if not wait_readable(self._status, _SETTING_UP):
                raise NotStartedError("bubblewrap did not make the sandbox in time")
            data = os.read(self._status, 4096)
            if not data:
                raise NotStartedError("bubblewrap could not make the sandbox")
            told += data
        digits = told.partition(b'"child-pid":')[2].split(b",")[0].strip(b" }\n")
        self.first = int(digits)

    def wait_made(self) -> None:
        """Wait until the sandbox is complete but for what we add. :raises NotStartedError: bubblewrap gave up."""
        if not wait_readable(self.executed, _SETTING_UP):
            raise NotStartedError("bubblewrap did not make the sandbox in time")
        if os.read(self.executed, 1) != READY:
            raise NotStartedError("bubblewrap could not make the sandbox")

    def release(self) -> None:
        """Let the main process run."""
        self._gate.send(b"g")
        self._gate.close()


def launch(plan: Launch, parent: int) -> Sandbox:
    """Start bubblewrap. :param parent: this process's id."""
    # A socket for datagrams: who waits on it goes on waiting when this process dies, unlike on a pipe.
    gate, held = socketpair(AF_UNIX, SOCK_DGRAM)
    status, told = os.pipe()
    executed, tell = os.pipe()

    def become() -> None:
        kernel.die_with_parent(parent)
        offer()
        for file in plan.groups:
            files.write(file, b"0")
        if plan.namespaces is not None and plan.namespaces.net >= 0:
            kernel.setns(plan.namespaces.net)
        if plan.user is not None:
            os.setgroups(plan.user.groups)
            os.setresgid(*[plan.user.gid] * 3)
            os.setresuid(*[plan.user.uid] * 3)
            kernel.die_with_parent(parent)  # who becomes another user begins anew
        _execute(plan, told=told, tell=tell, held=held.fileno())

    bwrap = apart(become)
    os.close(told)
    os.close(tell)
    held.close()
    return Sandbox(bwrap, status, executed, gate)


def _execute(plan: Launch, *, told: int, tell: int, held: int) -> None:
    """Execute bubblewrap; what it inherits is first moved out of the way of what it hands on."""
    null = os.open("/dev/null", os.O_RDONLY)
    inherited = {
        "--args": plan.arguments,
        "--seccomp": plan.system_calls,
        "--json-status-fd": told,
        "--userns": -1 if plan.namespaces is None else plan.namespaces.user,
    }
    options = [
        word.encode() for name, number in inherited.items() if number >= 0 for word in (name, str(_hand_on(number)))
    ]
    first = f"/proc/self/fd/{_hand_on(plan.trampoline)}".encode()
    env = {b"LD_PRELOAD": f"/proc/self/fd/{_hand_on(plan.library)}".encode()} if plan.library >= 0 else {}
    program = fcntl.fcntl(plan.program, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    handed = (null, plan.output, plan.output, tell, held)  # the last two are STATUS and GATE
    streams = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for stream in handed]
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    kernel.reset_signals()
    os.umask(0o022)
    os.execve(program, [b"bwrap", *options, b"--", first, *plan.argv], env)


def _hand_on(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD, _ABOVE)
