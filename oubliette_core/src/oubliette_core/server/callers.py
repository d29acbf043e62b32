"""Who calls, and whether they may: the one access check of the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import AccessDeniedError, ConflictError, ProjectNotFoundError, SessionNotFoundError
from oubliette_core.services.ids import now
from oubliette_core.services.records import Scope, Token

if TYPE_CHECKING:
    from oubliette_core.app import App
    from oubliette_core.services.records import Project, Session


@attrs.frozen(kw_only=True)
class Caller:
    """Whoever a call comes from.

    :param token: the access token; that of the local user, who has all rights, is kept nowhere.
    """

    token: Token

    @classmethod
    def local_user(cls) -> Caller:
        """Return the user who started the server and talks to it over its standard streams."""
        return cls(token=Token(id="local", name="local user", scopes=(Scope(kind="admin"),), created_at=now()))

    def require(self, project: Project | None, *, write: bool) -> None:
        """See that something may be done to a project that the caller can see, or (None) to what is above projects.

        :raises AccessDeniedError: it may not.
        """
        if self.token.allows(project.id if project else None, write=write):
            return
        what = f"project {project.name}" if project else "anything but its own project"
        scopes = ", ".join(map(str, self.token.scopes))
        raise AccessDeniedError(
            f"the access token does not allow to {'change or use' if write else 'see'} {what} (its scope: {scopes})",
            subject=project.id if project else "",
            hint="Whoever runs the server can make another: oubliette token create NAME --scope SCOPE",
        )

    def sees(self, project_id: str) -> bool:
        """Tell whether the caller may know that a project exists."""
        return self.token.allows(project_id, write=False)

    def find_project(self, app: App, reference: str) -> Project:
        """Find a project by its id, a unique prefix of it, or its name. One that is out of reach is as if missing.

        :raises ProjectNotFoundError: there is none, as far as the caller is to know.
        :raises InvalidValueError: ``reference`` has the form of neither.
        :raises ConflictError: it fits several that the caller can see.
        """
        try:
            found = app.projects.get(reference)
        except ProjectNotFoundError:
            raise _no_project(reference) from None
        except ConflictError:
            if self.token.allows(None, write=False):
                raise
            found = None  # the message lists projects
        if found is not None and self.sees(found.id):
            return found
        mine = [project for project in app.projects.list() if self.sees(project.id)]
        near = [project for project in mine if reference.startswith("proj_") and project.id.startswith(reference)]
        if len(near) != 1:
            raise _no_project(reference)
        return near[0]

    def find_session(self, app: App, session_id: str) -> tuple[Session, Project]:
        """Find an agent session or a command in the background, and its project.

        One that is out of reach is as if missing.

        :param session_id: of the form of one or the other. :raises SessionNotFoundError: there is none, as far as the
            caller is to know.
        """
        try:
            session = app.sessions.get(session_id)
            project = app.projects.get(session.project_id)
        except (SessionNotFoundError, ProjectNotFoundError):
            raise _no_session(session_id) from None
        if not self.sees(project.id):
            raise _no_session(session_id)
        return session, project


def _no_project(reference: str) -> ProjectNotFoundError:
    return ProjectNotFoundError(
        f"there is no project {reference!r}", subject=reference, hint="See which there are: project_list"
    )


def _no_session(session_id: str) -> SessionNotFoundError:
    if session_id.startswith("exec_"):
        hint = "container_exec gives the id of what it starts."
        return SessionNotFoundError(f"there is no command {session_id!r}", subject=session_id, hint=hint)
    return SessionNotFoundError(
        f"there is no session {session_id!r}", subject=session_id, hint="See which there are: session_list"
    )
