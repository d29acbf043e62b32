"""The shape of the database, as the steps that lead to it.

A step is never changed once it was released: a new version of the shape is a new step at the end. The number of steps
taken is kept in the database itself (``PRAGMA user_version``).
"""

from __future__ import annotations

__all__ = ["APPLICATION_ID", "MIGRATIONS"]

APPLICATION_ID = 0x4F55424C
"""``OUBL``, in the header of the file: what tells our database from any other."""

# Times are text in ISO 8601 with UTC's offset, which sorts as time does.
_FIRST = """
CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    container_type TEXT NOT NULL,
    repository TEXT NOT NULL DEFAULT '',
    generation INTEGER NOT NULL DEFAULT 0,
    pending TEXT NOT NULL DEFAULT '',
    pending_at TEXT,
    deleting INTEGER NOT NULL DEFAULT 0,
    created_at TEXT NOT NULL
);

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    title TEXT NOT NULL DEFAULT '',
    detail TEXT NOT NULL DEFAULT '',
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);

CREATE INDEX sessions_of_project ON sessions (project_id, state);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT,
    last_used_at TEXT
);
"""

# What an agent session is, what happened in it, and what other processes ask of the one that drives it.
_AGENTS = """
ALTER TABLE sessions ADD COLUMN agent TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN autonomy TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN agent_session TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN resumable INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN questions TEXT NOT NULL DEFAULT '[]';
ALTER TABLE sessions ADD COLUMN process TEXT NOT NULL DEFAULT '';

CREATE TABLE events (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    kind TEXT NOT NULL,
    created_at TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (session_id, number)
) WITHOUT ROWID;

CREATE TABLE requests (
    id TEXT PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    answer TEXT,
    created_at TEXT NOT NULL
);
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _AGENTS)
"""SQL scripts; number N leads from shape N to shape N + 1."""
