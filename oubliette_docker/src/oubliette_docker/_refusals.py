"""What it means when a command could not be run at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import CommandNotFoundError, ContainerNotRunningError, RuntimeOperationError
from oubliette_core.guest import not_run
from oubliette_docker._errors import RUNTIME

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_docker._exec_calls import ExecState, Job

__all__ = ["NoShellError", "known_refusal", "refusal"]


class NoShellError(Exception):
    """The image has no ``/bin/sh``: the command has to be started without it."""


def refusal(job: Job, state: ExecState, stdout: bytes, stderr: bytes, *, pids_are_kept: bool) -> Exception | None:
    """Return the error if a command that has ended never ran, else None.

    :param stdout: the beginning of its output. Docker writes there why it could not start a command.
    :param stderr: its standard error, the end of it at least. There Podman writes it.
    :param pids_are_kept: the engine still tells the process id of a command that has ended, so that one without was
        never started. Otherwise the words of the engine decide.
    """
    code = state.exit_code or 0
    said = stdout if pids_are_kept or job.spec.tty else stderr
    not_started = code != 0 and state.pid == 0 if pids_are_kept else code in _OF_PODMAN and _PODMAN.match(said)
    if not_started:
        words = " ".join(said.decode(errors="replace").split())
        return known_refusal(job, words) or _other(job, words)
    if job.plain or not not_run(job.mark, code, stdout if job.spec.tty else stderr):
        return None
    return _absent(job, "") if code == 127 else _not_executable(job, "")


def known_refusal(job: Job, said: str) -> Exception | None:
    """Return the error for what an engine says that could not start a command; None if that is about something else."""
    make = next((rule.make for rule in _RULES if re.search(rule.text, said, re.IGNORECASE)), None)
    return make(job, said) if make else None


def _cannot(job: Job, why: str, *, exit_code: int, hint: str = "") -> CommandNotFoundError:
    return CommandNotFoundError(why, exit_code=exit_code, runtime=RUNTIME, subject=job.container, hint=hint)


def _program(job: Job) -> str:
    name = job.spec.command[0]
    return name if len(name) <= 200 else f"{name[:197]}..."


def _absent(job: Job, _said: str) -> Exception:
    why = f"there is no command {_program(job)} in container {job.container}"
    hint = "Install it in the image, or give its whole path. A script also needs the interpreter in its first line."
    return _cannot(job, why, exit_code=127, hint=hint)


def _not_executable(job: Job, _said: str) -> Exception:
    why = f"{_program(job)} in container {job.container} cannot be executed"
    hint = "It has to be a file with the permission to execute it, made for this machine."
    return _cannot(job, why, exit_code=126, hint=hint)


def _no_user(job: Job, _said: str) -> Exception:
    user = job.spec.user or "that it is to run as"
    why = f"there is no user {user} in container {job.container}"
    return _cannot(job, why, exit_code=126, hint="Give a number, uid or uid:gid, or a name in its /etc/passwd.")


def _no_directory(job: Job, said: str) -> Exception:
    directory = f"directory {job.spec.workdir}" if job.spec.workdir else "the container's working directory"
    denied = "permission denied" in said.lower()
    why = f"{directory} cannot be entered" if denied else f"{directory} does not exist or is no directory"
    return _cannot(job, f"{why} in container {job.container}", exit_code=126)


def _no_shell(job: Job, said: str) -> Exception:
    return _absent(job, said) if job.plain else NoShellError()


def _not_running(job: Job, _said: str) -> Exception:
    return ContainerNotRunningError(
        f"container {job.container} is not running", runtime=RUNTIME, subject=job.container, hint="Start it first."
    )


def _no_room(job: Job, said: str) -> Exception:
    return RuntimeOperationError(
        f"container {job.container} has no room for another process: {said}",
        runtime=RUNTIME,
        subject=job.container,
        hint="See what runs in it, or raise its pids or memory limit.",
    )


def _other(job: Job, said: str) -> Exception:
    why = f"the engine could not start {_program(job)} in container {job.container}: {said or 'it does not say why'}"
    return RuntimeOperationError(why, runtime=RUNTIME, subject=job.container)


@attrs.frozen(kw_only=True)
class _Rule:
    text: str
    make: Callable[[Job, str], Exception]


_OF_PODMAN = (125, 126, 127)
_PODMAN = re.compile(rb"Error: .*(OCI |runc: |crun: )")
_RULES = (
    _Rule(text="unable to find (user|group)|no matching entries|no users found|unknown user", make=_no_user),
    _Rule(text="chdir|working directory|set in config.json", make=_no_directory),
    _Rule(text="resource temporarily unavailable|cannot allocate memory|no space left", make=_no_room),
    _Rule(text="is not running|is paused|container state improper|in a (stopped|paused) ", make=_not_running),
    _Rule(text='"/bin/sh"|`/bin/sh`|stat /bin/sh', make=_no_shell),
    _Rule(text="executable file .*not found|no such file or directory|not found in ", make=_absent),
    _Rule(text="permission denied|is a directory|exec format error", make=_not_executable),
)
