"""Running the ``podman`` command, and telling its errors apart."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence

from oubliette_core.errors import (
    ContainerNotFoundError,
    ContainerNotRunningError,
    ImageNotFoundError,
    InUseError,
    InvalidSpecError,
    NameConflictError,
    OperationTimeoutError,
    OublietteError,
    RuntimeOperationError,
    RuntimeUnavailableError,
)

NAME = "podman-example"
"""The runtime's name, as in the entry point."""
DEADLINE = 30.0

_ERRORS: tuple[tuple[str, type[RuntimeOperationError]], ...] = (
    (r"no such container|no container with (name or )?id", ContainerNotFoundError),
    (r"name .* is (already )?in use", NameConflictError),
    (r"image not known|no such image|failed to find image", ImageNotFoundError),
    (r"image (is )?in use|image used by|cannot be removed without force", InUseError),
    (r"can only create exec sessions on running containers|container .* is not running", ContainerNotRunningError),
)
_REFUSED = re.compile(r"statfs|no such file or directory|network not found|unable to find user|invalid", re.IGNORECASE)

# What Podman itself, or the shell that may stand in its place, reads from its environment.
_NOT_IN_ENVIRONMENT = re.compile(
    r"(?!([A-Za-z_]\w*)\Z)|(PATH|HOME|PWD|OLDPWD|IFS|ENV|TMPDIR|PPID|OPTIND|PS\d|_|.*_proxy|"
    r"(LD|XDG|GO|SSL|DBUS|CONTAINER|CONTAINERS|STORAGE|REGISTRY|DOCKER|PODMAN|BUILDAH|NOTIFY|LISTEN)(_?.*))\Z",
    re.IGNORECASE | re.ASCII,
)


class Podman:
    """One ``podman`` command.

    :param command: its path, or a name that is looked for on PATH.
    """

    def __init__(self, command: str) -> None:
        self._command = command

    def run(
        self, *words: str, subject: str = "", timeout: float = DEADLINE, env: Mapping[str, str] | None = None
    ) -> str:
        """Run it to its end, and give what it printed; ``words[0]`` names the call in errors.

        :param subject: container or image that it is about. :param env: variables that `variables` left to it.
        """
        process = self.start(words, subject=subject, env=env, stdin=subprocess.DEVNULL)
        with process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                process.kill()
                raise OperationTimeoutError(
                    f"podman {words[0]} did not end within {timeout:g} s",
                    operation=words[0],
                    timeout=timeout,
                    runtime=NAME,
                    subject=subject,
                ) from error
        if process.returncode:
            raise translated(stderr.decode(errors="replace"), subject)
        return str(stdout.decode(errors="replace"))

    def start(
        self,
        words: Sequence[str],
        *,
        subject: str = "",
        env: Mapping[str, str] | None = None,
        stdin: int = subprocess.PIPE,
        both: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start it and return while it runs; the pipes are raw.

        :param both: both streams of output through one pipe.
        """
        try:
            # A session of its own: Control-C on the terminal is Oubliette's affair, not Podman's.
            return subprocess.Popen(
                [self._command, *words],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT if both else subprocess.PIPE,
                bufsize=0,
                env={**os.environ, **(env or {})},
                # Its helper leaves a file "oom" where it was started, when a container runs out of memory.
                cwd=tempfile.gettempdir(),
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeUnavailableError(
                f"{self._command} cannot be run: {error.strerror}",
                runtime=NAME,
                subject=subject,
                hint="Install Podman, or set runtimes.podman-example.command.",
            ) from error


def translated(said: str, subject: str) -> OublietteError:
    """Return the error that Podman's own words stand for."""
    cause = last_line(said)
    for pattern, kind in _ERRORS:
        if re.search(pattern, cause, re.IGNORECASE):
            return kind(cause, runtime=NAME, subject=subject)
    if _REFUSED.search(cause):
        return InvalidSpecError(cause, value=subject)
    return RuntimeOperationError(f"podman failed: {cause}", runtime=NAME, subject=subject)


def last_line(said: str) -> str:
    """Give the last line that Podman printed: the one that tells what is wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return (lines[-1] if lines else "it printed nothing").removeprefix("Error: ")[:300]


def variables(env: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Give the options that set variables in a container, and the environment that Podman has to be run with.

    A value on the command line can be read by everybody on the machine. ``--env NAME`` takes it from Podman's own
    environment instead; only names that would change Podman itself have to be given in full.
    """
    inherited = {name: value for name, value in env.items() if not _NOT_IN_ENVIRONMENT.match(name)}
    words = [f"--env={name}" if name in inherited else f"--env={name}={value}" for name, value in env.items()]
    return words, inherited
