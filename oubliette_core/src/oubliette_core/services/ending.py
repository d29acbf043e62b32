"""Ending what is at work in a project, whichever process drives it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import BusyError, ConflictError

if TYPE_CHECKING:
    from oubliette_core.models import Cancel
    from oubliette_core.services.mailbox import Mailbox
    from oubliette_core.services.records import Project, Session
    from oubliette_core.services.sessions import Sessions

__all__ = ["end_session", "end_sessions"]

_SECONDS = 30.0
_POLL = 0.05


def end_sessions(
    sessions: Sessions, mailbox: Mailbox, project: Project, *, cancel: Cancel | None = None
) -> tuple[Session, ...]:
    """End all agent sessions and background commands of a project; returns those that were at work.

    :raises BusyError: a process that drives one does not react, or does not get it ended.
    """
    found = sessions.active(project.id)
    for session in found:
        end_session(sessions, mailbox, session, cancel=cancel)
    return found


def end_session(sessions: Sessions, mailbox: Mailbox, session: Session, *, cancel: Cancel | None = None) -> Session:
    """Have the process that drives a session end it, and wait for that. :raises BusyError: it does not."""
    with contextlib.suppress(ConflictError):  # it has ended meanwhile
        mailbox.ask(session.id, "end", {}, cancel=cancel)
    deadline = time.monotonic() + _SECONDS
    while not (now := sessions.get(session.id)).over:
        if time.monotonic() > deadline:
            raise BusyError(f"session {session.id} has not ended within {_SECONDS:g} s", subject=session.id)
        time.sleep(_POLL)
    return now
