"""Commands in the background: how many, for how long, and what is kept of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from oubliette_core.errors import ConflictError
from oubliette_core.models import Cancel, ExecResult, ExecSpec
from oubliette_core.server import background
from oubliette_core.server.background import BackgroundExecs
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import Project, SessionState
from tests.core.services.conftest import Bench

SPEC = ExecSpec(command=("true",))


@pytest.fixture
def project(bench: Bench) -> Project:
    """A project."""
    return bench.app.projects.create("demo")


@pytest.fixture
def execs(bench: Bench) -> Iterator[BackgroundExecs]:
    """The commands of a server."""
    execs = BackgroundExecs(bench.app.sessions, lambda: Owner(bench.home.locks_dir))
    yield execs
    execs.close()


def _ends(_spec: ExecSpec, _cancel: Cancel) -> ExecResult:
    return ExecResult(exit_code=0, stdout=b"x" * 100)


def _waits(_spec: ExecSpec, cancel: Cancel) -> ExecResult:
    cancel.wait(30)
    return ExecResult(exit_code=None, cancelled=True, killed=True)


def test_there_is_a_limit_of_commands_at_a_time(
    execs: BackgroundExecs, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has ended makes room."""
    monkeypatch.setattr(background, "_AT_A_TIME", 2)
    monkeypatch.setattr(background, "_FIRST_LOOK", 0.0)
    first = execs.start(project, SPEC, _waits)
    execs.start(project, SPEC, _waits)
    with pytest.raises(ConflictError, match="2 commands run in the background already"):
        execs.start(project, SPEC, _waits)
    execs.cancel(first.session)
    running = execs.running
    execs.start(project, SPEC, _waits)

    assert (1, 2) == (running, execs.running)


def test_the_oldest_results_are_forgotten(
    execs: BackgroundExecs, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number and by size; that a command has ended is still known."""
    monkeypatch.setattr(background, "_KEPT", 3)
    monkeypatch.setattr(background, "_KEPT_BYTES", 250)
    states = [execs.start(project, SPEC, _ends) for _ in range(5)]
    found = [execs.get(state.session).result is not None for state in states]

    assert [False, False, False, True, True] == found
    assert {SessionState.ENDED} == {session.state for session in execs._sessions.list()}


def test_a_closed_server_starts_nothing_and_leaves_nothing(execs: BackgroundExecs, project: Project) -> None:
    """Commands end with it, and are known to have."""
    state = execs.start(project, SPEC, _waits)
    execs.close()

    assert 0 == execs.running
    assert "cancelled" == execs._sessions.get(state.session.id).detail
    with pytest.raises(ConflictError, match="the server is stopping"):
        execs.start(project, SPEC, _ends)


def test_a_bug_ends_a_command_as_failed(
    execs: BackgroundExecs, project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    """What it was is in the log, and not with the client."""
    began = threading.Event()

    def fails(_spec: ExecSpec, _cancel: Cancel) -> ExecResult:
        began.wait(10)
        raise ZeroDivisionError("geheim")

    state = execs.start(project, SPEC, fails)
    began.set()
    ended = execs.cancel(state.session)

    assert (SessionState.FAILED, "internal error") == (ended.session.state, ended.session.detail)
    assert "geheim" not in str(ended.error)
    assert "geheim" in caplog.text


def test_a_command_of_another_server_cannot_be_cancelled_here(
    bench: Bench, execs: BackgroundExecs, project: Project
) -> None:
    """But it can be looked at, for as long as that one lives and after."""
    other = BackgroundExecs(bench.app.sessions, lambda: Owner(bench.home.locks_dir))
    session = other.start(project, SPEC, _waits).session
    with pytest.raises(ConflictError, match="was started through another server"):
        execs.cancel(session)
    other.close()

    assert SessionState.ENDED is execs.cancel(bench.app.sessions.get(session.id)).session.state
