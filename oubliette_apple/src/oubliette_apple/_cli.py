"""Calling the ``container`` command.

It can hang, for minutes or for ever: a wedged service leaves even ``container list`` waiting. So every call has a
deadline of our own, both pipes are read from the start, and the process group is killed when time is up.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import attrs

from oubliette_apple import _errors, _options
from oubliette_apple._versions import OLDEST, Version
from oubliette_core.errors import (
    OperationCancelledError,
    RuntimeOperationError,
    RuntimeUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from oubliette_core.models import Cancel

_KEPT = (
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "SHELL",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "LANG",
    "SSH_AUTH_SOCK",
    "__CF_USER_TEXT_ENCODING",
)
"""What the command sees of our environment. Not ``CONTAINER_DEBUG`` and ``CONTAINER_DEFAULT_PLATFORM``, which change
its output."""


@attrs.frozen(kw_only=True)
class Completed:
    """How a call of the command ended."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def error(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")


class Cli:
    """The command, and one way to call it.

    :param options: the user's settings.
    """

    def __init__(self, options: _options.Options) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._known: tuple[Path, Version] | None = None

    def forget(self) -> None:
        """Look for the command again at the next call: it may have been upgraded."""
        self._known = None

    def binary(self) -> Path:
        """Return the command's path. :raises RuntimeUnavailableError: there is none that can be used."""
        return self._found(self.options.timeout)[0]

    def version(self, *, timeout: float | None = None) -> Version:
        """Return the client's version, asked for once; that needs no service."""
        return self._found(timeout or self.options.timeout)[1]

    def _found(self, timeout: float) -> tuple[Path, Version]:
        with self._lock:
            if self._known is None:
                binary = _options.locate(self.options)
                answer = self._run([str(binary), "--version"], "version", str(binary), timeout=min(timeout, 5.0))
                self._known = binary, _supported(binary, answer)
            return self._known

    def run(
        self,
        *arguments: str,
        operation: str,
        subject: str = "",
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        cancel: Cancel | None = None,
    ) -> Completed:
        """Call the command and return how it ended, whatever its exit code.

        When Apple's service is not running and the user has asked for it, the service is started first.

        :param operation: how the call is named in errors. :param env: added to the command's own environment.
        :raises OperationTimeoutError: it did not end in time; it was killed.
        :raises OperationCancelledError: ``cancel`` came first.
        """
        command = [str(self.binary()), *arguments]
        seconds = timeout or self.options.timeout
        answer = self._run(command, operation, subject, timeout=seconds, env=env, cancel=cancel)
        if answer.code and arguments[0] != "system" and self.options.autostart and _errors.is_down(answer.error):
            self.start_service()
            answer = self._run(command, operation, subject, timeout=seconds, env=env, cancel=cancel)
        return answer

    def check(
        self,
        *arguments: str,
        operation: str,
        subject: str = "",
        timeout: float | None = None,
        cancel: Cancel | None = None,
    ) -> Completed:
        """Call the command; an exit code other than 0 is an error, translated."""
        answer = self.run(*arguments, operation=operation, subject=subject, timeout=timeout, cancel=cancel)
        if answer.code:
            raise _errors.translate(answer.error, operation=operation, subject=subject)
        return answer

    def ready(self) -> None:
        """Start Apple's service if it is not running and the user has asked for that; for calls by `spawn`."""
        if self.options.autostart and self.run("system", "status", operation="system status").code:
            self.start_service()

    def start_service(self) -> None:
        """Start Apple's service. Without a flag about the kernel and without input the command would ask and wait."""
        answer = self.run("system", "start", "--enable-kernel-install", operation="system start", timeout=300)
        if answer.code:
            raise RuntimeUnavailableError(
                f"Apple's container service could not be started: {answer.error.strip()[:300]}",
                runtime=_errors.NAME,
                hint=_errors.START_HINT,
            )

    def _run(
        self,
        command: list[str],
        operation: str,
        subject: str,
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
        cancel: Cancel | None = None,
    ) -> Completed:
        with self._child(command, env=env) as child:
            forget = cancel.on_cancel(lambda: kill(child)) if cancel else lambda: None
            try:
                stdout, stderr = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                kill(child)
                raise _errors.late(operation, subject, timeout) from None
            finally:
                forget()
        if cancel and cancel.cancelled:
            raise OperationCancelledError(f"{operation} was cancelled", runtime=_errors.NAME, subject=subject)
        return Completed(code=child.returncode, stdout=stdout, stderr=stderr)

    def spawn(
        self,
        *arguments: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start the command and return the process, unbuffered, in a process group of its own."""
        return self._spawn([str(self.binary()), *arguments], stdin=stdin, stdout=stdout, stderr=stderr, env=env)

    def _spawn(
        self, command: list[str], *, stdin: int, stdout: int, stderr: int, env: Mapping[str, str] | None
    ) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env={**environment(), **(env or {})},
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self.forget()
            raise RuntimeUnavailableError(
                f"{command[0]} cannot be started: {error.strerror}", runtime=_errors.NAME, hint=_options.INSTALL_HINT
            ) from error

    @contextlib.contextmanager
    def _child(self, command: list[str], *, env: Mapping[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
        child = self._spawn(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        try:
            yield child
        finally:
            end(child)


def environment() -> dict[str, str]:
    """Return what the command sees of our environment."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ}


def kill(child: subprocess.Popen[bytes]) -> None:
    """Kill the command with whatever it has started. What it had asked Apple's service to do may go on."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)


def end(child: subprocess.Popen[bytes]) -> None:
    """Kill the command if it runs, collect it and close its pipes."""
    if child.poll() is None:
        kill(child)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(timeout=1)


def _supported(binary: Path, answer: Completed) -> Version:
    version = Version.parse(answer.stdout.decode("utf-8", "replace"))
    if answer.code or version is None:
        raise RuntimeUnavailableError(
            f"{binary} is not Apple's container command", runtime=_errors.NAME, hint=_options.INSTALL_HINT
        )
    if not version.at_least(*OLDEST):
        raise RuntimeOperationError(
            f"container {version} is too old; {OLDEST[0]}.{OLDEST[1]} or later is needed",
            runtime=_errors.NAME,
            subject=str(binary),
            hint="Upgrade it: brew upgrade container",
        )
    return version
