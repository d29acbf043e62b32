"""What ``container exec`` and ``container shell`` do once they know what to run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from oubliette_core.cli.attach import Streams, attach, raw_terminal
from oubliette_core.cli.boundary import DEADLINE, PIPE_CLOSED
from oubliette_core.cli.invocation import Invocation
from oubliette_core.errors import InvalidSpecError
from oubliette_core.models import ExecSpec

if TYPE_CHECKING:
    from oubliette_core.app import App

_SHELL = ("/bin/sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash; exec sh")


def command_spec(
    invocation: Invocation,
    command: Sequence[str],
    *,
    env: Sequence[str],
    workdir: str | None,
    user: str | None,
    tty: bool,
) -> ExecSpec:
    """Return what is to be run. A terminal inside is of the kind of the one outside.

    :param env: ``K=V`` each. :raises InvalidSpecError: one of them is not.
    """
    variables = {"TERM": invocation.environ["TERM"]} if tty and invocation.environ.get("TERM") else {}
    return ExecSpec(command=tuple(command), env={**variables, **_variables(env)}, workdir=workdir, user=user, tty=tty)


def _variables(pairs: Sequence[str]) -> Mapping[str, str]:
    variables = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:  # the text may be a secret: it is not repeated
            raise InvalidSpecError("--env takes a name and a value", hint="Write it as --env NAME=VALUE.")
        variables[name] = value
    return variables


def run_command(
    invocation: Invocation, app: App, project: str, spec: ExecSpec, *, timeout: float | None, keyboard: bool
) -> int:
    """Run a command, joined to our streams; return the exit code.

    :param keyboard: pass input on even if it is a terminal: a command in the background must not ask for it otherwise.
    """
    output = invocation.output
    streams = Streams(stdin=0 if keyboard or not os.isatty(0) else None)
    with app.containers.open_exec(project, spec) as process, invocation.interrupts.cancellable() as cancel:
        raw = spec.tty and os.isatty(0)
        with raw_terminal(process, 0, invocation.interrupts) if raw else nullcontext():
            ending = attach(process, streams, cancel, timeout=timeout)
    if ending.timed_out:
        output.error(
            f"{project}: the command did not end within {timeout:g} s and was killed",
            "" if ending.killed else "That all its processes are gone could not be confirmed.",
        )
        return DEADLINE
    return PIPE_CLOSED if ending.unheard else ending.exit_code


def run_shell(
    invocation: Invocation, app: App, project: str, *, env: Sequence[str], workdir: str | None, user: str | None
) -> int:
    """Run an interactive shell; return its exit code. :raises InvalidSpecError: there is no terminal."""
    if not (os.isatty(0) and os.isatty(1)):
        raise InvalidSpecError(
            "a shell needs a terminal, and standard input or output is none",
            hint=f"Run a command instead: oubliette container exec {project} -- CMD",
        )
    spec = command_spec(invocation, _SHELL, env=env, workdir=workdir, user=user, tty=True)
    return run_command(invocation, app, project, spec, timeout=None, keyboard=True)
