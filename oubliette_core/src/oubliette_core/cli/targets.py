"""Several targets in one command: worked on in parallel, each reported, one exit code for all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from oubliette_core.cli.boundary import FAILED, exit_code, report
from oubliette_core.cli.output import Output
from oubliette_core.cli.views import outcome_object
from oubliette_core.errors import ConflictError, InvalidValueError, OublietteError, ProjectNotFoundError
from oubliette_core.services.ending import end_sessions
from oubliette_core.services.records import Outcome

if TYPE_CHECKING:
    from oubliette_core.app import App

T = TypeVar("T")


def named(targets: Sequence[str] | None, *, all_of_them: bool = False) -> tuple[str, ...]:
    """Return the projects that were named, each once; none with ``--all``.

    :raises InvalidValueError: neither or both were given.
    """
    if targets and all_of_them:
        raise InvalidValueError("projects were named, and --all was given", hint="Leave one of them out.")
    if not targets and not all_of_them:
        raise InvalidValueError("no project was named", hint="Name one or more; oubliette project list shows them.")
    return tuple(dict.fromkeys(targets or ()))


def report_each(
    outcomes: Sequence[Outcome[T]],
    output: Output,
    *,
    as_json: bool,
    describe: Callable[[T], dict[str, Any]],
    tell: Callable[[T], str],
) -> None:
    """Print what became of each target, and end the command with the code of its failures.

    :param describe: a result for programs. :param tell: a result for people, in one line.
    :raises typer.Exit: something failed; see `end_with`.
    """
    if as_json:
        output.json([outcome_object(outcome, describe) for outcome in outcomes])
    for outcome in outcomes:
        if outcome.error is not None:
            report(outcome.error, output, subject=outcome.target if len(outcomes) > 1 else "")
        elif outcome.value is not None and not as_json:
            output.line(tell(outcome.value))
    end_with([outcome.error for outcome in outcomes])


def end_with(errors: Iterable[OublietteError | None]) -> None:
    """End the command if something failed.

    :raises typer.Exit: with the code that all failures share, otherwise 1.
    """
    codes = {exit_code(error) for error in errors if error is not None}
    if codes:
        raise typer.Exit(codes.pop() if len(codes) == 1 else FAILED)


def end_first(opened: App, targets: Iterable[str]) -> None:
    """End what is at work in projects, whichever process drives it; a project that is not there is told later.

    :raises BusyError: a process that drives something does not react.
    """
    for target in targets:
        with contextlib.suppress(ProjectNotFoundError, InvalidValueError, ConflictError):
            end_sessions(opened.sessions, opened.mailbox, opened.projects.get(target))
