"""Each expected error has its exit code, and is told with what helps."""

from __future__ import annotations

import inspect
import io

import pytest

from oubliette_core import errors
from oubliette_core.cli import boundary
from oubliette_core.cli.output import Output
from oubliette_core.errors import OublietteError

CODES = {
    "AccessDeniedError": 1,
    "AgentError": 1,
    "ActiveSessionsError": 5,
    "BusyError": 5,
    "CommandNotFoundError": 1,
    "ConfigError": 1,
    "ConflictError": 5,
    "ContainerNotFoundError": 4,
    "ContainerNotRunningError": 5,
    "DuplicatePluginError": 3,
    "ImageBuildError": 1,
    "ImageNotFoundError": 4,
    "ImagePullError": 1,
    "InUseError": 5,
    "InvalidReferenceError": 2,
    "InvalidSpecError": 2,
    "InvalidValueError": 2,
    "NameConflictError": 5,
    "NoRuntimeAvailableError": 3,
    "OperationCancelledError": 130,
    "OperationTimeoutError": 1,
    "OublietteError": 1,
    "PluginError": 3,
    "PluginLoadError": 3,
    "ProjectNotFoundError": 4,
    "RuntimeLostError": 1,
    "RuntimeOperationError": 1,
    "RuntimeUnavailableError": 3,
    "ServiceError": 1,
    "SessionNotFoundError": 4,
    "StartFailedError": 1,
    "StoreError": 1,
    "TokenNotFoundError": 4,
    "UnknownContainerTypeError": 4,
    "UnknownRuntimeError": 3,
    "UnsupportedError": 1,
}


def _said(error: OublietteError) -> str:
    stderr = io.StringIO()
    output = Output({}, stdin=io.StringIO(), stdout=io.StringIO(), stderr=stderr)
    boundary.report(error, output)
    return stderr.getvalue()


def test_every_error_has_a_documented_exit_code() -> None:
    """A script decides by the code; a new kind of error is given one on purpose."""
    kinds = [kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, OublietteError)]

    assert CODES == {kind.__name__: boundary.exit_code(kind("x")) for kind in kinds}


@pytest.mark.parametrize(
    ("reason", "code"), [("cancelled", 130), ("not_found", 4), ("unauthorized", 1), ("stalled", 1)]
)
def test_a_failed_pull_ends_with_the_code_of_its_reason(reason: errors.PullFailure, code: int) -> None:
    """Ctrl-C in a pull is an interruption, and an image that does not exist is not found."""
    assert code == boundary.exit_code(errors.ImagePullError("x", reason=reason))


def test_an_error_is_one_line_and_a_hint() -> None:
    """Whatever text an engine put into it."""
    assert "error: no \\x1b[31mway\n  hint: Try again.\n" == _said(OublietteError("no \x1b[31mway", hint="Try again."))


def test_all_problems_of_a_configuration_are_listed() -> None:
    """So that they can be put right together."""
    error = errors.ConfigError("2 problems in x.jsonc", problems=["runtime: bad", "models.a: worse"])

    assert "error: 2 problems in x.jsonc\n  runtime: bad\n  models.a: worse\n" == _said(error)


def test_the_last_output_of_a_process_that_did_not_start_is_shown() -> None:
    """It says why."""
    error = errors.StartFailedError("web ended at once", exit_code=1, output=b"first\ncannot open /data\x07\n")

    assert "error: web ended at once\n  first\n  cannot open /data\\x07\n" == _said(error)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.CommandNotFoundError("no such command", exit_code=127), 127),
        (errors.CommandNotFoundError("not executable", exit_code=126), 126),
        (errors.ProjectNotFoundError("no such project"), 125),
        (errors.NoRuntimeAvailableError("none"), 125),
    ],
)
def test_our_own_failures_are_told_from_the_codes_of_a_command(error: OublietteError, code: int) -> None:
    """``exec`` ends with the command's code, which may be any small number."""
    with pytest.raises(boundary.PassedThroughError) as caught, boundary.passing_through():
        raise error

    assert (code, error) == (caught.value.code, caught.value.error)
