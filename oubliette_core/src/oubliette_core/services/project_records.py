"""The rows of projects in the store."""

from __future__ import annotations

import re
import sqlite3
from datetime import timedelta
from typing import TYPE_CHECKING

from oubliette_core.errors import ConflictError, InvalidValueError, ProjectNotFoundError
from oubliette_core.services.ids import from_text, now, to_text
from oubliette_core.services.records import Project

if TYPE_CHECKING:
    from oubliette_core.services.store import Store

__all__ = ["ProjectRecords"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ID_BEGIN = "proj_"


class ProjectRecords:
    """What the store knows of projects.

    The swap of a project's container is recorded in three steps, each one transaction: `begin_swap` before a container
    is made, `commit_swap` as the one moment from which the new one counts, `end_swap` when no other is left. What is
    between the first and the last after a crash is told by ``pending``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def insert(self, project: Project) -> None:
        """Add a project. :raises ConflictError: its name is taken."""
        row = (project.id, project.name, project.container_type, project.repository, to_text(project.created_at))
        try:
            with self._store.write() as connection:
                connection.execute(
                    "INSERT INTO projects (id, name, container_type, repository, created_at) VALUES (?, ?, ?, ?, ?)",
                    row,
                )
        except sqlite3.IntegrityError as error:
            raise self._taken(project.name) from error

    def refuse_taken(self, name: str) -> None:
        """See that a name can be given to a new project.

        :raises InvalidValueError: it is malformed. :raises ConflictError: it is taken, also in other letter case.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower().startswith(_ID_BEGIN):
            raise InvalidValueError(
                f"{name!r:.80} cannot be a project's name",
                value=f"{name!r:.80}",
                hint="Use up to 63 letters, digits, dots, dashes and underscores, and begin with a letter or digit "
                f"(but not with {_ID_BEGIN}).",
            )
        with self._store.read() as connection:
            if connection.execute("SELECT 1 FROM projects WHERE name = ?", (name,)).fetchone():
                raise self._taken(name)

    def find(self, reference: str) -> Project:
        """Find a project by its id, its name, or a unique prefix of its id.

        :raises InvalidValueError: it has the form of none of them. :raises ProjectNotFoundError: there is none.
        :raises ConflictError: the prefix fits several, which are listed.
        """
        if not isinstance(reference, str) or not _NAME.fullmatch(reference):
            raise InvalidValueError(
                f"{reference!r:.80} is not a project's id or name",
                value=f"{reference!r:.80}",
                hint="See: oubliette project list",
            )
        with self._store.read() as connection:
            rows = connection.execute(
                "SELECT * FROM projects WHERE id = :it OR name = :it", {"it": reference}
            ).fetchall()
            if not rows and reference.startswith(_ID_BEGIN):
                query = "SELECT * FROM projects WHERE substr(id, 1, ?) = ? ORDER BY name"
                rows = connection.execute(query, (len(reference), reference)).fetchall()
        if not rows:
            raise _not_found(reference)
        if len(rows) > 1:
            listed = ", ".join(f"{row['id']} ({row['name']})" for row in rows[:10])
            raise ConflictError(
                f"{reference!r} fits {len(rows)} projects: {listed}", subject=reference, hint="Write more of the id."
            )
        return self._project(rows[0])

    def get(self, project_id: str) -> Project:
        """Return the project with this id. :raises ProjectNotFoundError: there is none."""
        with self._store.read() as connection:
            row = connection.execute("SELECT * FROM projects WHERE id = ?", (project_id,)).fetchone()
        if row is None:
            raise _not_found(project_id)
        return self._project(row)

    def list(self) -> tuple[Project, ...]:
        """Return all projects, sorted by name."""
        with self._store.read() as connection:
            return tuple(map(self._project, connection.execute("SELECT * FROM projects ORDER BY name")))

    def begin_swap(self, project_id: str, attempt: str) -> None:
        """Record that a container is about to be made, labelled with this attempt id."""
        self._update(project_id, "pending = ?, pending_at = ?", attempt, to_text(now()))

    def commit_swap(self, project_id: str, generation: int) -> None:
        """Make the container of this generation the project's container."""
        self._update(project_id, "generation = ?", generation)

    def end_swap(self, project_id: str) -> None:
        """Record that the project has no other container than that of its generation."""
        self._update(project_id, "pending = '', pending_at = NULL")

    def swap_is_older_than(self, project_id: str, age: timedelta) -> bool:
        """Tell whether the swap that is pending began so long ago; also when a clock that was set makes it unclear."""
        with self._store.read() as connection:
            row = connection.execute("SELECT pending_at FROM projects WHERE id = ?", (project_id,)).fetchone()
        return (
            row is None or row["pending_at"] is None or not timedelta() <= now() - from_text(row["pending_at"]) <= age
        )

    def begin_deletion(self, project_id: str) -> None:
        """Record that all that can be done with the project is to delete it."""
        self._update(project_id, "deleting = 1")

    def delete(self, project_id: str) -> None:
        """Forget a project, its sessions, and the tokens that reached nothing else."""
        scopes = (f"project:{project_id}", f"project:{project_id}:ro")
        with self._store.write() as connection:
            connection.execute("DELETE FROM projects WHERE id = ?", (project_id,))
            connection.execute("DELETE FROM tokens WHERE scopes IN (?, ?)", scopes)

    def _update(self, project_id: str, assignments: str, *values: object) -> None:
        with self._store.write() as connection:
            query = f"UPDATE projects SET {assignments} WHERE id = ?"  # noqa: S608 - written above, not given
            if not connection.execute(query, (*values, project_id)).rowcount:
                raise _not_found(project_id)

    def _project(self, row: sqlite3.Row) -> Project:
        directory = self._store.projects / row["id"]
        return Project(
            id=row["id"],
            name=row["name"],
            container_type=row["container_type"],
            repository=row["repository"],
            generation=row["generation"],
            pending=row["pending"],
            deleting=bool(row["deleting"]),
            created_at=from_text(row["created_at"]),
            workspace=directory / "workspace",
            home=directory / "home",
        )

    @staticmethod
    def _taken(name: str) -> ConflictError:
        return ConflictError(
            f"there is a project {name!r} already", subject=name, hint="Use that one, or choose another name."
        )


def _not_found(reference: str) -> ProjectNotFoundError:
    return ProjectNotFoundError(
        f"there is no project {reference!r}", subject=reference, hint="See which there are: oubliette project list"
    )
