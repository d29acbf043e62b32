"""Seeing to sessions whose process on the host died: what it left running in the containers is killed.

While a session starts it notes what its processes are known by, the mark of `oubliette_core.guest`, in the store, so
that any other process can find them.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from oubliette_core.errors import ContainerNotFoundError, ContainerNotRunningError, OublietteError
from oubliette_core.guest import Mark, Verdict, kill_tree
from oubliette_core.models import Capability, ExecSpec
from oubliette_core.services.ids import now
from oubliette_core.services.records import Event, EventKind, SessionKind, SessionState
from oubliette_core.services.sessions import LOST, StateChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.runtime import Runtime
    from oubliette_core.services.events import EventLog
    from oubliette_core.services.locks import ProjectLocks
    from oubliette_core.services.records import Session
    from oubliette_core.services.sessions import Sessions

__all__ = ["Reaper", "process_note"]

_log = logging.getLogger(__name__)
_KILL_SECONDS = 15.0
_KIB = 1024


def process_note(container: str, limit: str, token: str) -> str:
    """Return what is noted of a session's processes.

    :param container: name of the container. :param limit: their hard limit on resident memory in bytes, as the kernel
        prints it. :param token: value of `oubliette_core.guest.EXEC_VARIABLE` in their environment.
    """
    return json.dumps({"container": container, "limit": limit, "token": token})


class Reaper:
    """Sees to the sessions of dead owners.

    :param runtime: gives the runtime, when it is needed.
    """

    def __init__(
        self, sessions: Sessions, events: EventLog, locks: ProjectLocks, runtime: Callable[[], Runtime]
    ) -> None:
        self._sessions = sessions
        self._events = events
        self._locks = locks
        self._runtime = runtime

    def reap(self, project_id: str | None = None) -> tuple[Session, ...]:
        """See to the lost sessions of one project or of all; returns them.

        One whose processes cannot be killed now, because the engine is down, is left for the next time.

        :raises OublietteError: with ``project_id``, when that is so.
        """
        reaped = []
        for session in self._sessions.lost(project_id):
            try:
                if self._reap(session):
                    reaped.append(session)
            except OublietteError as error:
                if project_id is not None:
                    raise
                _log.warning("session %s of a process that died is not cleared away yet: %s", session.id, error)
        return tuple(reaped)

    def _reap(self, session: Session) -> bool:
        with self._locks.hold(session.project_id):
            if session.id not in {each.id for each in self._sessions.lost(session.project_id)}:
                return False
            if session.process:
                self._kill(session)
            items: list[Event | StateChange] = []
            if session.kind is SessionKind.AGENT:
                number = self._events.bounds(session.id)[1] + 1
                data = {"message": LOST}
                items.append(
                    Event(session_id=session.id, number=number, kind=EventKind.ERROR, created_at=now(), data=data)
                )
            items.append(StateChange(session_id=session.id, state=SessionState.FAILED, detail=LOST))
            self._events.write(items)
        _log.info("session %s: %s", session.id, LOST)
        return True

    def _kill(self, session: Session) -> None:
        """Kill what is left of a session in its container, as root and, where that is not enough, as its user."""
        note = json.loads(session.process)
        limited = note["limit"].isdigit()
        mark = Mark(limit=int(note["limit"]) // _KIB if limited else 0, token=note["token"], secret="")
        command = kill_tree(mark, max(1.0, (now() - session.created_at).total_seconds()), limited=limited)
        runtime = self._runtime()
        users = ("0:0", None) if Capability.USER in runtime.capabilities() else (None,)
        verdict = Verdict()
        for user in users:
            spec = ExecSpec(command=command, user=user, workdir="/", timeout=_KILL_SECONDS)
            try:
                verdict = Verdict.read(runtime.exec(note["container"], spec).stdout)
            except (ContainerNotFoundError, ContainerNotRunningError):
                return
            if verdict.complete and not verdict.left:
                return
        _log.warning("session %s: processes are left in container %s: %s", session.id, note["container"], verdict.left)
