"""What happened in agent sessions, in order, for all processes to read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from oubliette_core.services.ids import from_text, to_text
from oubliette_core.services.records import Event, EventKind
from oubliette_core.services.sessions import change_state

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from oubliette_core.services.sessions import StateChange
    from oubliette_core.services.store import Store

__all__ = ["EventLog"]

_SLACK = 8
"""What is dropped when a session's bound is passed is this part of it, so that it need not be looked at each time."""


class EventLog:
    """The events of all sessions of one home.

    :param bound: bytes of events that are kept of each session, the newest.
    """

    def __init__(self, store: Store, bound: int) -> None:
        self._store = store
        self._bound = bound
        self._room: dict[str, int] = {}

    def write(self, items: Iterable[Event | StateChange]) -> None:
        """Record what happened and how far sessions are, in this order and all at once.

        Only the process that drives a session may write its events.
        """
        events: dict[str, list[tuple[str, int, str, str, str]]] = {}
        changes: list[StateChange] = []
        for item in items:
            if isinstance(item, Event):
                data = json.dumps(item.data, ensure_ascii=False, separators=(",", ":"))
                row = (item.session_id, item.number, item.kind.value, to_text(item.created_at), data)
                events.setdefault(item.session_id, []).append(row)
            else:
                changes.append(item)
        with self._store.write() as connection:
            for session_id, rows in events.items():
                # A session that was deleted with its project meanwhile has no events any more, and of one that is in
                # other hands by now a number may be taken: neither keeps those of other sessions from being written.
                connection.executemany(
                    "INSERT OR IGNORE INTO events (session_id, number, kind, created_at, data)"
                    " SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM sessions WHERE id = ?1)",
                    rows,
                )
                self._trim(connection, session_id, sum(len(row[4]) for row in rows))
            for change in changes:
                change_state(connection, change)

    def read(self, session_id: str, after: int = 0, *, limit: int = 1000, size: int = 2**22) -> tuple[Event, ...]:
        """Return the events whose numbers are above ``after``, in order.

        :param limit: how many at most. :param size: bytes of their data after which no other is returned.
        """
        found: list[Event] = []
        with self._store.read() as connection:
            rows = connection.execute(
                "SELECT * FROM events WHERE session_id = ? AND number > ? ORDER BY number LIMIT ?",
                (session_id, after, limit),
            )
            for row in rows:
                found.append(_event(row))
                size -= len(row["data"])
                if size <= 0:
                    break
        return tuple(found)

    def bounds(self, session_id: str) -> tuple[int, int]:
        """Return the numbers of the oldest event that is kept and of the newest; 0 where there is none."""
        with self._store.read() as connection:
            row = connection.execute(
                "SELECT coalesce(min(number), 0), coalesce(max(number), 0) FROM events WHERE session_id = ?",
                (session_id,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def last_prompt(self, session_id: str) -> int:
        """Return the number of the event with which the latest turn began; 0 where there is none."""
        with self._store.read() as connection:
            row = connection.execute(
                "SELECT coalesce(max(number), 0) FROM events WHERE session_id = ? AND kind = ?",
                (session_id, EventKind.PROMPT.value),
            ).fetchone()
        return int(row[0])

    def _trim(self, connection: sqlite3.Connection, session_id: str, added: int) -> None:
        """Drop the oldest events of a session that has more than its bound."""
        room = self._room.get(session_id)
        if room is None:
            query = "SELECT coalesce(sum(length(data)), 0) FROM events WHERE session_id = ?"
            room = self._bound - int(connection.execute(query, (session_id,)).fetchone()[0])
        else:
            room -= added
        if room < 0:
            keep = self._bound - self._bound // _SLACK
            connection.execute(
                "DELETE FROM events WHERE session_id = ?1 AND number <= (SELECT max(number) FROM (SELECT number,"
                " sum(length(data)) OVER (ORDER BY number DESC) AS above FROM events WHERE session_id = ?1)"
                " WHERE above > ?2)",
                (session_id, keep),
            )
            room = self._bound // _SLACK
        self._room[session_id] = room


def _event(row: sqlite3.Row) -> Event:
    return Event(
        session_id=row["session_id"],
        number=row["number"],
        kind=EventKind(row["kind"]),
        created_at=from_text(row["created_at"]),
        data=json.loads(row["data"]),
    )
