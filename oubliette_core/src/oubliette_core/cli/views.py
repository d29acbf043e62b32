"""What ``--json`` prints: the names here are a promise to programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from oubliette_core.cli.boundary import exit_code
from oubliette_core.cli.text import plain
from oubliette_core.errors import OublietteError
from oubliette_core.models import ContainerInfo
from oubliette_core.services.records import Event, Outcome, Project, ProjectStatus, RefreshResult, Session

if TYPE_CHECKING:
    from oubliette_core.agents import Turn

T = TypeVar("T")
_CONTAINER = ("id", "name", "image", "image_id", "exit_code", "created_at", "started_at", "ip_address", "not_enforced")


def project_object(project: Project) -> dict[str, Any]:
    """Return a project."""
    return {
        "id": project.id,
        "name": project.name,
        "type": project.container_type,
        "repository": project.repository,
        "generation": project.generation,
        "created_at": plain(project.created_at),
        "workspace": str(project.workspace),
        "home": str(project.home),
    }


def status_object(status: ProjectStatus) -> dict[str, Any]:
    """Return a project with its container."""
    return {
        "project": project_object(status.project),
        "state": status.state,
        "image": status.image,
        "container": container_object(status.container),
        "sessions": list(status.sessions),
    }


def container_object(container: ContainerInfo | None) -> dict[str, Any] | None:
    """Return a container, or nothing."""
    return None if container is None else {name: plain(getattr(container, name)) for name in _CONTAINER}


def outcome_object(outcome: Outcome[T], describe: Callable[[T], dict[str, Any]]) -> dict[str, Any]:
    """Return what became of one target: its result, or its error."""
    if outcome.error is not None:
        return {"target": outcome.target, "ok": False, "error": error_object(outcome.error)}
    return {"target": outcome.target, "ok": True} | (describe(outcome.value) if outcome.value is not None else {})


def error_object(error: OublietteError) -> dict[str, Any]:
    """Return an error."""
    return {
        "type": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": exit_code(error),
    }


def session_object(session: Session) -> dict[str, Any]:
    """Return an agent session."""
    names = ("id", "project_id", "state", "agent", "model", "autonomy", "title", "detail", "created_at", "updated_at")
    return {
        **{name: plain(getattr(session, name)) for name in names},
        "resumable": session.over and session.resumable,
        "questions": plain(session.questions),
    }


def event_object(event: Event) -> dict[str, Any]:
    """Return what happened in a session."""
    return {"number": event.number, "kind": event.kind.value, "time": plain(event.created_at), "data": event.data}


def turn_object(turn: Turn) -> dict[str, Any]:
    """Return how an agent's work on a message ended."""
    return {
        "session": session_object(turn.session),
        "turn": turn.number,
        "stop_reason": turn.stop_reason,
        "message": turn.text,
        "usage": turn.usage,
        "detail": turn.detail,
    }


def refresh_object(result: RefreshResult) -> dict[str, Any]:
    """Return what a refresh did."""
    names = ("skipped", "image_changed", "previous_image_id", "image_id", "was_running")
    return {name: getattr(result, name) for name in names} | status_object(result.status)
