"""Sessions that another process drives, or drove until it died."""

from __future__ import annotations

import threading

import pytest

from oubliette_core.errors import ActiveSessionsError, BusyError, ConflictError, InvalidValueError
from oubliette_core.services import mailbox
from oubliette_core.services.ending import end_sessions
from oubliette_core.services.records import EventKind, SessionKind, SessionState
from tests.core.agents.conftest import SECONDS, Office, Open


def die(office: Office) -> None:
    """Let a host cease as in a crash: nothing is said, its agents run on, and its lock is let go."""
    owner = office.host._owner
    assert owner is not None
    office.host._postman.close()
    owner.close()


def test_a_message_goes_to_the_process_that_drives_the_session(open_office: Open) -> None:
    """It is worked on there, and followed from here."""
    server, other = open_office(), open_office()
    session = server.spawn()
    found = other.spawn()
    turn = other.say(found, "hello")

    assert session.id == found.id
    assert () == other.host.live
    assert ("end_turn", "You said: hello.") == (turn.stop_reason, turn.text)


def test_questions_are_answered_from_elsewhere(open_office: Open) -> None:
    """With the same errors as at home."""
    server, other = open_office(), open_office()
    session = server.spawn()
    asked = other.say(session, "ask")
    question = asked.session.questions[0].id
    with pytest.raises(ConflictError, match="does not ask 'q9999'"):
        other.host.answer(session, "q9999", "once")
    other.host.answer(session, question, "once")
    done = other.host.follow(session.id, asked.number, after=asked.last, wait=SECONDS)

    assert "It is done." == done.text


def test_work_is_stopped_from_elsewhere(open_office: Open) -> None:
    """And a second message is refused from there as from here."""
    server, other = open_office(), open_office()
    session = server.spawn()
    number = other.host.message(session, "hang")
    with pytest.raises(ConflictError, match="is at work on a message"):
        other.host.message(session, "hello")

    assert other.host.cancel(session)
    assert "cancelled" == other.host.follow(session.id, number, wait=SECONDS).stop_reason
    assert not other.host.cancel(session)


def test_what_is_at_work_keeps_the_container_until_it_is_ended_from_elsewhere(open_office: Open) -> None:
    """Refresh, stop and deletion name it; afterwards they do what was asked."""
    server, other = open_office(), open_office()
    session = server.spawn()
    containers = other.app.containers
    for refused in (containers.refresh, containers.stop, other.app.projects.delete):
        with pytest.raises(ActiveSessionsError, match=session.id):
            refused("demo")
    ended = end_sessions(other.app.sessions, other.app.mailbox, other.project)
    refreshed = containers.refresh("demo")

    assert [session.id] == [each.id for each in ended]
    assert (SessionState.ENDED, False) == (server.app.sessions.get(session.id).state, refreshed.skipped)


def test_a_process_that_does_not_react_is_told(open_office: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for ever, and no request is left behind."""
    monkeypatch.setattr(mailbox, "_PICKED_UP", 0.2)
    server, other = open_office(), open_office()
    session = server.spawn()
    server.host._postman.close()
    with pytest.raises(BusyError, match="does not react"):
        other.host.message(session, "hello")

    assert () == other.app.mailbox.take(lambda _session: True)


def test_a_process_that_dies_meanwhile_is_told(open_office: Open) -> None:
    """Whoever waits for its answer does not wait long."""
    server, other = open_office(), open_office()
    session = server.spawn()
    server.host._postman.close()
    threading.Timer(0.3, die, [server]).start()
    with pytest.raises(ConflictError, match="has ended"):
        other.host.message(session, "hello")


def test_a_session_of_a_dead_process_is_seen_to_and_gone_on_with(open_office: Open) -> None:
    """The record says what happened; the agent remembers what was said, and numbers go on."""
    server = open_office()
    session = server.spawn()
    server.say(session, "remember me")
    server.host.message(session, "hang")
    server.wait_for(session, lambda events: events[-1].kind is EventKind.MESSAGE)
    die(server)
    other = open_office()
    lost = other.app.sessions.get(session.id)
    again = other.spawn()
    turn = other.say(again, "count")
    numbers = [event.number for event in other.events(session)]

    assert (SessionState.FAILED, "the process that drove it has died") == (lost.state, lost.detail)
    assert session.id == again.id
    assert "First you said: remember me." == turn.text
    assert list(range(1, len(numbers) + 1)) == numbers
    (error,) = other.events(session, EventKind.ERROR)
    assert "the process that drove it has died" == error.data["message"]


def test_whoever_starts_next_clears_away_what_the_dead_left(open_office: Open) -> None:
    """Sessions without a driver do not stay in the list of what is lost."""
    server = open_office()
    session = server.spawn()
    die(server)
    other = open_office()
    lost = other.app.sessions.lost()
    reaped = other.app.reaper.reap()

    assert [session.id] == [each.id for each in lost] == [each.id for each in reaped]
    assert () == other.app.sessions.lost()
    assert () == other.app.reaper.reap()


def test_two_that_want_to_go_on_with_a_session_do_not_both(open_office: Open) -> None:
    """Only one agent runs on the home directory."""
    server = open_office()
    session = server.spawn()
    server.say(session, "hello")
    server.host.close()
    one, two = open_office(), open_office()
    found = [office.spawn() for office in (one, two)]

    assert {session.id} == {each.id for each in found}
    assert [(session.id,), ()] == [one.host.live, two.host.live]


def test_only_what_ended_without_its_user_is_gone_on_with(open_office: Open) -> None:
    """By its id too, and also when it is not the last; what was ended says why not."""
    office = open_office()
    first = office.spawn()
    office.say(first, "number one")
    office.host.close()
    second = open_office()
    other = second.spawn(new_session=True)
    resumed = second.host.resume(second.project, first)
    second.host.end(other)

    assert "First you said: number one." == second.say(resumed, "count").text
    with pytest.raises(ConflictError, match="is over: ended by the user"):
        second.host.resume(second.project, other)


class _Commands:
    """Commands in the background of one process."""

    def __init__(self, *known: str) -> None:
        self.known = set(known)

    def knows(self, session_id: str) -> bool:
        return session_id in self.known

    def end(self, session_id: str) -> None:
        self.known.remove(session_id)


def test_a_background_command_is_ended_by_the_process_that_runs_it(open_office: Open) -> None:
    """And by no other server, although all look into the same box."""
    offices = [open_office(), open_office()]
    session = offices[1].app.sessions.begin(offices[1].project, offices[1].host._owned(), kind=SessionKind.EXEC)
    commands = [_Commands(), _Commands(session.id)]
    for office, known in zip(offices, commands, strict=True):
        office.host._commands = known
        office.host.listen()
    offices[0].app.mailbox.ask(session.id, "end", {})

    assert set() == commands[1].known


def test_an_unknown_request_is_refused(open_office: Open) -> None:
    """A newer version's, for example."""
    office = open_office()
    session = office.spawn()
    with pytest.raises(ConflictError, match="cannot be asked to dance"):
        office.app.mailbox.ask(session.id, "dance", {})
    with pytest.raises(InvalidValueError):
        office.spawn(autonomy="dance")
