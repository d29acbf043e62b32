"""Where expected errors end: each becomes one line, a hint and an exit code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from oubliette_core import errors
from oubliette_core.cli.output import Output
from oubliette_core.cli.text import last_lines

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_RUNTIME: Final = 3
NOT_FOUND: Final = 4
CONFLICT: Final = 5
DEADLINE: Final = 124
OURS: Final = 125
"""``exec`` and ``shell`` end with the command's own code; this one says that the failure is ours."""
INTERRUPTED: Final = 130
PIPE_CLOSED: Final = 141

_CODES: tuple[tuple[type[errors.OublietteError], int], ...] = (
    (errors.PluginError, NO_RUNTIME),
    (errors.RuntimeUnavailableError, NO_RUNTIME),
    (errors.ProjectNotFoundError, NOT_FOUND),
    (errors.SessionNotFoundError, NOT_FOUND),
    (errors.TokenNotFoundError, NOT_FOUND),
    (errors.UnknownContainerTypeError, NOT_FOUND),
    (errors.ContainerNotFoundError, NOT_FOUND),
    (errors.ImageNotFoundError, NOT_FOUND),
    (errors.ConflictError, CONFLICT),
    (errors.ActiveSessionsError, CONFLICT),
    (errors.BusyError, CONFLICT),
    (errors.NameConflictError, CONFLICT),
    (errors.InUseError, CONFLICT),
    (errors.ContainerNotRunningError, CONFLICT),
    (errors.OperationCancelledError, INTERRUPTED),
    (errors.InvalidValueError, USAGE),
)

_REASONS: dict[errors.PullFailure, int] = {"cancelled": INTERRUPTED, "not_found": NOT_FOUND}


class PassedThroughError(Exception):
    """A failure whose exit code is not that of its kind: another process's, or ours where others are the container's.

    :param error: what happened. :param code: the exit code.
    """

    def __init__(self, error: errors.OublietteError, code: int) -> None:
        super().__init__(error.message)
        self.error = error
        self.code = code


@contextmanager
def passing_through() -> Iterator[None]:
    """Tell our own failures from the codes of the command that runs in the container."""
    try:
        yield
    except errors.CommandNotFoundError as error:
        raise PassedThroughError(error, error.exit_code) from error
    except errors.OublietteError as error:
        raise PassedThroughError(error, OURS) from error


def exit_code(error: errors.OublietteError) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, errors.ImagePullError):
        return _REASONS.get(error.reason, FAILED)
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def report(error: errors.OublietteError, output: Output, *, subject: str = "") -> None:
    """Say what happened and what to do about it. :param subject: to which of several targets."""
    output.error(f"{subject}: {error.message}" if subject else error.message, error.hint, _details(error))


def _details(error: errors.OublietteError) -> Sequence[str]:
    if isinstance(error, errors.ConfigError):
        return error.problems
    if isinstance(error, errors.StartFailedError | errors.ImageBuildError | errors.AgentError):
        return last_lines(error.output)
    return ()
