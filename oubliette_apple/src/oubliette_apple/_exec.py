"""Running commands in a container.

Killing the ``container exec`` process leaves the command in the guest running, and signals are not forwarded. So the
command is started with a mark, and at the deadline a second exec in the same container finds and kills everything
that carries it.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import attrs

from oubliette_apple import _environment, _errors
from oubliette_apple._cli import Cli, end
from oubliette_apple._conversation import Conversation
from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotRunningError,
    OublietteError,
    RuntimeLostError,
    RuntimeUnavailableError,
)
from oubliette_core.guest import Mark, Marks, Verdict, can_supervise, kill_tree, not_run, supervised
from oubliette_core.models import Cancel, ContainerInfo, ExecResult, ExecSpec

if TYPE_CHECKING:
    from collections.abc import Callable

_KILLING = 1.8
"""Seconds for finding and killing, so that a call ends within 2 s of its deadline even when the service hangs."""
_ANSWERING = 0.5
"""Seconds in which the service begins to answer, or else it hangs and is not waited for."""
_ONE_MORE = 0.3
"""There has to be this much of `_KILLING` left for another try."""
_LONGEST_ANSWER = 1024 * 1024
_ENTER = 'cd -- "$2" 2>/dev/null || { echo "$1 126" >&2; exit 126; }; shift 2; exec "$@"'
"""Goes to a directory and says what `not_run` looks for when there is none: the command's own option makes it."""
_NO_PROGRAM = "failed to find target executable"
_NOT_RUN = {126: "cannot be executed", 127: "was not found"}


@attrs.frozen
class Running:
    """A command in a container.

    :param user: whom it was started as; None for the container's own. :param mark: what its processes are known by.
    :param started: on the monotonic clock. :param child: our side of it.
    """

    container: str
    user: str | None
    mark: Mark | None
    started: float
    child: subprocess.Popen[bytes]


class Execs:
    """The exec hook, and what `open_exec` shares with it.

    :param cli: the command. :param inspect: describes a container.
    """

    def __init__(self, cli: Cli, inspect: Callable[[str], ContainerInfo]) -> None:
        self.cli = cli
        self.inspect = inspect
        self.marks = Marks()

    def run(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        """Run a command to its end, its deadline or ``cancel``."""
        if cancel and cancel.cancelled:
            return ExecResult(exit_code=None, cancelled=True, killed=True)
        mark = self.marks.new() if can_supervise(spec.command, spec.env) else None
        result = self._run(container, spec, cancel, mark)
        if result is None and mark is not None and not self._has_shell(container):
            result = self._run(container, spec, cancel, None)
        if result is None:
            raise not_found(container, spec.command[0], 127)
        return result

    def mark(self, container: str, spec: ExecSpec) -> Mark | None:
        """Return a mark for a command; None where the image has no shell that could set it."""
        return self.marks.new() if can_supervise(spec.command, spec.env) and self._has_shell(container) else None

    def _has_shell(self, container: str) -> bool:
        """Ask with a command of our own: what the user's prints could pretend that there is none."""
        answer = self.cli.run("exec", container, "/bin/sh", "-c", ":", operation="exec", subject=container)
        return not (answer.code == 1 and _NO_PROGRAM in answer.error)

    def _run(self, container: str, spec: ExecSpec, cancel: Cancel | None, mark: Mark | None) -> ExecResult | None:
        """Run the command once; None when the guest does not have the program that was to be started."""
        with _environment.arguments(variables(spec, mark)) as (options, env):
            stdin = subprocess.PIPE if spec.stdin else subprocess.DEVNULL
            arguments = [*exec_options(spec, mark, stdin=bool(spec.stdin)), *options, container, *argv(spec, mark)]
            started = time.monotonic()
            child = self.cli.spawn("exec", *arguments, stdin=stdin, env=env)
            running = Running(container, spec.user, mark, started, child)
            conversation = Conversation(child, spec)
            forget = cancel.on_cancel(conversation.wake) if cancel else lambda: None
            try:
                deadline = None if spec.timeout is None else started + spec.timeout
                ended = conversation.hold(deadline, lambda: bool(cancel and cancel.cancelled))
                killed = not ended and self._kill_meanwhile(running, conversation)
            finally:
                forget()
                conversation.close()
                end(child)
        duration = time.monotonic() - started
        if ended:
            return self._ended(running, spec, conversation, duration)
        cancelled = bool(cancel and cancel.cancelled)
        return conversation.result(None, duration, timed_out=not cancelled, cancelled=cancelled, killed=killed)

    def _kill_meanwhile(self, running: Running, conversation: Conversation) -> bool:
        """Kill the command's processes while what they print is read on: it could not end with full pipes."""
        outcome: list[bool] = []

        def kill() -> None:
            outcome.append(self.kill(running))
            conversation.wake()

        killing = threading.Thread(target=kill, daemon=True)
        killing.start()
        conversation.hold(time.monotonic() + _KILLING, lambda: bool(outcome))
        killing.join(_KILLING)
        return bool(outcome and outcome[0])

    def kill(self, running: Running) -> bool:
        """Kill the process tree of a command; True if it was confirmed that nothing is left.

        Once more when the command has not ended: it may have been on its way into the container. But not when the
        killer's own call does not end, because then no other will.
        """
        if running.mark is None:
            return False
        deadline = time.monotonic() + _KILLING
        while True:
            answers = self._killed_at_once(running, running.mark, deadline)
            hangs = all(answer is None for answer in answers)
            ended = _has_ended(running.child, 0 if hangs else min(0.5, deadline - time.monotonic()))
            if any(self.marks.confirms(answer, ended=ended) for answer in answers if answer):
                return True
            if hangs or deadline - time.monotonic() < _ONE_MORE:
                return False

    def _killed_at_once(self, running: Running, mark: Mark, deadline: float) -> list[Verdict | None]:
        """Kill as root and as the command's user: root without capabilities cannot kill what is another user's."""
        users = ["0"] if running.user in (None, "0", "root") else ["0", running.user]
        with ThreadPoolExecutor(len(users)) as pool:
            answers = list(pool.map(lambda user: self._killed_by(user, running, mark, deadline), users))
        if answers[0] and answers[0].left and running.user is None:  # whoever the container's own user is
            answers.append(self._killed_by(None, running, mark, deadline))
        return answers

    def _killed_by(self, user: str | None, running: Running, mark: Mark, deadline: float) -> Verdict | None:
        """Run the killer once; None when the service hangs, so that it cannot be said what the killer did."""
        shell, option, script, *words = kill_tree(mark, time.monotonic() - running.started)
        # The empty line says that the killer is at work; what it finds comes when it is done.
        killer = (shell, option, f"echo\n{script}", *words)
        try:
            child = self.cli.spawn("exec", *([f"--user={user}"] if user else []), running.container, *killer)
        except OublietteError:
            return None
        try:
            said = _heard(child, deadline)
            if not _has_ended(child, _ONE_MORE if said else 0):
                return None
            return Verdict.read(said) if child.returncode == 0 else Verdict()
        finally:
            end(child)

    def _ended(
        self, running: Running, spec: ExecSpec, conversation: Conversation, duration: float
    ) -> ExecResult | None:
        code, last = running.child.returncode, bytes(conversation.last)
        error = self.failure(running.container, code, last)
        if isinstance(error, CommandNotFoundError) and error.exit_code == 127:
            return None
        if isinstance(error, RuntimeLostError):
            error.stdout, error.stderr = bytes(conversation.stdout), bytes(conversation.stderr)
        if error is not None:
            raise error
        if running.mark is not None and not_run(running.mark, code, last):
            raise not_found(running.container, spec.command[0], code)
        return conversation.result(code, duration)

    def failure(self, container: str, code: int, last: bytes) -> OublietteError | None:
        """Tell whether the command itself failed, as opposed to the program that it ran; both exit with 1.

        What the text says is believed only when a look at the container agrees, because a program may print the same.

        :param last: the end of standard error.
        """
        if code < 0:
            return _lost(container, "the container command was killed")
        said = _said(last.decode("utf-8", "replace")) if code == 1 else ""
        if not said:
            return None
        if _NO_PROGRAM in said and "failed to start process" in said:
            return not_found(container, "", 127)
        broken = any(pattern.search(said) for pattern in (_errors.CONNECTION_LOST, _errors.BUSY))
        try:
            running = self.inspect(container).running
        except OublietteError as error:
            is_down = isinstance(error, RuntimeUnavailableError)
            return _lost(container, "Apple's container service went away") if broken and is_down else error
        if not running:
            words = f"container {container} is not running"
            return ContainerNotRunningError(words, runtime=_errors.NAME, subject=container)
        return (
            _lost(container, "the connection to Apple's container service broke")
            if broken
            else _refused(container, said)
        )


def _said(text: str) -> str:
    """Return what the command itself says at the end of standard error; empty where it says nothing."""
    lines = text.rstrip().splitlines()
    start = max((number for number, line in enumerate(lines) if line.startswith("Error: ")), default=-1)
    return "\n".join(lines[start:]) if start >= max(0, len(lines) - 6) else ""


def _refused(container: str, said: str) -> OublietteError | None:
    if "failed to start process" not in said and "failed to create process" not in said:
        return None
    words = f"the command could not be run in {container}: {_errors.detail(said)}"
    return CommandNotFoundError(words, exit_code=126, runtime=_errors.NAME, subject=container)


def _lost(container: str, words: str) -> RuntimeLostError:
    return RuntimeLostError(f"{words} while a command ran in {container}", runtime=_errors.NAME, subject=container)


def _heard(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Read what a killer prints; no longer than to the deadline, or until it is clear that the service hangs."""
    said = bytearray()
    if child.stdout is None:
        return b""
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        until = min(deadline, time.monotonic() + _ANSWERING)
        while selector.select(max(0.0, until - time.monotonic())):
            chunk = os.read(child.stdout.fileno(), _LONGEST_ANSWER)
            said += chunk
            if not chunk or len(said) > _LONGEST_ANSWER or Verdict.read(bytes(said)).complete:
                break
            until = deadline
    return bytes(said)


def _has_ended(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(max(0.05, seconds))
    except subprocess.TimeoutExpired:
        return False
    return True


def not_found(container: str, program: str, code: int) -> CommandNotFoundError:
    """Return the error of a command that could not be run."""
    return CommandNotFoundError(
        f"{program or 'the command'} {_NOT_RUN[code]} in container {container}",
        exit_code=code,
        runtime=_errors.NAME,
        subject=container,
    )


def exec_options(spec: ExecSpec, mark: Mark | None, *, stdin: bool) -> list[str]:
    """Return the options of ``container exec`` that do not depend on variables."""
    options = ["--interactive"] if stdin else []
    options += ["--tty"] if spec.tty else []
    # A shell goes there where there is one: the option would make a directory that does not exist.
    options += [f"--workdir={spec.workdir}"] if spec.workdir and mark is None else []
    return [*options, f"--user={spec.user}"] if spec.user else options


def variables(spec: ExecSpec, mark: Mark | None) -> dict[str, str]:
    """Return the command's variables."""
    return {**spec.env, **(mark.variable if mark else {})}


def argv(spec: ExecSpec, mark: Mark | None) -> tuple[str, ...]:
    """Return the words that run the command, with its mark and in its directory."""
    if mark is None:
        return spec.command
    words = supervised(spec.command, mark)
    if spec.workdir is None:
        return words
    return ("/bin/sh", "-c", _ENTER, "oubliette-exec", mark.secret, spec.workdir, *words)
