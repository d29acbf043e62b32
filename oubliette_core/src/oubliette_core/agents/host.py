"""`AgentHost`: the agent sessions that one process drives, and its way to those of others."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Any, Protocol

from oubliette_core.agents.launch import prepare
from oubliette_core.agents.loop import LoopThread
from oubliette_core.agents.recorder import Recorder
from oubliette_core.agents.start import Beginning, start
from oubliette_core.agents.turns import Follower
from oubliette_core.errors import AgentError, ConflictError, OperationCancelledError, OublietteError
from oubliette_core.models import Cancel
from oubliette_core.services.ending import end_session
from oubliette_core.services.mailbox import Postman
from oubliette_core.services.owners import Owner
from oubliette_core.services.records import SessionKind, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from oubliette_core.agents.live import LiveSession
    from oubliette_core.agents.turns import Turn
    from oubliette_core.app import App
    from oubliette_core.models import ProgressCallback
    from oubliette_core.services.mailbox import Request
    from oubliette_core.services.records import Event, Project, Session

__all__ = ["AgentHost"]

_log = logging.getLogger(__name__)
_POLL = 0.1
_STOP_SECONDS = 20.0
_LAST_PATIENCE = 1.0
_TAKES_OVER = "the process that drove it has ended"


class Commands(Protocol):
    """The commands that this process runs in the background, which others may want ended as well."""

    def knows(self, session_id: str) -> bool:
        """Tell whether one of them has this id."""

    def end(self, session_id: str) -> None:
        """Kill one, and wait for that."""


class AgentHost:
    """The agent sessions of one process. A context manager; may be used from several threads.

    A session is driven by the process that started it, for as long as that lives; what others want of it goes there.
    Nothing is started, and no thread runs, before the first session does.

    :param commands: those that this process runs in the background; None where it runs none.
    """

    def __init__(self, app: App, *, commands: Commands | None = None) -> None:
        self._app = app
        self._commands = commands
        self._lock = threading.Lock()
        self._projects: dict[str, threading.Lock] = {}
        self._live: dict[str, LiveSession] = {}
        self._starting: dict[str, Cancel] = {}
        self._loop = LoopThread("oubliette-agents")
        self._recorder: Recorder | None = None
        self._owner: Owner | None = None
        self._closed = False
        self._postman = Postman(app.mailbox, self._is_mine, self._act)
        self._follower = Follower(app.sessions, app.events, self._wait)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def live(self) -> tuple[str, ...]:
        """Ids of the sessions that this process drives."""
        return tuple(self._live)

    @property
    def starting(self) -> tuple[str, ...]:
        """Ids of the sessions that it is about to drive."""
        return tuple(self._starting)

    def listen(self) -> None:
        """See to what other processes ask of this one, from now on."""
        self._postman.start()

    def clear_away(self) -> None:
        """See to what processes that died left behind, in the background."""
        threading.Thread(target=self._reap, name="oubliette-reaper", daemon=True).start()

    def _reap(self) -> None:
        try:
            self._app.reaper.reap()
        except OublietteError as error:
            _log.warning("what processes that died left behind is not cleared away yet: %s", error)

    # -- Sessions -------------------------------------------------------------------------------------------------

    def spawn(
        self,
        project: Project,
        *,
        agent: str | None = None,
        model: str | None = None,
        autonomy: str | None = None,
        new_session: bool = False,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> Session:
        """Return the project's session, starting an agent if there is none; its container and image come first.

        That is the one that is active. If there is none, it is the last one, if its process ended and the agent can go
        on with it; or else a new one. Where an agent, model or autonomy is named, only a session with it will do.

        :param agent: None for the default; so for ``model`` and ``autonomy``.
        :param new_session: begin one in any case.
        :raises AgentError: the agent cannot be started. :raises ConflictError: too many sessions; the project is going.
        :raises InvalidValueError: no such agent or autonomy. :raises ConfigError: a key is not to be had.
        """
        config = self._app.loaded.config
        launch = prepare(config, agent=agent, model=model, autonomy=autonomy)
        wanted = {"agent": agent, "model": launch.model if model else None, "autonomy": autonomy}

        def fits(session: Session) -> bool:
            return session.kind is SessionKind.AGENT and all(
                value is None or getattr(session, name) == value for name, value in wanted.items()
            )

        with self._alone(project, cancel):
            self._app.reaper.reap(project.id)
            if not new_session:
                active = next(filter(fits, self._app.sessions.active(project.id)), None)
                if active is not None:
                    return active
                last = next(filter(fits, self._app.sessions.list(project.id)), None)
                if last is not None and last.resumable and last.agent in config.agents:
                    try:
                        return self._resume(project, last, progress, cancel)
                    except AgentError as error:
                        _log.warning("session %s cannot be gone on with: %s", last.id, error)
            session = self._app.sessions.begin(
                project,
                self._owned(),
                kind=SessionKind.AGENT,
                title=launch.agent,
                agent=launch.agent,
                model=launch.model,
                autonomy=launch.autonomy,
                limit=config.defaults.limits.sessions,
            )
            return self._start(project, Beginning(session=session, launch=launch), progress, cancel)

    def resume(
        self,
        project: Project,
        session: Session,
        *,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> Session:
        """Return a session that is active, starting its agent again if its process has ended.

        :raises ConflictError: it is over, and its agent cannot go on with it. Otherwise as `spawn`.
        """
        with self._alone(project, cancel):
            self._app.reaper.reap(project.id)
            session = self._app.sessions.get(session.id)
            if not session.over:
                return session
            if not session.resumable:
                raise _is_over(session)
            return self._resume(project, session, progress, cancel)

    def message(self, session: Session, text: str, *, cancel: Cancel | None = None) -> int:
        """Give a session's agent a message to work on; returns the number of the turn that begins.

        :raises ConflictError: it works on one already, or the session is over.
        """
        live = self._live.get(session.id)
        if live is None:
            return int(self._elsewhere(session, "message", {"text": text}, cancel))
        number = self._loop.call(live.prompt(text))
        self._flush()
        return number

    def answer(self, session: Session, question: str, option: str, *, cancel: Cancel | None = None) -> None:
        """Answer what an agent asks.

        :param question: id of one of ``session.questions``. :param option: id of one of its options.
        :raises ConflictError: it is not asked (any more). :raises InvalidValueError: it has no such option.
        """
        live = self._live.get(session.id)
        if live is None:
            self._elsewhere(session, "answer", {"question": question, "option": option}, cancel)
            return
        self._loop.call(live.answer(question, option))
        self._flush()

    def cancel(self, session: Session, *, cancel: Cancel | None = None) -> bool:
        """Ask an agent to stop its work on a message; tells whether it was at work. If it does not, it is killed."""
        live = self._live.get(session.id)
        if live is None:
            session = self._app.sessions.get(session.id)
            return not session.over and bool(self._elsewhere(session, "cancel", {}, cancel))
        was_at_work = self._loop.call(live.cancel())
        self._flush()
        return was_at_work

    def end(self, session: Session, *, cancel: Cancel | None = None) -> Session:
        """End a session for good: its agent with everything it started. One that is over cannot be gone on with.

        :raises BusyError: the process that drives it does not react.
        """
        live, session = self._live.get(session.id), self._app.sessions.get(session.id)
        if live is not None:
            self._loop.call(live.end("ended by the user", resumable=False))
            self._flush()
        elif session.id in self._starting:
            self._starting[session.id].cancel()
            self._wait(session.id, lambda: self._app.sessions.get(session.id).over, _STOP_SECONDS, cancel)
        elif not session.over:
            end_session(self._app.sessions, self._app.mailbox, session, cancel=cancel)
        elif session.id in {each.id for each in self._app.sessions.lost(session.project_id)}:
            self._app.reaper.reap(session.project_id)
        if session.kind is SessionKind.AGENT:
            self._app.sessions.note(session.id, resumable=False)
        return self._app.sessions.get(session.id)

    # -- What happens in them -------------------------------------------------------------------------------------

    def events(
        self, session_id: str, after: int = 0, *, wait: float = 0.0, limit: int = 1000, cancel: Cancel | None = None
    ) -> tuple[Event, ...]:
        """Return the events after a number: see `Follower.events`."""
        return self._follower.events(session_id, after, wait=wait, limit=limit, cancel=cancel)

    def follow(
        self,
        session_id: str,
        number: int,
        *,
        after: int | None = None,
        wait: float,
        watch: Callable[[Event], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Turn:
        """Follow a turn: see `Follower.turn`. :param after: None for its beginning."""
        seen = number if after is None else after
        return self._follower.turn(session_id, number, after=seen, wait=wait, watch=watch, cancel=cancel)

    # -- The end --------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Start no more sessions."""
        with self._lock:
            self._closed = True

    def close(self) -> None:
        """End the agents; their sessions can be gone on with where the agent can do that. Idempotent."""
        self.refuse()
        self._postman.close()
        for stop in list(self._starting.values()):
            stop.cancel()
        live = list(self._live.values())
        threads = [threading.Thread(target=self._set_aside, args=(each,), daemon=True) for each in live]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10.0)
        self._loop.close()
        with self._lock:
            recorder, self._recorder = self._recorder, None
            owner, self._owner = self._owner, None
        if recorder is not None:
            recorder.close()
        if owner is not None:
            owner.close()

    def _set_aside(self, live: LiveSession) -> None:
        self._loop.call(live.end(_TAKES_OVER, resumable=True, patience=_LAST_PATIENCE))

    # -- Inside ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self, project: Project, cancel: Cancel | None) -> Iterator[None]:
        """Keep other threads from starting a session of the project; that may take them as long as a pull does.

        :raises OperationCancelledError: cancelled while waiting.
        """
        with self._lock:
            lock = self._projects.setdefault(project.id, threading.Lock())
        while not lock.acquire(timeout=_POLL):
            if cancel is not None and cancel.cancelled:
                raise OperationCancelledError("cancelled while another session starts", subject=project.id)
        try:
            yield
        finally:
            lock.release()

    def _owned(self) -> Owner:
        """Make this process an owner of sessions."""
        with self._lock:
            if self._closed:
                raise ConflictError("the server is stopping", hint="Try again once it runs again.")
            if self._owner is None:
                self._owner = Owner(self._app.home.locks_dir)
            if self._recorder is None:
                self._recorder = Recorder(self._app.events)
            owner = self._owner
        self._postman.start()
        return owner

    def _resume(
        self, project: Project, session: Session, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> Session:
        config = self._app.loaded.config
        launch = prepare(config, agent=session.agent, model=session.model, autonomy=session.autonomy)
        claimed = self._app.sessions.claim(session, project, self._owned(), limit=config.defaults.limits.sessions)
        beginning = Beginning(session=claimed, launch=launch, resume=session.agent_session)
        return self._start(project, beginning, progress, cancel)

    def _start(
        self, project: Project, beginning: Beginning, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> Session:
        session = beginning.session
        stop = self._starting[session.id] = Cancel()
        forget = cancel.on_cancel(stop.cancel) if cancel is not None else None
        try:
            return self._started(project, beginning, progress, stop)
        finally:
            del self._starting[session.id]
            if forget is not None:
                forget()

    def _started(
        self, project: Project, beginning: Beginning, progress: ProgressCallback | None, cancel: Cancel
    ) -> Session:
        session = beginning.session
        recorder = self._recorder
        if recorder is None:
            raise ConflictError("the server is stopping", subject=session.id)
        try:
            status = self._app.containers.start(project.id, progress=progress, cancel=cancel)
            live = start(self._app, self._loop, recorder, beginning, status=status, on_over=self._over, cancel=cancel)
        except BaseException as error:
            if isinstance(error, AgentError):
                self._app.sessions.note(session.id, resumable=False)
            words = error.message if isinstance(error, OublietteError) else "it could not be started"
            self._app.sessions.update(session.id, SessionState.FAILED, detail=words)
            raise
        self._live[session.id] = live
        if live.is_over:  # before it was in the list
            self._over(live)
        if self._closed:
            self._set_aside(live)
            raise ConflictError("the server is stopping", subject=session.id)
        self._flush()
        return self._app.sessions.get(session.id)

    def _over(self, live: LiveSession) -> None:
        """See a session end; called in the event loop."""
        self._live.pop(live.session.id, None)

    def _flush(self) -> None:
        if self._recorder is not None:
            self._recorder.flush()

    def _wait(self, session_id: str, ready: Callable[[], bool], seconds: float, cancel: Cancel | None) -> bool:
        """Wait for news: of our own sessions we are told, those of others have to be looked at."""
        recorder = self._recorder
        if recorder is not None and session_id in self._live:
            return recorder.wait(ready, seconds, cancel)
        ended = threading.Event()
        left = seconds
        while not ready():
            pause = min(_POLL, left)
            left -= pause
            if left <= 0 or (cancel.wait(pause) if cancel is not None else ended.wait(pause)):
                return ready()
        return True

    def _elsewhere(self, session: Session, kind: str, data: dict[str, Any], cancel: Cancel | None) -> Any:
        """Ask the process that drives a session."""
        session = self._app.sessions.get(session.id)
        if session.over:
            raise _is_over(session)
        if session.id in self._starting:
            raise ConflictError(f"session {session.id} is starting", subject=session.id, hint="Try again in a moment.")
        return self._app.mailbox.ask(session.id, kind, data, cancel=cancel)

    def _is_mine(self, session_id: str) -> bool:
        return (
            session_id in self._live
            or session_id in self._starting
            or (self._commands is not None and self._commands.knows(session_id))
        )

    def _act(self, request: Request) -> Any:
        """Do what another process asks."""
        session = self._app.sessions.get(request.session_id)
        if request.kind == "end":
            if self._commands is not None and self._commands.knows(session.id):
                self._commands.end(session.id)
            else:
                self.end(session)
            return None
        if request.session_id not in self._live:
            raise _is_over(session)
        if request.kind == "message":
            return self.message(session, str(request.data["text"]))
        if request.kind == "answer":
            self.answer(session, str(request.data["question"]), str(request.data["option"]))
            return None
        if request.kind == "cancel":
            return self.cancel(session)
        raise ConflictError(f"session {session.id} cannot be asked to {request.kind}", subject=session.id)


def _is_over(session: Session) -> ConflictError:
    detail = f": {session.detail}" if session.detail else ""
    return ConflictError(
        f"session {session.id} is over{detail}", subject=session.id, hint="Begin another: leave the session out."
    )
