"""Sessions from their beginning to their end, as one process drives them."""

from __future__ import annotations

import contextlib
import threading
import time

import attrs
import pytest

from oubliette_core.agents import live
from oubliette_core.config import AgentConfig, Config, Secret
from oubliette_core.errors import (
    AgentError,
    ConfigError,
    ConflictError,
    ImagePullError,
    InvalidValueError,
    OperationCancelledError,
)
from oubliette_core.models import Cancel
from oubliette_core.services.records import EventKind, SessionState
from tests.core.agents.conftest import SECONDS, Open, agent_env, limits

COMPLETIONS = (EventKind.COMPLETION, EventKind.ERROR)


def test_an_agent_is_started_with_container_and_image(open_office: Open) -> None:
    """One call from nothing: the project has no container, and its image is not here."""
    office = open_office()
    present = office.app.images.find_local("base")
    session = office.spawn()

    assert present is None
    assert ("test", SessionState.IDLE, True) == (session.agent, session.state, session.resumable)
    assert "running" == office.app.containers.get("demo").state
    assert (session.id,) == office.app.containers.get("demo").sessions


def test_three_messages_are_one_conversation(open_office: Open) -> None:
    """The agent has the first still in mind at the third, and each turn has what was said in it."""
    office = open_office()
    session = office.spawn()
    turns = [office.say(session, text) for text in ("good morning", "and again", "count")]

    assert ["end_turn"] * 3 == [turn.stop_reason for turn in turns]
    assert ["You said: good morning.", "You said: and again.", "First you said: good morning."] == [
        turn.text for turn in turns
    ]
    assert {"total_tokens": 12, "input_tokens": 7, "output_tokens": 5} == turns[0].usage
    assert SessionState.IDLE is turns[2].session.state


def test_what_happens_is_numbered_and_in_order(open_office: Open) -> None:
    """From one, without a gap, whatever it is."""
    office = open_office()
    session = office.spawn()
    for text in ("hello", "plan", "usage"):
        office.say(session, text)
    events = office.events(session)

    assert list(range(1, len(events) + 1)) == [event.number for event in events]
    kinds = [event.kind.value for event in events]
    assert ["prompt", "thought", "tool_call", "tool_call_update", "message", "usage", "completion"] == kinds[:7]
    assert ["prompt", "plan", "usage", "completion"] == kinds[7:11]
    assert {"id": "t1", "title": "Look around", "tool": "read", "status": "pending"} == events[2].data
    assert {"context_used": 10, "context_size": 1000, "cost": {"amount": 0.5, "currency": "USD"}} == events[12].data


def test_what_asks_waits_for_an_answer(open_office: Open) -> None:
    """A command is more than medium autonomy allows; what is chosen reaches the agent."""
    office = open_office()
    session = office.spawn()
    asked = office.say(session, "ask")
    (question,) = asked.session.questions
    office.host.answer(session, question.id, "once")
    done = office.host.follow(session.id, asked.number, after=asked.last, wait=SECONDS)

    assert (False, SessionState.WAITING) == (asked.over, asked.session.state)
    assert ("execute", "rm -rf build") == (question.tool, question.title)
    assert ["always", "once", "no"] == [option.id for option in question.options]
    assert ("end_turn", "It is done.", ()) == (done.stop_reason, done.text, done.session.questions)
    assert (office.project.workspace / "asked").exists()
    answers = [event.data.get("answer") for event in office.events(session, EventKind.PERMISSION)]
    assert [None, "once"] == answers


def test_a_refusal_reaches_the_agent_too(open_office: Open) -> None:
    """It goes on without what it wanted."""
    office = open_office()
    session = office.spawn()
    asked = office.say(session, "ask")
    office.host.answer(session, asked.session.questions[0].id, "no")
    done = office.host.follow(session.id, asked.number, after=asked.last, wait=SECONDS)

    assert "Then not." == done.text
    assert not (office.project.workspace / "asked").exists()


@pytest.mark.parametrize(
    ("autonomy", "edits", "runs"),
    [("off", False, False), ("low", False, False), ("medium", True, False), ("high", True, True)],
)
def test_autonomy_answers_what_it_allows(open_office: Open, autonomy: str, *, edits: bool, runs: bool) -> None:
    """Off asks for everything; high for nothing. What was answered by itself is in the record all the same."""
    office = open_office()
    session = office.spawn(autonomy=autonomy)
    turns = []
    for text in ("edit", "ask"):
        turns.append(office.say(session, text))
        if not turns[-1].over:
            office.host.cancel(session)
            office.host.follow(session.id, turns[-1].number, after=turns[-1].last, wait=SECONDS)
    by = [event.data["by"] for event in office.events(session, EventKind.PERMISSION) if "by" in event.data]

    assert [edits, runs] == [turn.over for turn in turns]
    assert ["autonomy" if allowed else "cancel" for allowed in (edits, runs)] == by


def test_what_is_not_asked_cannot_be_answered(open_office: Open) -> None:
    """Nor with what is no answer."""
    office = open_office()
    session = office.spawn()
    asked = office.say(session, "ask")
    question = asked.session.questions[0].id
    with pytest.raises(InvalidValueError, match="there are: always, once, no"):
        office.host.answer(session, question, "perhaps")
    office.host.answer(session, question, "once")
    with pytest.raises(ConflictError, match="does not ask"):
        office.host.answer(session, question, "once")


def test_a_cancel_ends_the_work_and_not_the_session(open_office: Open) -> None:
    """In the middle of a turn; the next message is worked on."""
    office = open_office()
    session = office.spawn()
    number = office.host.message(session, "hang")
    office.wait_for(session, lambda events: events[-1].kind is EventKind.MESSAGE)
    was_at_work = office.host.cancel(session)
    turn = office.host.follow(session.id, number, wait=SECONDS)
    after = office.say(session, "hello")

    assert was_at_work
    assert ("cancelled", SessionState.IDLE) == (turn.stop_reason, turn.session.state)
    assert "You said: hello." == after.text
    assert not office.host.cancel(session)


def test_one_message_at_a_time(open_office: Open) -> None:
    """The second is refused with what to do, and changes nothing."""
    office = open_office()
    session = office.spawn()
    number = office.host.message(session, "hang")
    with pytest.raises(ConflictError, match="is at work on a message"):
        office.host.message(session, "hello")
    office.host.cancel(session)

    assert "cancelled" == office.host.follow(session.id, number, wait=SECONDS).stop_reason
    assert 1 == len(office.events(session, EventKind.PROMPT))


def test_an_agent_that_does_not_stop_is_killed(open_office: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancel ends; what came of it is said, and the next message begins anew."""
    monkeypatch.setattr(live, "CANCEL_SECONDS", 0.2)
    office = open_office()
    session = office.spawn()
    number = office.host.message(session, "stubborn")
    office.host.cancel(session)
    turn = office.host.follow(session.id, number, wait=SECONDS)
    again = office.spawn()

    assert ("failed", SessionState.FAILED) == (turn.stop_reason, turn.session.state)
    assert "agent test did not stop when it was told to, and was killed" in turn.detail
    assert session.id != again.id


def test_a_crash_is_told_and_the_next_message_begins_anew(open_office: Open) -> None:
    """With the exit code and the last that the agent printed."""
    office = open_office()
    session = office.spawn()
    turn = office.say(session, "crash")
    (error,) = office.events(session, EventKind.ERROR)
    again = office.spawn()

    assert "agent test ended in the middle of its work (exit code 3)" == turn.detail
    assert SessionState.FAILED is turn.session.state
    assert "it broke: no such thing" in error.data["output"]
    assert session.id != again.id
    assert "You said: hello." == office.say(again, "hello").text
    with pytest.raises(ConflictError, match="is over"):
        office.host.message(session, "hello")


def test_a_turn_that_takes_too_long_is_stopped(open_office: Open) -> None:
    """By the limit of the configuration."""
    office = open_office(limits(turn_time=0.3))
    turn = office.say(office.spawn(), "hang")

    assert ("cancelled", "it took longer than 0.3 s") == (turn.stop_reason, turn.detail)


def test_a_session_without_messages_is_set_aside_and_gone_on_with(open_office: Open) -> None:
    """It costs nothing then, and the agent remembers."""
    office = open_office(limits(idle_time=2.0))
    session = office.spawn()
    office.say(session, "remember me")
    deadline = time.monotonic() + SECONDS
    while not office.app.sessions.get(session.id).over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended = office.app.sessions.get(session.id)
    again = office.spawn()
    turn = office.say(again, "count")

    assert (SessionState.ENDED, "no message for 2 s") == (ended.state, ended.detail)
    assert session.id == again.id
    assert "First you said: remember me." == turn.text
    texts = [event.data["text"] for event in office.events(session, EventKind.MESSAGE)]
    assert "What was said before." not in texts


def test_an_error_of_the_agent_ends_the_turn_alone(open_office: Open) -> None:
    """A model that is out of reach is no reason to begin anew."""
    office = open_office()
    session = office.spawn()
    turn = office.say(session, "refuse")

    assert ("failed", "Internal error: the model is on strike") == (turn.stop_reason, turn.detail)
    assert "You said: hello." == office.say(session, "hello").text


def test_an_end_is_for_good(open_office: Open) -> None:
    """The next message begins a new session."""
    office = open_office()
    session = office.spawn()
    office.say(session, "hello")
    ended = office.host.end(session)
    again = office.spawn()

    assert (SessionState.ENDED, "ended by the user", False) == (ended.state, ended.detail, ended.resumable)
    assert session.id != again.id
    assert office.host.end(session).over


def test_an_end_in_the_middle_of_a_turn_ends_the_turn(open_office: Open) -> None:
    """Whoever follows it hears of that."""
    office = open_office()
    session = office.spawn()
    number = office.host.message(session, "hang")
    office.host.end(session)
    turn = office.host.follow(session.id, number, wait=SECONDS)

    assert ("cancelled", SessionState.ENDED) == (turn.stop_reason, turn.session.state)


def test_the_active_session_is_the_one_that_is_meant(open_office: Open) -> None:
    """Unless a new one is asked for, or one with other settings."""
    office = open_office()
    first = office.spawn()
    same = office.spawn()
    more = office.spawn(new_session=True)
    free = office.spawn(autonomy="high")

    assert first.id == same.id
    assert 3 == len({first.id, more.id, free.id})
    assert free.id == office.spawn(autonomy="high").id


def test_two_threads_start_one_agent(open_office: Open) -> None:
    """Both get the same session."""
    office = open_office()
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(office.spawn().id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)

    assert 4 == len(found)
    assert 1 == len(set(found))


def test_a_project_has_so_many_sessions(open_office: Open) -> None:
    """By the limit of the configuration; one that ended makes room."""
    office = open_office(limits(sessions=2))
    first = office.spawn()
    office.spawn(new_session=True)
    with pytest.raises(ConflictError, match="has 2 sessions at work already"):
        office.spawn(new_session=True)
    office.host.end(first)

    assert SessionState.IDLE is office.spawn(new_session=True).state


def test_an_agent_that_is_not_in_the_image_is_named(open_office: Open) -> None:
    """With what to do about it, and nothing is left at work."""
    office = open_office(lambda config: attrs.evolve(config, agents={"test": AgentConfig(command=("no-such-agent",))}))
    with pytest.raises(
        AgentError, match="agent test could not be started: no-such-agent was not found in the con"
    ) as e:
        office.spawn()

    assert "agents.test.command" in e.value.hint
    assert () == office.app.sessions.active()
    (session,) = office.app.sessions.list()
    assert (SessionState.FAILED, e.value.message) == (session.state, session.detail)


def test_an_agent_that_ends_at_once_is_told_with_its_last_words(open_office: Open) -> None:
    """Its exit code too; what the configuration gave it in confidence is masked."""
    office = open_office(agent_env(AGENT_DIES="4", AGENT_GREETING="no licence: sesame"))
    with pytest.raises(AgentError, match=r"could not be started: it ended at once \(exit code 4\)") as caught:
        office.spawn()

    assert caught.value.output.endswith("***")
    assert "sesame" not in caught.value.output


def test_an_agent_that_wants_a_key_says_which_setting(open_office: Open) -> None:
    """Where it names a variable that it was given, that way of authentication is chosen by itself."""
    office = open_office(agent_env(AGENT_LOCKED="1"))
    with pytest.raises(AgentError, match="Authentication required") as caught:
        office.spawn()
    allowed = open_office(agent_env(AGENT_LOCKED="1", TEST_KEY="open sesame"))

    assert "agents.test.keys" in caught.value.hint
    assert SessionState.IDLE is allowed.spawn().state


def test_an_agent_that_cannot_go_on_begins_anew(open_office: Open) -> None:
    """Its earlier session is over then."""
    first = open_office(agent_env(AGENT_LOADS="false"))
    session = first.spawn()
    first.host.close()
    second = open_office(agent_env(AGENT_LOADS="false"))

    assert session.id != second.spawn().id


def test_an_unknown_agent_or_a_key_that_is_not_there_starts_nothing(open_office: Open) -> None:
    """Before anything is done: no container is made."""
    office = open_office(lambda config: attrs.evolve(config, agents={"test": config.agents["test"]}))
    with pytest.raises(InvalidValueError, match="there is no agent 'tset'; did you mean test"):
        office.spawn(agent="tset")

    assert "absent" == office.app.containers.get("demo").state
    assert () == office.app.sessions.list()


def test_a_start_can_be_cancelled(open_office: Open) -> None:
    """While the agent says nothing."""
    silent = AgentConfig(command=("sleep", "1000"))
    office = open_office(lambda config: attrs.evolve(config, agents={"test": silent}))
    cancel = Cancel()
    threading.Timer(0.5, cancel.cancel).start()
    with pytest.raises((OperationCancelledError, ImagePullError)):  # whichever step it is in
        office.spawn(cancel=cancel)

    assert () == office.app.sessions.active()


def test_a_session_that_starts_can_be_ended(open_office: Open) -> None:
    """By whoever sees it in the list."""
    silent = AgentConfig(command=("sleep", "1000"))
    office = open_office(lambda config: attrs.evolve(config, agents={"test": silent}))
    failures: list[BaseException] = []

    def spawn() -> None:
        try:
            office.spawn()
        except (OperationCancelledError, ImagePullError) as error:  # whichever step it is in
            failures.append(error)

    thread = threading.Thread(target=spawn)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not office.host.starting:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ended = office.host.end(office.app.sessions.active()[0])
    thread.join(SECONDS)

    assert ended.over
    assert 1 == len(failures)


def test_what_is_no_message_is_passed_over(open_office: Open) -> None:
    """Lines of text, lists, responses to nothing, updates of a kind that is not known yet."""
    office = open_office()
    turn = office.say(office.spawn(), "noise")

    assert ("end_turn", "Never mind.") == (turn.stop_reason, turn.text)


def test_a_closed_host_starts_nothing_and_leaves_nothing(open_office: Open) -> None:
    """Its sessions are set aside."""
    office = open_office()
    session = office.spawn()
    number = office.host.message(session, "hang")
    office.host.close()
    found = office.app.sessions.get(session.id)

    assert (SessionState.ENDED, True) == (found.state, found.resumable)
    assert "cancelled" == office.host.follow(session.id, number, wait=0.0).stop_reason
    with pytest.raises(ConflictError, match="the server is stopping"):
        office.spawn(new_session=True)


def test_a_secret_that_is_not_set_is_named_before_anything_happens(open_office: Open) -> None:
    """Only the agent that needs it fails."""

    def change(config: Config) -> Config:
        return attrs.evolve(config, agents={"test": AgentConfig(command=("x",), env={"A": Secret("", unset="A_KEY")})})

    office = open_office(change)
    with pytest.raises(ConfigError, match="A_KEY is not set"):
        office.spawn()

    assert () == office.app.sessions.list()


def test_whoever_waits_for_another_start_can_be_cancelled(open_office: Open) -> None:
    """A start may take as long as a pull does."""
    silent = AgentConfig(command=("sleep", "1000"))
    office = open_office(lambda config: attrs.evolve(config, agents={"test": silent}))
    first, second = Cancel(), Cancel()

    def spawn() -> None:
        with contextlib.suppress(OperationCancelledError):
            office.spawn(cancel=first)

    thread = threading.Thread(target=spawn)
    thread.start()
    deadline = time.monotonic() + SECONDS
    while not office.host.starting:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    threading.Timer(0.2, second.cancel).start()
    with pytest.raises(OperationCancelledError, match="another session starts"):
        office.spawn(cancel=second)
    first.cancel()
    thread.join(SECONDS)

    assert () == office.app.sessions.active()
