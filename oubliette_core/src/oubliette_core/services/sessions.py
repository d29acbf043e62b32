"""Which agent sessions and background commands are at work, across all processes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ActiveSessionsError, ConflictError, SessionNotFoundError
from oubliette_core.services.ids import from_text, new_id, now, to_text
from oubliette_core.services.owners import Owner, owner_lives
from oubliette_core.services.records import (
    Project,
    Question,
    QuestionOption,
    Session,
    SessionKind,
    SessionState,
)

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from pathlib import Path

    from oubliette_core.services.locks import ProjectLocks
    from oubliette_core.services.store import Store

__all__ = ["LOST", "Sessions", "StateChange", "change_state"]

LOST = "the process that drove it has died"
_PREFIX = {SessionKind.AGENT: "ses", SessionKind.EXEC: "exec"}
_NOT_OVER = f"state NOT IN ('{SessionState.ENDED}', '{SessionState.FAILED}')"
_KEPT = 100
"""Agent sessions of a project that are remembered after their end, with their events."""


@attrs.frozen(kw_only=True)
class StateChange:
    """How far a session is now, to be recorded. See `Session`.

    :param over_for_good: its agent cannot, or is not to, go on with it later.
    """

    session_id: str
    state: SessionState
    detail: str = ""
    questions: tuple[Question, ...] = ()
    over_for_good: bool = False


def change_state(connection: sqlite3.Connection, change: StateChange) -> None:
    """Record a change of state, as part of a transaction."""
    questions = json.dumps([attrs.asdict(question) for question in change.questions])
    connection.execute(
        "UPDATE sessions SET state = ?, detail = ?, questions = ?, updated_at = ? WHERE id = ?",
        (change.state.value, change.detail, questions, to_text(now()), change.session_id),
    )
    if change.over_for_good:
        connection.execute("UPDATE sessions SET resumable = 0 WHERE id = ?", (change.session_id,))


class Sessions:
    """The records of sessions in one Oubliette home.

    A session is active from `begin` until it is over, for as long as its owner lives. While a project has active
    sessions, its container is neither refreshed nor stopped nor deleted.

    :param owners: directory of the owners' lock files.
    """

    def __init__(self, store: Store, locks: ProjectLocks, owners: Path) -> None:
        self._store = store
        self._locks = locks
        self._owners = owners

    def begin(
        self,
        project: Project,
        owner: Owner,
        *,
        kind: SessionKind,
        title: str = "",
        agent: str = "",
        model: str = "",
        autonomy: str = "",
        limit: int | None = None,
    ) -> Session:
        """Record a session that is about to start; from here on the project's container stays.

        Waits for a refresh, stop or deletion of the project that is under way.

        :param title: one line for people: the agent's name, or the command.
        :param limit: how many of this kind may be active in the project.
        :raises ConflictError: the project is being deleted or gone, or has so many already.
        :raises BusyError: what is under way takes long.
        """
        time = now()
        session = Session(
            id=new_id(_PREFIX[kind]),
            project_id=project.id,
            kind=kind,
            state=SessionState.STARTING,
            owner=owner.id,
            title=title,
            agent=agent,
            model=model,
            autonomy=autonomy,
            created_at=time,
            updated_at=time,
        )
        row = (session.id, project.id, kind.value, session.state.value, owner.id, title, agent, model, autonomy)
        with self._locks.hold(project.id):
            self._refuse_too_many(project, kind, limit)
            with self._store.write() as connection:
                found = connection.execute("SELECT deleting FROM projects WHERE id = ?", (project.id,)).fetchone()
                if found is None or found["deleting"]:
                    raise ConflictError(f"project {project.name} is being deleted", subject=project.id)
                if kind is SessionKind.AGENT:
                    self._forget_oldest(connection, project)
                connection.execute(
                    "INSERT INTO sessions (id, project_id, kind, state, owner, title, agent, model, autonomy,"
                    " created_at, updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, to_text(time), to_text(time)),
                )
        return session

    def claim(self, session: Session, project: Project, owner: Owner, *, limit: int | None = None) -> Session:
        """Make this process the owner of a session that nobody drives any more, to go on with it.

        :raises ConflictError: somebody else was faster, or the project is being deleted or has too many.
        """
        with self._locks.hold(project.id):
            self._refuse_too_many(project, session.kind, limit)
            with self._store.write() as connection:
                taken = connection.execute(
                    f"UPDATE sessions SET owner = ?, state = ?, detail = '', updated_at = ? "  # noqa: S608
                    f"WHERE id = ? AND owner = ? AND NOT {_NOT_OVER}"
                    " AND project_id IN (SELECT id FROM projects WHERE NOT deleting)",
                    (owner.id, SessionState.STARTING.value, to_text(now()), session.id, session.owner),
                ).rowcount
        if not taken:
            raise ConflictError(f"session {session.id} is in other hands by now", subject=session.id, hint="Try again.")
        return self.get(session.id)

    def update(self, session_id: str, state: SessionState, *, detail: str = "") -> Session:
        """Record how far a session is.

        :param detail: one line: why it ended, where there is something to say.
        :raises SessionNotFoundError: there is none.
        """
        with self._store.write() as connection:
            change_state(connection, StateChange(session_id=session_id, state=state, detail=detail))
            return self._find(connection, session_id)

    def note(self, session_id: str, **facts: str | bool) -> None:
        """Record facts about a session: ``agent_session``, ``resumable``, ``process``, ``title``."""
        assert facts.keys() <= {"agent_session", "resumable", "process", "title"}  # noqa: S101 - names become SQL
        assignments = ", ".join(f"{name} = ?" for name in facts)
        with self._store.write() as connection:
            query = f"UPDATE sessions SET {assignments} WHERE id = ?"  # noqa: S608 - the names are those above
            connection.execute(query, (*facts.values(), session_id))

    def get(self, session_id: str) -> Session:
        """Return a session. :raises SessionNotFoundError: there is none."""
        with self._store.read() as connection:
            return self._find(connection, session_id)

    def list(self, project_id: str | None = None) -> tuple[Session, ...]:
        """Return all sessions, newest first, of one project or of all."""
        return self._select("TRUE", project_id)

    def active(self, project_id: str | None = None) -> tuple[Session, ...]:
        """Return the sessions that are not over and whose owner lives, newest first, of one project or of all."""
        # What was over when it was written down stays over; there can be very many of these.
        return tuple(session for session in self._select(_NOT_OVER, project_id) if not session.over)

    def lost(self, project_id: str | None = None) -> tuple[Session, ...]:
        """Return the sessions whose owner died and which nobody has seen to since, of one project or of all."""
        return tuple(session for session in self._select(_NOT_OVER, project_id) if session.over)

    def refuse_if_active(self, project: Project, deed: str) -> None:
        """Keep something from being done to a project in which sessions are at work.

        :param deed: what is refused, as in "cannot be ...".
        :raises ActiveSessionsError: there are some.
        """
        found = self.active(project.id)
        if found:
            listed = ", ".join(f"{session.id} ({session.title})" if session.title else session.id for session in found)
            raise ActiveSessionsError(
                f"project {project.name} cannot be {deed}: at work in it: {listed}",
                subject=project.id,
                sessions=[session.id for session in found],
                hint="End them first: oubliette session end SESSION, or repeat it with --end-sessions",
            )

    def _refuse_too_many(self, project: Project, kind: SessionKind, limit: int | None) -> None:
        """Keep the number of a project's active sessions; its lock is held."""
        at_work = [session.id for session in self.active(project.id) if session.kind is kind] if limit else []
        if limit is not None and len(at_work) >= limit:
            raise ConflictError(
                f"project {project.name} has {len(at_work)} sessions at work already: {', '.join(at_work)}",
                subject=project.id,
                hint="End one, or raise defaults.limits.sessions in the configuration.",
            )

    def _forget_oldest(self, connection: sqlite3.Connection, project: Project) -> None:
        connection.execute(
            f"DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE project_id = ? AND kind = ? "  # noqa: S608
            f"AND NOT {_NOT_OVER} ORDER BY created_at DESC, id LIMIT -1 OFFSET {_KEPT})",
            (project.id, SessionKind.AGENT.value),
        )

    def _select(self, condition: str, project_id: str | None) -> tuple[Session, ...]:
        of_project = "TRUE" if project_id is None else "project_id = :project"
        query = f"SELECT * FROM sessions WHERE {of_project} AND {condition} ORDER BY created_at DESC, id"  # noqa: S608
        with self._store.read() as connection:
            return tuple(map(self._session, connection.execute(query, {"project": project_id})))

    def _find(self, connection: sqlite3.Connection, session_id: str) -> Session:
        row = connection.execute("SELECT * FROM sessions WHERE id = ?", (session_id,)).fetchone()
        if row is None:
            raise SessionNotFoundError(f"there is no session {session_id!r}", subject=session_id)
        return self._session(row)

    def _session(self, row: sqlite3.Row) -> Session:
        texts = ("id", "project_id", "owner", "title", "detail", "agent", "model", "autonomy", "agent_session")
        session = Session(
            **{name: row[name] for name in texts},
            kind=SessionKind(row["kind"]),
            state=SessionState(row["state"]),
            resumable=bool(row["resumable"]),
            questions=_questions(json.loads(row["questions"])),
            process=row["process"],
            created_at=from_text(row["created_at"]),
            updated_at=from_text(row["updated_at"]),
        )
        if session.over or owner_lives(self._owners, session.owner):
            return session
        # Nobody else may be there to write this down, so it is told from the lock whenever somebody asks.
        return attrs.evolve(session, state=SessionState.FAILED, detail=LOST, questions=())


def _questions(kept: Iterable[dict[str, Any]]) -> tuple[Question, ...]:
    return tuple(
        Question(**{**each, "options": tuple(QuestionOption(**option) for option in each["options"])}) for each in kept
    )
