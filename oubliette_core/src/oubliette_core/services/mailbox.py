"""What one process asks of another: to end a session that the other drives, or to say something to its agent.

Requests are rows in the store. Whoever drives a session looks for them a few times a second, does what is asked, and
answers. So the command line can speak to the agents of a server without a connection to it, over whatever it serves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import BusyError, ConflictError, OperationCancelledError, OublietteError, ServiceError
from oubliette_core.services.ids import new_id, now, to_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oubliette_core.models import Cancel
    from oubliette_core.services.sessions import Sessions
    from oubliette_core.services.store import Store

__all__ = ["Mailbox", "Postman", "Request"]

_log = logging.getLogger(__name__)
_POLL = 0.1
_STALE = timedelta(hours=1)
_PICKED_UP = 15.0
"""Seconds within which whoever drives a session has to take a request."""


@attrs.frozen(kw_only=True)
class Request:
    """Something that is asked of the process that drives a session.

    :param kind: ``message``, ``answer``, ``cancel`` or ``end``. :param data: what JSON holds; depends on the kind.
    """

    id: str
    session_id: str
    kind: str
    data: Mapping[str, Any]


class Mailbox:
    """The requests of one home."""

    def __init__(self, store: Store, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    def ask(self, session_id: str, kind: str, data: Mapping[str, Any], *, cancel: Cancel | None = None) -> Any:
        """Ask something of the process that drives a session, and wait for its answer.

        :returns: what it answered. :raises ConflictError: it refuses, or died. :raises BusyError: it does not react.
        :raises OublietteError: it failed at it; the text is that of the error there.
        """
        identity, asked_at = new_id("req"), now()
        with self._store.write() as connection:
            # Whoever died before it could read an answer.
            connection.execute("DELETE FROM requests WHERE created_at < ?", (to_text(asked_at - _STALE),))
            connection.execute(
                "INSERT INTO requests (id, session_id, kind, data, created_at) VALUES (?, ?, ?, ?, ?)",
                (identity, session_id, kind, json.dumps(dict(data)), to_text(asked_at)),
            )
        try:
            return _opened(self._wait(identity, session_id, cancel), session_id)
        finally:
            with self._store.write() as connection:
                connection.execute("DELETE FROM requests WHERE id = ?", (identity,))

    def _wait(self, identity: str, session_id: str, cancel: Cancel | None) -> str:
        asked = time.monotonic()
        while True:
            with self._store.read() as connection:
                row = connection.execute("SELECT taken, answer FROM requests WHERE id = ?", (identity,)).fetchone()
            if row is None or (self._sessions.get(session_id).over and row["answer"] is None):
                # It may have ended just because it was asked to.
                raise ConflictError(f"session {session_id} has ended", subject=session_id)
            if row["answer"] is not None:
                return str(row["answer"])
            if not row["taken"] and time.monotonic() - asked > _PICKED_UP:
                raise BusyError(
                    f"the process that drives session {session_id} does not react",
                    subject=session_id,
                    hint="Stop that process (oubliette serve stop), then try again.",
                )
            if cancel is not None and cancel.wait(_POLL):
                raise OperationCancelledError("cancelled while another process was asked", subject=session_id)
            if cancel is None:
                time.sleep(_POLL)

    def take(self, is_mine: Callable[[str], bool]) -> tuple[Request, ...]:
        """Take the requests for sessions that this process drives."""
        with self._store.read() as connection:
            rows = connection.execute("SELECT * FROM requests WHERE NOT taken ORDER BY created_at, id").fetchall()
        mine = [row for row in rows if is_mine(row["session_id"])]
        if mine:
            with self._store.write() as connection:
                connection.executemany("UPDATE requests SET taken = 1 WHERE id = ?", [(row["id"],) for row in mine])
        return tuple(
            Request(id=row["id"], session_id=row["session_id"], kind=row["kind"], data=json.loads(row["data"]))
            for row in mine
        )

    def answer(self, request: Request, value: Any = None, error: OublietteError | None = None) -> None:
        """Tell whoever asked what came of it."""
        sealed: dict[str, Any] = {"value": value} if error is None else {"error": error.message, "hint": error.hint}
        if isinstance(error, ConflictError):
            sealed["conflict"] = True
        with self._store.write() as connection:
            connection.execute("UPDATE requests SET answer = ? WHERE id = ?", (json.dumps(sealed), request.id))


def _opened(text: str, session_id: str) -> Any:
    answer = json.loads(text)
    if "error" not in answer:
        return answer["value"]
    kind = ConflictError if answer.get("conflict") else ServiceError
    raise kind(answer["error"], subject=session_id, hint=answer["hint"])


class Postman:
    """Brings this process the requests for its sessions, from `start` until `close`.

    :param is_mine: tells whether it drives a session. :param act: does what is asked, in a thread of its own.
    """

    def __init__(self, mailbox: Mailbox, is_mine: Callable[[str], bool], act: Callable[[Request], Any]) -> None:
        self._mailbox = mailbox
        self._is_mine = is_mine
        self._act = act
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if that has not been done."""
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="oubliette-postman", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Bring no more. Idempotent."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        while not self._closed.wait(_POLL):
            try:
                for request in self._mailbox.take(self._is_mine):
                    name = f"oubliette-{request.id}"
                    threading.Thread(target=self._deliver, args=(request,), name=name, daemon=True).start()
            except OublietteError as error:
                _log.warning("requests of other processes cannot be read: %s", error)

    def _deliver(self, request: Request) -> None:
        value, failure = None, None
        try:
            value = self._act(request)
        except OublietteError as error:
            failure = error
        except Exception:  # noqa: BLE001 - a thread has nobody above it
            _log.exception("a request of another process (%s) met a bug", request.kind)
            failure = OublietteError("it failed by an internal error; the server's log has the details")
        with contextlib.suppress(OublietteError):
            self._mailbox.answer(request, value, failure)
