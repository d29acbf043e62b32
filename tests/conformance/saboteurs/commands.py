"""Runtimes that are wrong about commands and logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import attrs

from oubliette_core.errors import (
    CommandNotFoundError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    Cancel,
    ExecResult,
    ExecSpec,
    LogSpec,
)
from tests.conformance.saboteurs.base import Saboteur


class DropsStderr(Saboteur):
    """Loses what is printed to standard error."""

    caught_by = ("exec.streams-apart",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return attrs.evolve(super().exec(container, spec, cancel), stderr=b"")


class MixesStreams(Saboteur):
    """Puts standard error into standard output."""

    caught_by = ("exec.streams-apart",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        return attrs.evolve(result, stdout=result.stdout + result.stderr, stderr=b"")


class LosesTheEnd(Saboteur):
    """Loses what comes after the first 64 KiB."""

    caught_by = ("exec.output.to-the-last-byte", "exec.output.large")

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        return attrs.evolve(result, stdout=result.stdout[:65536])


class Decodes(Saboteur):
    """Takes output for text."""

    caught_by = ("exec.output.bytes",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        return attrs.evolve(result, stdout=result.stdout.decode(errors="replace").encode())


class TruncatesSilently(Saboteur):
    """Does not say that output was dropped."""

    caught_by = ("exec.output.limit",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return attrs.evolve(super().exec(container, spec, cancel), truncated=False)


class CoercesNone(Saboteur):
    """Takes a missing exit code for success."""

    caught_by = ("exec.deadline.on-time", "exec.cancel-before")

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        return attrs.evolve(result, exit_code=result.exit_code or 0)


class PrintsItsErrors(Saboteur):
    """Gives the engine's words for the output of a command that could not be run."""

    caught_by = ("exec.not-found", "exec.no-workdir")

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        try:
            return super().exec(container, spec, cancel)
        except CommandNotFoundError as error:
            return ExecResult(exit_code=126, stdout=str(error).encode())


class UsesAShell(Saboteur):
    """Hands commands to a shell."""

    caught_by = ("exec.argv",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        command = ("/bin/sh", "-c", " ".join(spec.command))
        return super().exec(container, attrs.evolve(spec, command=command), cancel)


class IgnoresWorkdir(Saboteur):
    """Runs everything in the container's directory."""

    caught_by = ("exec.workdir",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return super().exec(container, attrs.evolve(spec, workdir=None), cancel)


class IgnoresUser(Saboteur):
    """Runs everything as the container's user."""

    caught_by = ("exec.user",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return super().exec(container, attrs.evolve(spec, user=None), cancel)


class RemembersVariables(Saboteur):
    """Gives a command the variables of those before it."""

    caught_by = ("exec.env-apart", "exec.env")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._seen: dict[str, str] = {}

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        self._seen.update(spec.env)
        return super().exec(container, attrs.evolve(spec, env=self._seen), cancel)


class WithoutStdin(Saboteur):
    """Gives commands nothing to read."""

    caught_by = ("exec.stdin",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return super().exec(container, attrs.evolve(spec, stdin=b""), cancel)


class _Deserter(Saboteur):
    """Leaves a command at its deadline without killing it."""

    claims: ClassVar[bool]

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        if spec.timeout is None:
            return super().exec(container, spec, cancel)
        process = super().open_exec(container, spec)
        code = process.wait(spec.timeout)
        return ExecResult(exit_code=code, timed_out=code is None, killed=self.claims)


class LeavesProcesses(_Deserter):
    """Leaves a command at its deadline, and says so."""

    caught_by = ("exec.deadline.kills-tree", "exec.deadline.kills-detached")
    claims = False


class ClaimsTheKill(_Deserter):
    """Leaves a command at its deadline, and claims that it was killed."""

    caught_by = ("exec.deadline.killed-is-true",)
    claims = True


class DeniesTheKill(Saboteur):
    """Kills, and does not know it."""

    caught_by = ("exec.deadline.killed-is-true",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        return attrs.evolve(super().exec(container, spec, cancel), killed=False)


class KillsEveryone(Saboteur):
    """Kills, at a deadline, whatever else was started by commands."""

    caught_by = ("exec.deadline.spares-others",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        kernel = self.engine.container(container).kernel
        if result.timed_out and kernel is not None:
            for pid in [pid for pid in kernel.tasks if pid > 2]:
                kernel.signal(pid, 9)
        return result


class LosesPartialOutput(Saboteur):
    """Drops, at a deadline, what was printed."""

    caught_by = ("exec.deadline.partial-output",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        return attrs.evolve(result, stdout=b"", stderr=b"") if result.timed_out else result


class WaitsForChildren(Saboteur):
    """Waits until nobody can print any more."""

    caught_by = ("exec.background-child",)

    @hookimpl
    def exec(self, container: str, spec: ExecSpec, cancel: Cancel | None) -> ExecResult:
        result = super().exec(container, spec, cancel)
        kernel = self.engine.container(container).kernel
        if kernel is not None and b"started" in result.stdout:
            kernel.wait(lambda: len(kernel.tasks) <= 2, timeout=4.5)
        return result


class _Altered:
    """A process that hands everything on, but for what a saboteur changes."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def replace(self, **attributes: Any) -> None:
        """Have other attributes than the process has."""
        vars(self).update(attributes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._process, name)

    def __enter__(self) -> _Altered:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class AbandonsConversations(Saboteur):
    """Leaves a process running when its conversation is closed."""

    caught_by = ("process.close-kills",)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Any:
        altered = _Altered(super().open_exec(container, spec))
        altered.replace(close=lambda: None)
        return altered


class NeverCloses(Saboteur):
    """Does not tell a process that its input has ended."""

    caught_by = ("process.half-close",)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Any:
        process = super().open_exec(container, spec)
        altered, stdin = _Altered(process), _Altered(process.stdin)
        stdin.replace(close=lambda: None)
        altered.replace(stdin=stdin)
        return altered


class ForgetsExitCodes(Saboteur):
    """Says that every process ended well."""

    caught_by = ("process.exit-code",)

    @hookimpl
    def open_exec(self, container: str, spec: ExecSpec) -> Any:
        process = super().open_exec(container, spec)
        altered = _Altered(process)
        altered.replace(wait=lambda timeout=None: None if process.wait(timeout) is None else 0)
        return altered


class WholeLogs(Saboteur):
    """Gives all lines, however few are asked for."""

    caught_by = ("logs.tail",)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        return super().logs(container, attrs.evolve(spec, tail=None))


class StopsFollowing(Saboteur):
    """Gives what there is, and does not wait for more."""

    caught_by = ("logs.follow",)

    @hookimpl
    def logs(self, container: str, spec: LogSpec) -> Iterator[bytes]:
        return super().logs(container, attrs.evolve(spec, follow=False))
