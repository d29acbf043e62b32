"""Access tokens of the MCP server.

A token is ``oub_``, its public id, ``_`` and 256 random bits. Only a SHA-256 of the random part is kept: it has too
many bits to be guessed, so a slow hash would protect nothing and cost every request.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
import secrets
import sqlite3
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from oubliette_core.errors import (
    AccessDeniedError,
    BusyError,
    ConflictError,
    InvalidValueError,
    StoreError,
    TokenNotFoundError,
)
from oubliette_core.services.ids import from_text, is_id, new_id, now, to_text
from oubliette_core.services.records import NewToken, Project, Scope, Token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oubliette_core.services.store import Store

__all__ = ["Tokens"]

_SECRET = re.compile(r"oub_(?P<id>[a-z2-7]{12})_(?P<secret>[A-Za-z0-9_-]{43})")
_NAME = re.compile(r"[^\W_](?:[^\S\r\n\t\v\f]|[\w.,:@/+-]){0,63}")
_SCOPE = re.compile(r"(?:admin|project:(?P<project>[^:]+))(?P<read_only>:ro)?")
_USE_IS_NOTED_EVERY = timedelta(minutes=1)
"""Writing down each use would make every request wait for the disk."""


class Tokens:
    """The access tokens of one Oubliette home.

    :param find_project: finds a project by id, unique prefix or name.
    """

    def __init__(self, store: Store, find_project: Callable[[str], Project]) -> None:
        self._store = store
        self._find_project = find_project

    def create(self, name: str, scopes: Iterable[str], *, expires_at: datetime | None = None) -> NewToken:
        """Make a token.

        :param name: what it is for: up to 64 letters, digits, spaces and ``.,:@/+_-``; unique.
        :param scopes: of ``admin``, ``admin:ro``, ``project:<project>`` and ``project:<project>:ro``, where
            ``<project>`` is a project's id, a unique prefix of it, or its name.
        :param expires_at: aware; None for never.
        :raises InvalidValueError: no such scope, or none, or it expires in the past.
        :raises ConflictError: the name is taken. :raises ProjectNotFoundError: a scope names no project.
        """
        if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
            raise InvalidValueError(
                f"{name!r:.80} cannot be a token's name",
                value=f"{name!r:.80}",
                hint="Use up to 64 letters, digits, spaces and .,:@/+_-, and begin with a letter or digit.",
            )
        token = Token(
            id=new_id("tok"),
            name=name,
            scopes=tuple(dict.fromkeys(map(self._scope, scopes))),
            created_at=now(),
            expires_at=_in_future(expires_at),
        )
        if not token.scopes:
            raise InvalidValueError("a token needs a scope", hint=_SCOPES_HINT)
        secret = secrets.token_urlsafe(32)
        self._insert(token, _digest(secret))
        return NewToken(token=token, secret=f"oub_{token.id.removeprefix('tok_')}_{secret}")

    def list(self) -> tuple[Token, ...]:
        """Return all tokens, expired ones too, sorted by name."""
        with self._store.read() as connection:
            return tuple(map(_token, connection.execute("SELECT * FROM tokens ORDER BY name")))

    def revoke(self, reference: str) -> Token:
        """Delete a token, given by id or name; return what it was.

        :raises TokenNotFoundError: there is none.
        """
        column = "id" if is_id(reference, "tok") else "name"
        with self._store.write() as connection:
            query = f"SELECT * FROM tokens WHERE {column} = ?"  # noqa: S608 - one of the two names above
            row = connection.execute(query, (reference,)).fetchone()
            if row is None:
                raise TokenNotFoundError(f"there is no token {reference!r}", subject=reference)
            connection.execute("DELETE FROM tokens WHERE id = ?", (row["id"],))
        return _token(row)

    def verify(self, secret: str, *, wait: bool = True) -> Token:
        """Return the token that ``secret`` belongs to, and note its use.

        :param wait: for others who use the database; otherwise that, or a use that is to be noted, is a `BusyError`.
        :raises AccessDeniedError: none, or it has expired; which of them is not told.
        """
        match = _SECRET.fullmatch(secret) if len(secret) <= 100 else None
        row = None
        if match is not None:
            with self._store.read(wait=wait) as connection:
                query = "SELECT * FROM tokens WHERE id = ?"
                row = connection.execute(query, (f"tok_{match['id']}",)).fetchone()
        expected = row["digest"] if row else _digest("")
        equal = hmac.compare_digest(expected, _digest(match["secret"] if match else "-"))
        if row is None or not equal:
            raise _denied()
        token = _token(row)
        if token.expires_at is not None and token.expires_at <= now():
            raise _denied()
        if token.last_used_at is None or now() - token.last_used_at >= _USE_IS_NOTED_EVERY:
            if not wait:
                raise BusyError(f"the use of token {token.name!r} is to be noted", subject=token.id)
            self._note_use(token)
        return token

    def _note_use(self, token: Token) -> None:
        # A valid token is not refused because the note cannot be made.
        with contextlib.suppress(BusyError, StoreError), self._store.write() as connection:
            connection.execute("UPDATE tokens SET last_used_at = ? WHERE id = ?", (to_text(now()), token.id))

    def _scope(self, text: str) -> Scope:
        match = _SCOPE.fullmatch(text)
        if match is not None:
            read_only = match["read_only"] is not None
            if match["project"] is None:
                return Scope(kind="admin", read_only=read_only)
            return Scope(kind="project", project_id=self._find_project(match["project"]).id, read_only=read_only)
        raise InvalidValueError(f"{text!r:.80} is not a scope", value=f"{text!r:.80}", hint=_SCOPES_HINT)

    def _insert(self, token: Token, digest: str) -> None:
        scopes = " ".join(map(str, token.scopes))
        expires = to_text(token.expires_at) if token.expires_at else None
        row = (token.id, token.name, digest, scopes, to_text(token.created_at), expires)
        columns = "id, name, digest, scopes, created_at, expires_at"
        try:
            with self._store.write() as connection:
                connection.execute(f"INSERT INTO tokens ({columns}) VALUES (?, ?, ?, ?, ?, ?)", row)  # noqa: S608
        except sqlite3.IntegrityError as error:
            raise ConflictError(
                f"there is a token {token.name!r} already", subject=token.name, hint="Choose another name."
            ) from error


_SCOPES_HINT = "Use admin, admin:ro, project:PROJECT or project:PROJECT:ro."


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _denied() -> AccessDeniedError:
    return AccessDeniedError("the access token is not valid", hint="Make one: oubliette token create NAME")


def _in_future(expires_at: datetime | None) -> datetime | None:
    if expires_at is not None:
        if expires_at.tzinfo is None:
            raise InvalidValueError("the time of expiry has to have a time zone", value=str(expires_at))
        if expires_at <= now():
            raise InvalidValueError("the time of expiry is in the past", value=str(expires_at))
    return expires_at


def _token(row: sqlite3.Row) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        scopes=tuple(map(_stored_scope, row["scopes"].split())),
        created_at=from_text(row["created_at"]),
        expires_at=from_text(row["expires_at"]) if row["expires_at"] else None,
        last_used_at=from_text(row["last_used_at"]) if row["last_used_at"] else None,
    )


def _stored_scope(text: str) -> Scope:
    subject = text.removesuffix(":ro")
    project_id = subject.removeprefix("project:") if subject != "admin" else ""
    return Scope(kind="project" if project_id else "admin", project_id=project_id, read_only=subject != text)
