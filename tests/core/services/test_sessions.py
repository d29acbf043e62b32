"""Sessions: every process sees which are at work, and none is taken for active when its owner is dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import ActiveSessionsError, BusyError, ConflictError, SessionNotFoundError
from oubliette_core.services.locks import ProjectLocks
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import SessionKind, SessionState
from oubliette_core.services.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.config import Home
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.store import Store
    from tests.core.services.conftest import MakeProject


@pytest.fixture
def sessions(store: Store, locks: ProjectLocks, home: Home) -> Sessions:
    """The records of sessions."""
    return Sessions(store, locks, home.locks_dir)


@pytest.fixture
def owner(home: Home) -> Iterator[Owner]:
    """This process, as an owner."""
    with Owner(home.locks_dir) as owner:
        yield owner


def test_a_session_is_active_from_its_beginning_until_it_is_over(
    sessions: Sessions, owner: Owner, make_project: MakeProject
) -> None:
    """In every state but the two last ones."""
    project = make_project()
    session = sessions.begin(project, owner, kind=SessionKind.AGENT, title="opencode")
    active = [
        [sessions.update(session.id, state).state] == [s.state for s in sessions.active()] for state in SessionState
    ]

    assert session.id.startswith("ses_")
    assert [True, True, True, True, False, False] == active


def test_a_background_command_is_a_session_too(sessions: Sessions, owner: Owner, make_project: MakeProject) -> None:
    """A refresh would end it just as well."""
    session = sessions.begin(make_project(), owner, kind=SessionKind.EXEC, title="make test")

    assert session.id.startswith("exec_")
    assert (session,) == sessions.active()


def test_a_session_whose_owner_died_has_failed(sessions: Sessions, home: Home, make_project: MakeProject) -> None:
    """Nobody has to be there to write that down."""
    with Owner(home.locks_dir) as owner:
        session = sessions.begin(make_project(), owner, kind=SessionKind.AGENT)
    found = sessions.get(session.id)

    assert () == sessions.active()
    assert (SessionState.FAILED, "the process that drove it has died") == (found.state, found.detail)


def test_sessions_are_those_of_the_project_that_is_asked_for(
    sessions: Sessions, owner: Owner, make_project: MakeProject
) -> None:
    """Newest first; without a project, all."""
    one, two = make_project("one"), make_project("two")
    first = sessions.begin(one, owner, kind=SessionKind.AGENT)
    second = sessions.begin(two, owner, kind=SessionKind.AGENT)
    third = sessions.begin(one, owner, kind=SessionKind.EXEC)

    assert [third.id, first.id] == [session.id for session in sessions.list(one.id)]
    assert [third.id, second.id, first.id] == [session.id for session in sessions.list()]


def test_active_sessions_are_listed_in_the_refusal(sessions: Sessions, owner: Owner, make_project: MakeProject) -> None:
    """The user has to know what would be lost, and what to end."""
    project = make_project()
    sessions.refuse_if_active(project, "refreshed")
    session = sessions.begin(project, owner, kind=SessionKind.AGENT, title="opencode")
    with pytest.raises(ActiveSessionsError) as caught:
        sessions.refuse_if_active(project, "refreshed")

    assert (session.id,) == caught.value.sessions
    assert f"project demo cannot be refreshed: at work in it: {session.id} (opencode)" == caught.value.message


def test_none_begins_while_something_is_done_to_the_project(
    store: Store, home: Home, owner: Owner, locks: ProjectLocks, make_project: MakeProject
) -> None:
    """Else a refresh that saw no session would take the container away from one."""
    sessions = Sessions(store, ProjectLocks(home.locks_dir, wait=0.1), home.locks_dir)
    project = make_project()
    with locks.hold(project.id), pytest.raises(BusyError):
        sessions.begin(project, owner, kind=SessionKind.AGENT)

    assert () == sessions.list()


def test_none_begins_in_a_project_that_is_going_or_gone(
    sessions: Sessions, owner: Owner, records: ProjectRecords, make_project: MakeProject
) -> None:
    """Its container may be removed at any moment."""
    going, gone = make_project("going"), make_project("gone")
    records.begin_deletion(going.id)
    records.delete(gone.id)
    for project in (going, gone):
        with pytest.raises(ConflictError, match="is being deleted"):
            sessions.begin(project, owner, kind=SessionKind.AGENT)

    assert () == sessions.list()


def test_an_unknown_session_is_not_found(sessions: Sessions) -> None:
    """Asked for or written to."""
    with pytest.raises(SessionNotFoundError):
        sessions.get("ses_aaaaaaaaaaaa")
    with pytest.raises(SessionNotFoundError) as caught:
        sessions.update("ses_aaaaaaaaaaaa", SessionState.ENDED)

    assert "ses_aaaaaaaaaaaa" == caught.value.subject
