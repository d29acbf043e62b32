"""Commands that outlive the call that started them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import ConflictError, OublietteError
from oubliette_core.models import Cancel
from oubliette_core.server.work import Ending, end_all
from oubliette_core.services.records import SessionKind, SessionState

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.models import ExecResult, ExecSpec
    from oubliette_core.services.owners import Owner
    from oubliette_core.services.records import Project, Session
    from oubliette_core.services.sessions import Sessions

_log = logging.getLogger(__name__)
_AT_A_TIME = 64
_KEPT = 200
_KEPT_BYTES = 64 * 2**20
_FIRST_LOOK = 0.3
"""Seconds to wait for a command that cannot be run, so that its caller hears of it at once."""


@attrs.define(kw_only=True, eq=False)
class _Running:
    """A command, and what came of it once ``ended`` is set."""

    session: Session
    cancel: Cancel = attrs.field(factory=Cancel)
    ended: threading.Event = attrs.field(factory=threading.Event)
    began: float = attrs.field(factory=time.monotonic)
    result: ExecResult | None = None
    error: OublietteError | None = None

    @property
    def size(self) -> int:
        return len(self.result.stdout) + len(self.result.stderr) if self.result else 0


@attrs.frozen(kw_only=True)
class ExecState:
    """A command in the background.

    :param result: once it has ended, for as long as its output is kept. :param error: why it could not be run.
    :param running_for: seconds; 0 when it is over.
    """

    session: Session
    result: ExecResult | None = None
    error: OublietteError | None = None
    running_for: float = 0.0


class BackgroundExecs:
    """The commands that this server runs in the background.

    Each is recorded as a session, so that no process stops or replaces the container under it. Its output is kept in
    memory: the latest 200 results, at most 64 MiB.

    :param owner: makes this process the owner of sessions; called when the first command starts.
    """

    def __init__(self, sessions: Sessions, owner: Callable[[], Owner]) -> None:
        self._sessions = sessions
        self._make_owner = owner
        self._owner: Owner | None = None
        self._lock = threading.Lock()
        self._known: dict[str, _Running] = {}
        self._closed = False

    def start(self, project: Project, spec: ExecSpec, run: Callable[[ExecSpec, Cancel], ExecResult]) -> ExecState:
        """Start a command.

        :param run: runs it to its end. :returns: its state after a moment: some commands have ended by then.
        :raises ConflictError: too many run already, the server is stopping, or the project is being deleted.
        :raises OublietteError: the command cannot be run.
        """
        with self._lock:
            if self._closed:
                raise ConflictError("the server is stopping", subject=project.id)
            if sum(not each.ended.is_set() for each in self._known.values()) >= _AT_A_TIME:
                raise ConflictError(
                    f"{_AT_A_TIME} commands run in the background already", subject=project.id, hint="Cancel some."
                )
            if self._owner is None:
                self._owner = self._make_owner()
            owner = self._owner
        session = self._sessions.begin(project, owner, kind=SessionKind.EXEC, title=spec.command[0][:80])
        entry = _Running(session=session)
        with self._lock:
            self._known[session.id] = entry
            if self._closed:
                entry.cancel.cancel()
        name = f"oubliette-{session.id}"
        threading.Thread(target=self._run, args=(entry, spec, run), name=name, daemon=True).start()
        if entry.ended.wait(_FIRST_LOOK) and entry.error is not None:
            raise entry.error
        return self.get(session)

    def get(self, session: Session) -> ExecState:
        """Return how far a command is."""
        entry = self._known.get(session.id)
        if entry is None:
            return ExecState(session=session)
        if not entry.ended.is_set():
            return ExecState(session=entry.session, running_for=time.monotonic() - entry.began)
        return ExecState(session=entry.session, result=entry.result, error=entry.error)

    def cancel(self, session: Session, *, patience: float = 5.0) -> ExecState:
        """Kill a command with everything it started, and wait for that; one that has ended is left as it is.

        :raises ConflictError: another server runs it.
        """
        entry = self._known.get(session.id)
        if entry is None and not session.over:
            raise ConflictError(
                f"command {session.id} was started through another server",
                subject=session.id,
                hint="Cancel it through that one, or stop that server.",
            )
        if entry is not None:
            entry.cancel.cancel()
            entry.ended.wait(patience)
        return self.get(session)

    def knows(self, session_id: str) -> bool:
        """Tell whether a command is one of this server's."""
        return session_id in self._known

    def end(self, session_id: str) -> None:
        """Kill a command of this server's, and wait for that."""
        entry = self._known.get(session_id)
        if entry is not None:
            self.cancel(entry.session)

    @property
    def running(self) -> int:
        """How many run now."""
        return sum(not each.ended.is_set() for each in list(self._known.values()))

    def refuse(self) -> None:
        """Accept no more commands."""
        with self._lock:
            self._closed = True

    def endings(self) -> tuple[Ending, ...]:
        """Return how to end the commands that run."""
        entries = [each for each in list(self._known.values()) if not each.ended.is_set()]
        return tuple(Ending(cancel=each.cancel, ended=each.ended.is_set) for each in entries)

    def close(self, *, patience: float = 3.0) -> None:
        """Accept no more, kill those that run, and wait for that. Idempotent."""
        self.refuse()
        left = end_all(self.endings(), seconds=patience)
        if left:
            _log.error("%d commands in the background did not end", left)
        with self._lock:
            owner, self._owner = self._owner, None
        if owner is not None:
            owner.close()

    def _run(self, entry: _Running, spec: ExecSpec, run: Callable[[ExecSpec, Cancel], ExecResult]) -> None:
        session_id = entry.session.id
        try:
            with contextlib.suppress(OublietteError):
                self._sessions.update(session_id, SessionState.RUNNING)
            entry.result = run(spec, entry.cancel)
            state, detail = SessionState.ENDED, _ending(entry.result)
        except OublietteError as error:
            entry.error, state, detail = error, SessionState.FAILED, error.message
        except Exception:  # noqa: BLE001 - a thread has nobody above it
            _log.exception("command %s met a bug", session_id)
            entry.error = OublietteError("the command ended by an internal error; the server's log has the details")
            state, detail = SessionState.FAILED, "internal error"
        try:
            entry.session = self._sessions.update(session_id, state, detail=detail)
        except OublietteError as error:
            entry.session = attrs.evolve(entry.session, state=state, detail=detail)
            _log.warning("the end of command %s could not be recorded: %s", session_id, error)
        finally:
            entry.ended.set()
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        with self._lock:
            over = [each for each in self._known.values() if each.ended.is_set()]
            size = sum(each.size for each in over)
            for number, each in enumerate(over):
                if len(over) - number <= _KEPT and size <= _KEPT_BYTES:
                    break
                size -= each.size
                del self._known[each.session.id]


def _ending(result: ExecResult) -> str:
    if result.cancelled:
        return "cancelled"
    return "killed at its deadline" if result.timed_out else f"exit code {result.exit_code}"
