"""What is written down of sessions: all of it, in order, bounded, and without secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import attrs
import pytest

from oubliette_core.agents import recorder as recorder_module
from oubliette_core.agents.recorder import Recorder
from oubliette_core.config import Config, CredentialsConfig, ProviderCredentials, Secret
from oubliette_core.config.redaction import Redactor
from oubliette_core.errors import BusyError
from oubliette_core.models import Cancel
from oubliette_core.services.events import EventLog
from oubliette_core.services.ids import now
from oubliette_core.services.records import Event, EventKind, Session, SessionKind, SessionState
from oubliette_core.services.sessions import StateChange
from tests.core.agents.conftest import SECONDS, Office, Open, agent_env, limits

KEY = "sk-geheimnis-0123456789"


def event(session: Session, number: int, text: str = "x") -> Event:
    """Make an event."""
    return Event(session_id=session.id, number=number, kind=EventKind.MESSAGE, created_at=now(), data={"text": text})


@pytest.fixture
def session(office: Office) -> Session:
    """A session without an agent."""
    return office.app.sessions.begin(office.project, office.host._owned(), kind=SessionKind.AGENT)


def test_ten_sessions_write_ten_thousand_events_in_few_transactions(office: Office) -> None:
    """All are there, in order, and a flush means that they are on disk."""
    sessions = [
        office.app.sessions.begin(office.project, office.host._owned(), kind=SessionKind.AGENT) for _ in range(10)
    ]
    batches: list[int] = []

    class Counting(EventLog):
        """Counts its transactions."""

        def write(self, items: Iterable[Any]) -> None:
            """Count, and write."""
            held = list(items)
            batches.append(len(held))
            super().write(held)

    recorder = Recorder(Counting(office.app._store, 2**24))

    def write(session: Session) -> None:
        for number in range(1, 1001):
            recorder.add(event(session, number))

    threads = [threading.Thread(target=write, args=(one,)) for one in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert recorder.flush()
    numbers = [[each.number for each in office.events(one)] for one in sessions]
    recorder.close()

    assert [list(range(1, 1001))] * 10 == numbers
    assert 10_000 == sum(batches)
    assert len(batches) < 200


def test_what_cannot_be_written_is_kept_and_written_later(
    office: Office, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may hold the database for a while: nothing is lost, and the order stays."""
    monkeypatch.setattr(recorder_module, "_AGAIN", 0.02)
    failures = iter([True, True])

    class Busy(EventLog):
        """Fails twice."""

        def write(self, items: Iterable[Any]) -> None:
            """Fail, or write."""
            if next(failures, False):
                raise BusyError("not now")
            super().write(items)

    recorder = Recorder(Busy(office.app._store, 2**24))
    for number in range(1, 6):
        recorder.add(event(session, number))
    assert recorder.flush()
    recorder.close()

    assert [1, 2, 3, 4, 5] == [each.number for each in office.events(session)]


def test_states_and_events_are_one_order(office: Office, session: Session) -> None:
    """Whoever sees a state sees what happened before it."""
    recorder = Recorder(office.app.events)
    recorder.add(event(session, 1))
    recorder.add(StateChange(session_id=session.id, state=SessionState.ENDED, detail="done"))
    found = recorder.wait(lambda: office.app.sessions.get(session.id).over, SECONDS)
    recorder.close()

    assert found
    assert [1] == [each.number for each in office.events(session)]


def test_a_wait_ends_when_it_is_cancelled(office: Office) -> None:
    """At once, although nothing happens."""
    recorder = Recorder(office.app.events)
    cancel = Cancel()
    threading.Timer(0.1, cancel.cancel).start()

    assert not recorder.wait(lambda: False, SECONDS, cancel)
    recorder.close()


def test_the_oldest_events_are_dropped(open_office: Open) -> None:
    """By the bound of the configuration; the newest stay, and numbers are not used again."""
    office = open_office(limits(session_log=20_000))
    session = office.spawn()
    for _ in range(20):
        office.say(session, f"hello {'x' * 2000}")
    first, last = office.app.events.bounds(session.id)
    kept = office.events(session)

    assert 140 == last
    assert 1 < first < last
    assert list(range(first, last + 1)) == [each.number for each in kept]
    assert sum(len(json.dumps(dict(each.data))) for each in kept) < 25_000


def test_events_of_a_deleted_project_are_gone(open_office: Open) -> None:
    """With its sessions."""
    office = open_office()
    session = office.spawn()
    office.say(session, "hello")
    office.host.end(session)
    office.app.projects.delete("demo")

    assert (0, 0) == office.app.events.bounds(session.id)


def test_sessions_that_ended_long_ago_are_forgotten(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones of a project stay; what is at work stays in any case."""
    monkeypatch.setattr("oubliette_core.services.sessions._KEPT", 3)
    begin, owner = office.app.sessions.begin, office.host._owned()
    active = begin(office.project, owner, kind=SessionKind.AGENT)
    for _ in range(6):
        over = begin(office.project, owner, kind=SessionKind.AGENT)
        office.app.sessions.update(over.id, SessionState.ENDED)
    found = office.app.sessions.list(office.project.id)

    assert active.id in {each.id for each in found}
    assert 5 == len(found)


def test_a_stream_of_parts_becomes_few_events_with_all_of_its_text(open_office: Open) -> None:
    """Parts that follow each other are one; whatever comes between them keeps its place."""
    office = open_office()
    session = office.spawn()
    turn = office.say(session, "flood 400")
    kinds = [each.kind for each in office.events(session)]

    assert "".join(f"{number} " for number in range(1, 401, 2)) == turn.text
    assert [EventKind.TOOL_CALL_UPDATE, EventKind.MESSAGE] * 200 == kinds[1:401]
    one = office.say(session, "hello")
    assert ["You said: hello."] == [
        each.data["text"] for each in office.events(session, EventKind.MESSAGE) if each.number > one.number
    ]


def _everything(office: Office) -> str:
    """Return all that the home's database holds."""
    with office.app._store.read() as connection:
        return "\n".join(connection.iterdump())


def test_no_secret_is_written_down(open_office: Open) -> None:
    """Not what an agent says in one piece or in two, nor what it prints as errors, nor what a user types."""
    office = open_office(agent_env(TEST_KEY=KEY))
    session = office.spawn()
    turn = office.say(session, "secret")
    office.say(session, f"variable TEST_KEY {KEY}")

    assert "The key is ***, whole: ***." == turn.text
    assert KEY not in _everything(office)
    assert KEY[:12] not in _everything(office)


def test_keys_of_providers_reach_the_agent_and_no_record(open_office: Open) -> None:
    """In the variable that the agent's entry names."""

    def change(config: Config) -> Config:
        agent = attrs.evolve(config.agents["test"], keys={"acme": "TEST_KEY"}, model_variable="TEST_MODEL")
        providers = {"acme": ProviderCredentials(api_key=Secret(KEY))}
        return attrs.evolve(config, agents={"test": agent}, credentials=CredentialsConfig(providers=providers))

    office = open_office(change)
    session = office.spawn(model="acme/large")
    texts = [office.say(session, f"variable {name}").text for name in ("TEST_KEY", "TEST_MODEL")]

    assert ["TEST_KEY=***", "TEST_MODEL=large"] == texts
    assert KEY not in _everything(office)


def test_a_value_of_several_lines_reaches_the_agent(open_office: Open) -> None:
    """A key in PEM has many."""
    office = open_office(agent_env(TEST_KEY="x", LONG="one\n  two\n\nthree"))
    session = office.spawn()

    assert "16" == office.say(session, "length LONG").text


@pytest.mark.parametrize(
    ("text", "kept"),
    [("nothing", 0), ("it is sk-", 3), (f"whole {KEY}", 0), ("s", 1), ("", 0), (f"{KEY}{KEY[:-1]}", len(KEY) - 1)],
)
def test_what_may_be_the_beginning_of_a_secret_waits_for_the_rest(text: str, kept: int) -> None:
    """However it is cut."""
    assert kept == Redactor([KEY]).unfinished(text)


def test_the_agent_chooses_the_model_it_offers(open_office: Open) -> None:
    """By the protocol, where it has the model among its options."""
    office = open_office()
    session = office.spawn(model="a/two")

    assert "model=a/two" == office.say(session, "variable model").text
    assert "a/two" == session.model
