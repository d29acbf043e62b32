"""One agent at work: the conversation with it, and the state that it is in. All of it happens in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import acp
import attrs
from acp import schema

from oubliette_core.agents.greeting import greet
from oubliette_core.agents.journal import Journal
from oubliette_core.agents.questions import Questions
from oubliette_core.agents.transport import ProcessTransport
from oubliette_core.agents.updates import chunk_of, clipped, event_of, usage_of
from oubliette_core.errors import AgentError, ConflictError, OublietteError
from oubliette_core.services.records import EventKind, Session, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.agents.greeting import Greeting
    from oubliette_core.agents.launch import Launch
    from oubliette_core.agents.recorder import Recorder
    from oubliette_core.agents.starter import Starter
    from oubliette_core.config.redaction import Redactor
    from oubliette_core.models import Process

__all__ = ["LiveSession", "Times"]

_log = logging.getLogger(__name__)
CANCEL_SECONDS = 10.0
"""How long an agent may take to stop that was told to."""
_MARK_SECONDS = 20.0
_END_SECONDS = 2.0
_LONGEST_END = 15.0
_LONGEST_PROMPT = 2**20


@attrs.frozen(kw_only=True)
class Times:
    """Seconds that things may take.

    :param start: until the agent has answered its first messages. :param turn: the work on one message.
    :param idle: until the next message.
    """

    start: float = 120.0
    turn: float
    idle: float


class LiveSession:
    """A session that this process drives.

    :param process: runs the shell of `Starter`. :param first: number of the next event.
    :param on_over: called once, in the event loop, when it has ended.
    """

    def __init__(
        self,
        session: Session,
        process: Process,
        starter: Starter,
        launch: Launch,
        *,
        recorder: Recorder,
        redact: Redactor,
        times: Times,
        first: int,
        on_over: Callable[[LiveSession], None],
    ) -> None:
        self.session = session
        self.state = SessionState.STARTING
        self._process = process
        self._starter = starter
        self._launch = launch
        self._times = times
        self._on_over = on_over
        self._loop = asyncio.get_running_loop()
        self._journal = Journal(session.id, recorder, redact, self._loop, first=first)
        self._questions = Questions(session.id, launch.autonomy, self._journal, self._asked_or_answered)
        self._mark: asyncio.Future[tuple[str, str] | None] = self._loop.create_future()
        self._transport = ProcessTransport(
            process, on_line=self._hear, is_full=lambda: recorder.is_full, on_end=self._silent
        )
        self._connection: Any = None
        self._agent_session = ""
        self._turn: int | None = None
        self._turn_task: asyncio.Task[None] | None = None
        self._stopped_for = ""
        self._muted = True
        self._ending = False
        self._over = asyncio.Event()
        self._idle_timer: asyncio.TimerHandle | None = None
        self._stop_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.state in (SessionState.ENDED, SessionState.FAILED)

    # -- The beginning --------------------------------------------------------------------------------------------

    async def mark(self) -> tuple[str, str]:
        """Return what the agent's processes will be known by: limit and token. :raises AgentError: no shell says so."""
        try:
            mark = await asyncio.wait_for(asyncio.shield(self._mark), _MARK_SECONDS)
        except TimeoutError:
            mark = None
        if mark is None:
            raise await self._not_started("its shell says nothing")
        return mark

    async def greet(self, resume: str) -> Greeting:
        """Let the shell become the agent, and begin a session with it.

        :param resume: the agent's own id of a session to go on with; empty for a new one.
        :raises AgentError: it cannot be started, does not speak the protocol, or cannot go on with the session.
        """
        self._transport.give(self._starter.variables)
        self._connection = acp.connect_to_agent(_Client(self), self._transport)  # type: ignore[arg-type]
        try:
            async with asyncio.timeout(self._times.start):
                greeting = await greet(self._connection, self._launch, resume)
        except TimeoutError:
            raise await self._not_started(f"it did not answer within {self._times.start:g} s") from None
        except acp.RequestError as error:
            raise await self._not_started(self._words(error), self._hint(error)) from error
        except ConnectionError as error:
            raise await self._not_started("") from error
        except ValueError as error:
            raise await self._not_started("it does not answer as the protocol demands") from error
        self._agent_session = greeting.session
        self._muted = False
        self._change(SessionState.IDLE)
        return greeting

    async def _not_started(self, why: str, hint: str = "") -> AgentError:
        """Put an end to an agent that has not got anywhere; returns the error that says so."""
        code = await self._let_go(patience=1.0)
        self._over.set()
        agent, program = self.session.agent, self._launch.command[0]
        if code in (126, 127):
            why = f"{program} {'was not found' if code == 127 else 'cannot be run'} in the container"
            hint = f"Use a container type whose image has it, or change agents.{agent}.command."
        elif not why:
            why = "it ended at once" + ("" if code is None else f" (exit code {code})")
        message = f"agent {agent} could not be started: {why}"
        return AgentError(message, subject=self.session.id, output=self._last_errors, hint=hint)

    # -- Turns ----------------------------------------------------------------------------------------------------

    async def prompt(self, text: str) -> int:
        """Give the agent a message to work on; returns the number of the turn.

        :raises ConflictError: it works on one already, or has ended.
        """
        if self.state is not SessionState.IDLE or self._ending:
            raise ConflictError(
                f"session {self.session.id} is {_WORDS[self.state]}",
                subject=self.session.id,
                hint="Wait for the end of its work, or stop it.",
            )
        self._turn = self._journal.event(EventKind.PROMPT, {"text": clipped(text, _LONGEST_PROMPT)})
        self._stopped_for = ""
        self._change(SessionState.RUNNING)
        self._turn_task = asyncio.create_task(self._work(self._turn, text))
        return self._turn

    async def _work(self, turn: int, text: str) -> None:
        request = asyncio.ensure_future(self._connection.prompt(self._agent_session, [acp.text_block(text)]))
        try:
            done, _ = await asyncio.wait({request}, timeout=self._times.turn)
            if not done:
                await self._interrupt("turn_time")
            response = await request
        except acp.RequestError as error:
            self._journal.event(EventKind.ERROR, {"turn": turn, "message": self._words(error)})
            self._ended_turn()
        except (ConnectionError, ValueError) as error:
            await self._broken(error)
        else:
            self._complete(turn, response)
            self._ended_turn()
        finally:
            self._turn_task = None

    def _complete(self, turn: int, response: schema.PromptResponse) -> None:
        """Record how a turn ended."""
        data: dict[str, Any] = {"turn": turn, "stop_reason": response.stop_reason}
        if self._stopped_for == "turn_time":
            data["detail"] = f"it took longer than {self._times.turn:g} s"
        usage = usage_of(response.usage)
        if usage:
            self._journal.event(EventKind.USAGE, dict(usage))
            data["usage"] = usage
        self._journal.event(EventKind.COMPLETION, data)

    def _ended_turn(self) -> None:
        self._turn = None
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        if not self._ending:
            self._change(SessionState.IDLE)

    async def _broken(self, error: Exception) -> None:
        """Record that the agent ended, or fell silent, in the middle of its work."""
        if self._ending:
            self._journal.event(EventKind.COMPLETION, {"turn": self._turn, "stop_reason": "cancelled"})
            self._turn = None
            return
        if self._stopped_for == "killed":
            why = "did not stop when it was told to, and was killed"
        elif isinstance(error, ConnectionError):
            why = "ended in the middle of its work"
        else:
            why = "does not answer as the protocol demands"
        await self._finish(SessionState.FAILED, why, resumable=False, patience=1.0)

    async def cancel(self) -> bool:
        """Ask the agent to stop its work on a message; tells whether it was at work.

        One that has not stopped within a few seconds is killed.
        """
        if self._turn_task is None:
            return False
        await self._interrupt("cancelled")
        return True

    async def _interrupt(self, reason: str) -> None:
        self._stopped_for = self._stopped_for or reason
        await self._questions.drop()
        with contextlib.suppress(ConnectionError):
            await self._connection.cancel(self._agent_session)
        if self._stop_timer is None or self._stop_timer.cancelled():
            self._stop_timer = self._loop.call_later(CANCEL_SECONDS, self._kill, self._turn)

    def _kill(self, turn: int | None) -> None:
        if self._turn is None or self._turn != turn or self._ending:
            return
        self._stopped_for = "killed"

        async def kill() -> None:
            with contextlib.suppress(OublietteError):
                await asyncio.to_thread(self._process.kill)

        self._in_background(kill())

    async def answer(self, question_id: str, option: str) -> None:
        """Answer a question of the agent's: see `Questions.answer`."""
        await self._questions.answer(question_id, option)

    # -- The end --------------------------------------------------------------------------------------------------

    async def end(self, detail: str, *, resumable: bool, patience: float = _END_SECONDS) -> None:
        """End the agent with everything it started, after a moment to stop by itself.

        :param detail: why. :param resumable: it may be gone on with later.
        :param patience: seconds for the work on a message to stop, and again for the agent to end.
        """
        if self._ending:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), _LONGEST_END)
            return
        self._ending = True
        if self._turn_task is not None:
            await self._interrupt("cancelled")
            await asyncio.wait({self._turn_task}, timeout=patience)
        await self._finish(SessionState.ENDED, detail, resumable=resumable, patience=patience)

    async def discard(self) -> None:
        """Let go of an agent that has not been started in full."""
        if not self._over.is_set():
            await self._let_go(patience=0.0)
            self._over.set()

    async def _finish(self, state: SessionState, detail: str, *, resumable: bool, patience: float) -> None:
        code = await self._let_go(patience)
        if self._turn_task is not None and self._turn_task is not asyncio.current_task():
            await asyncio.wait({self._turn_task}, timeout=_END_SECONDS)
        if state is SessionState.FAILED:
            detail = f"agent {self.session.agent} {detail}" + ("" if code is None else f" (exit code {code})")
            turn = {} if self._turn is None else {"turn": self._turn}
            self._journal.event(EventKind.ERROR, {"message": detail, "output": self._last_errors, **turn})
        self._change(state, detail, over_for_good=not resumable)
        self._on_over(self)
        self._over.set()

    async def _let_go(self, patience: float) -> int | None:
        """End the agent; returns its exit code where it ended by itself."""
        self._ending = True
        for timer in (self._idle_timer, self._stop_timer):
            if timer is not None:
                timer.cancel()
        await self._questions.drop()
        await self._transport.close()
        code = await asyncio.to_thread(self._close_process, patience)
        if self._connection is not None:
            await self._connection.close()
        return code

    def _close_process(self, patience: float) -> int | None:
        """End the process and whatever it left running; returns its exit code where it ended by itself."""
        code = None
        with contextlib.suppress(OublietteError):
            code = self._process.wait(patience)
        try:
            if not self._process.kill():
                _log.warning("session %s: that nothing is left of its agent could not be confirmed", self.session.id)
        except OublietteError as error:
            _log.warning("session %s: its agent could not be killed: %s", self.session.id, error)
        with contextlib.suppress(OublietteError):
            self._process.close()
        return code

    def _silent(self) -> None:
        """See the end of the agent's output."""
        self._marked(None)
        if self.state is SessionState.IDLE and not self._ending:
            self._in_background(self._finish(SessionState.FAILED, "ended by itself", resumable=True, patience=1.0))
            self._ending = True

    def _idle_is_over(self) -> None:
        if self.state is SessionState.IDLE:
            self._in_background(self.end(f"no message for {self._times.idle:g} s", resumable=True))

    # -- What the agent says --------------------------------------------------------------------------------------

    def updated(self, update: Any) -> None:
        """Take an update. It must not wait for anything, or the next would overtake it."""
        if self._muted:
            return  # the past of a session that it goes on with: it is in the store already
        chunk = chunk_of(update)
        event = event_of(update) if chunk is None else None
        if chunk is not None:
            self._journal.text(*chunk)
        elif event is not None:
            self._journal.event(*event)

    async def ask(self, tool_call: Any, options: list[Any]) -> str | None:
        """Answer what the agent asks before it goes on: an option's id, or None: what it is about is given up."""
        if self._turn is None or self._stopped_for or self._ending:
            return None
        return await self._questions.ask(self._turn, tool_call, options)

    def _asked_or_answered(self) -> None:
        if self._turn is not None and not self._ending:
            self._change(SessionState.WAITING if self._questions.open else SessionState.RUNNING)

    def _hear(self, line: str) -> bool:
        """Take a line of standard error; tells whether it was the shell's own. Called in another thread."""
        mark = self._starter.mark(line)
        if mark is None:
            return False
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._marked, mark)
        return True

    def _marked(self, mark: tuple[str, str] | None) -> None:
        if not self._mark.done():
            self._mark.set_result(mark)

    # -- Small things ---------------------------------------------------------------------------------------------

    @property
    def _last_errors(self) -> str:
        return self._journal.redact(self._transport.last_errors)

    def _change(self, state: SessionState, detail: str = "", *, over_for_good: bool = False) -> None:
        self.state = state
        self._journal.state(state, detail, self._questions.open, over_for_good=over_for_good)
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if state is SessionState.IDLE:
            self._idle_timer = self._loop.call_later(self._times.idle, self._idle_is_over)

    def _in_background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _words(self, error: acp.RequestError) -> str:
        """Return what an agent says went wrong, in one line."""
        details = error.data.get("details") if isinstance(error.data, dict) else error.data
        text = f"{error}: {details}" if isinstance(details, str) and details not in str(error) else str(error)
        return self._journal.redact(clipped(" ".join(text.split()), 500))

    def _hint(self, error: acp.RequestError) -> str:
        if error.code != acp.RequestError.auth_required().code:
            return ""
        keys = f"agents.{self.session.agent}.keys"
        return f"Give it a key: credentials.providers in the configuration; {keys} says of which providers."


_WORDS = {
    SessionState.STARTING: "starting",
    SessionState.RUNNING: "at work on a message",
    SessionState.WAITING: "waiting for an answer to its question",
    SessionState.IDLE: "about to end",
    SessionState.ENDED: "over",
    SessionState.FAILED: "over",
}


class _Client:
    """What the library calls. No subclass of its protocol, so that it refuses what is not here."""

    def __init__(self, session: LiveSession) -> None:
        self._session = session

    async def session_update(self, session_id: str, update: Any, **_meta: Any) -> None:  # noqa: ARG002
        """Take an update."""
        self._session.updated(update)

    async def request_permission(
        self,
        session_id: str,  # noqa: ARG002
        tool_call: Any,
        options: list[Any],
        **_meta: Any,
    ) -> schema.RequestPermissionResponse:
        """Answer a question."""
        answer = await self._session.ask(tool_call, options)
        if answer is None:
            return schema.RequestPermissionResponse(outcome=schema.DeniedOutcome(outcome="cancelled"))
        return schema.RequestPermissionResponse(outcome=schema.AllowedOutcome(outcome="selected", option_id=answer))
