"""Running a command in the sandbox.

The supervisor forks a process that joins the namespaces. That one forks the command's process, which is then inside
in every respect, gives up what it must not have, and executes the command. The supervisor becomes its parent.

Each command gets a control group namespace of its own. Whatever it starts is born into it, and nothing in there can
leave it (that needs a capability and system calls that no container has), so it tells for sure, and from outside,
which processes belong to a command. It has no other effect: the view of control groups is the same in all of them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from _socket import socket, socketpair
from collections.abc import Sequence
from resource import RLIMIT_NPROC, setrlimit

from oubliette_embedded.supervisor import files, kernel
from oubliette_embedded.supervisor.inside import Namespaces, apart, offer
from oubliette_embedded.supervisor.rights import receive, send
from oubliette_embedded.supervisor.trampoline import DEFAULT_PATH, STATUS, call
from oubliette_embedded.supervisor.users import User, find_user

__all__ = ["CannotRunError", "Order", "Rules", "Started", "start"]

_MOST_USERS = 1024 * 1024
_ABOVE = 64
"""Where descriptors are out of the way of the command's own."""
_TIOCSCTTY = 0x540E


class CannotRunError(Exception):
    """A command that was not run. Its text says why."""


class Rules:
    """What holds for every command of a container.

    :param env: its variables. :param user: as whom commands run that do not say so.
    :param mapped: whether there are other users, to whom commands can be changed.
    :param capabilities: mask of those that uid 0 has. :param system_calls: program of seccomp(2).
    :param processes: limit of processes and threads; 0 for none.
    :param groups: files of control groups that a command's process has to be written to.
    """

    def __init__(
        self,
        *,
        namespaces: Namespaces,
        env: Sequence[bytes],
        user: User,
        mapped: bool,
        workdir: bytes,
        capabilities: int,
        processes: int,
        system_calls: bytes,
        groups: Sequence[bytes],
        trampoline: int,
    ) -> None:
        self.namespaces = namespaces
        self.env = env
        self.user = user
        self.mapped = mapped
        self.workdir = workdir
        self.capabilities = capabilities
        self.processes = processes
        self.system_calls = system_calls
        self.groups = groups
        self.trampoline = trampoline


class Order:
    """A command that is to be run.

    :param user: ``name|uid[:group|gid]``; empty for the container's. :param workdir: empty for the container's.
    :param streams: descriptors of standard input, output and errors; none with a terminal.
    :param answer: of the connection, to which the terminal is sent.
    """

    def __init__(
        self,
        *,
        argv: Sequence[bytes],
        env: Sequence[bytes],
        user: str,
        workdir: bytes,
        streams: Sequence[int],
        answer: int,
    ) -> None:
        self.argv = argv
        self.env = env
        self.user = user
        self.workdir = workdir
        self.streams = streams
        self.answer = answer


class Started:
    """A command's process.

    :ivar status: a descriptor that ends when the command has been executed, or gives why it was not: an error number
        as one byte, or a line of text.
    :ivar mark: of its control group namespace; while that is open, no other gets its number.
    """

    def __init__(self, pid: int, status: int, mark: int) -> None:
        self.pid = pid
        self.status = status
        self.mark = mark


def start(rules: Rules, order: Order) -> Started:
    """Start a command's process. :raises CannotRunError: it could not even be started."""
    status, given = os.pipe()
    report, told = socketpair()
    fork = apart(lambda: _enter(rules, order, given, told))
    os.close(given)
    told.close()
    answer, descriptors = receive(report)
    report.close()
    os.waitpid(fork, 0)
    if descriptors:
        return Started(int(answer), status, descriptors[0])
    os.close(status)
    raise CannotRunError(answer.decode(errors="replace") or "the container could not be entered")


def _enter(rules: Rules, order: Order, status: int, report: socket) -> None:
    """Join the namespaces and fork the command's process; what goes wrong is reported."""
    try:
        kernel.hide()
        offer()
        for file in rules.groups:
            files.write(file, b"0")
        own = os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        rules.namespaces.enter()
        kernel.unshare(kernel.CLONE_NEWCGROUP)
        mark = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=own)
        rules.namespaces.descend()
        user = _user(rules, order.user)
        streams = list(order.streams) or _terminal(order.answer)
        pid = apart(lambda: _become_command(rules, order, user, streams, status))
        send(report, b"%d" % pid, mark)
    except CannotRunError as error:
        report.send(str(error).encode())
    except OSError as error:
        report.send(f"the container could not be entered: {error}".encode())


def _user(rules: Rules, wanted: str) -> User:
    if not wanted:
        return rules.user
    user = find_user(wanted, _text(b"/etc/passwd"), _text(b"/etc/group"))
    if user is None:
        raise CannotRunError(f"the container has no user {wanted}")
    return user


def _text(path: bytes) -> bytes:
    """Read a file of the container, which may be anything."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _MOST_USERS) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def _terminal(answer: int) -> list[int]:
    """Make a terminal, send its master to whoever asked, and return its slave as all three streams."""
    try:
        master, slave = kernel.open_terminal()
    except OSError as error:
        raise CannotRunError(f"the container has no terminals: {error}") from error
    connection = socket(fileno=answer)
    send(connection, b"terminal", master)
    connection.detach()
    return [slave] * 3


def _become_command(rules: Rules, order: Order, user: User, streams: list[int], status: int) -> None:
    """Become the command; tell on the status descriptor why that is not possible."""
    try:
        program = fcntl.fcntl(rules.trampoline, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
        _take_streams(rules, user, streams, status, terminal=not order.streams)
        if rules.processes:
            setrlimit(RLIMIT_NPROC, (rules.processes, rules.processes))
        kernel.drop_capabilities(rules.capabilities)
        kernel.become(user.uid, user.gid, user.groups if rules.mapped else None, rules.capabilities)
        kernel.forbid_new_privileges()
    except OSError as error:
        os.write(status, f"the command's process could not be set up: {error}".encode())
        return
    workdir = order.workdir or rules.workdir
    try:
        os.chdir(workdir)
    except OSError as error:
        os.write(STATUS, f"working directory {workdir.decode(errors='replace')}: {error.strerror}".encode())
        return
    kernel.reset_signals()
    os.umask(0o022)
    env = _environment(rules.env, order.env, user, terminal=not order.streams)
    kernel.filter_system_calls(rules.system_calls)
    try:
        os.execve(program, [b"oubliette", *call(order.argv, env)], env)
    except OSError as error:
        os.write(STATUS, bytes([error.errno or errno.EIO]))


def _take_streams(rules: Rules, user: User, streams: list[int], status: int, *, terminal: bool) -> None:
    """Begin a session of its own, with the command's streams as the only open descriptors."""
    os.setsid()
    if rules.mapped:
        for stream in {*streams}:
            _give(stream, user)
    kept = [fcntl.fcntl(stream, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for stream in (*streams, status)]
    for number, stream in enumerate(kept):  # the last one is STATUS
        os.dup2(stream, number)
    if terminal:
        fcntl.ioctl(0, _TIOCSCTTY, 0)


def _give(stream: int, user: User) -> None:
    """Let a user open its own streams anew, as ``/dev/stdout`` does."""
    try:
        os.fchown(stream, user.uid, user.gid)
    except OSError:
        return


def _environment(
    of_container: Sequence[bytes], of_order: Sequence[bytes], user: User, *, terminal: bool
) -> dict[bytes, bytes]:
    env = {b"TERM": b"xterm"} if terminal else {}
    for word in (*of_container, *of_order):
        name, _, value = word.partition(b"=")
        env[name] = value
    env.setdefault(b"HOME", user.home.encode() or b"/")
    env.setdefault(b"PATH", DEFAULT_PATH)
    return env
