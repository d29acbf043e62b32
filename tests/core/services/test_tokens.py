"""Tokens: shown once, kept as a hash, and good for what they were made for, as long as they were made for it."""

from __future__ import annotations

import contextlib
import hmac
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import (
    AccessDeniedError,
    BusyError,
    ConflictError,
    InvalidValueError,
    ProjectNotFoundError,
    TokenNotFoundError,
)
from oubliette_core.services import store as store_module
from oubliette_core.services import tokens as tokens_module
from oubliette_core.services.ids import now
from oubliette_core.services.tokens import Tokens

if TYPE_CHECKING:
    from oubliette_core.config import Home
    from oubliette_core.services.project_records import ProjectRecords
    from oubliette_core.services.store import Store
    from tests.core.services.conftest import MakeProject


@pytest.fixture
def tokens(store: Store, records: ProjectRecords) -> Tokens:
    """The tokens of the home."""
    return Tokens(store, records.find)


def test_a_token_opens_what_it_was_made_for(tokens: Tokens) -> None:
    """The secret is the key, and finds the record that was returned with it."""
    new = tokens.create("my editor", ["admin"])
    found = tokens.verify(new.secret)

    assert (new.token.id, "my editor", ["admin"]) == (found.id, found.name, list(map(str, found.scopes)))


def test_who_may_not_wait_is_told_when_there_is_something_to_wait_for(tokens: Tokens, store: Store) -> None:
    """A use that is to be written down, or connections that are all in use; otherwise the answer is the same."""
    new = tokens.create("a", ["admin"])
    with pytest.raises(BusyError, match="to be noted"):
        tokens.verify(new.secret, wait=False)
    noted = tokens.verify(new.secret)
    at_once = tokens.verify(new.secret, wait=False)
    with contextlib.ExitStack() as stack:
        for _ in range(store_module._CONNECTIONS):
            stack.enter_context(store.read())
        with pytest.raises(BusyError, match="in use"):
            tokens.verify(new.secret, wait=False)

    assert (noted.id, True) == (at_once.id, at_once.last_used_at is not None)
    assert new.token.id == tokens.verify(new.secret, wait=False).id
    with pytest.raises(AccessDeniedError):
        tokens.verify(new.secret + "x", wait=False)


def test_the_secret_has_256_bits_and_is_kept_nowhere(tokens: Tokens, store: Store, home: Home) -> None:
    """Whoever reads the database cannot use what is there."""
    new = tokens.create("a", ["admin"])
    random_part = new.secret.rpartition(new.token.id.removeprefix("tok_") + "_")[2]
    store.close()
    files = b"".join(path.read_bytes() for path in home.data_dir.rglob("*") if path.is_file())

    assert 43 == len(random_part)
    assert random_part.encode() not in files
    assert new.secret not in repr(new)


def test_no_two_secrets_are_alike(tokens: Tokens) -> None:
    """They are random, not counted."""
    secrets = {tokens.create(f"t{number}", ["admin:ro"]).secret for number in range(50)}

    assert 50 == len(secrets)


@pytest.mark.parametrize(
    "change",
    [
        lambda secret: "",
        lambda secret: secret[:-1],
        lambda secret: secret + "x",
        lambda secret: secret[:-1] + ("A" if secret[-1] != "A" else "B"),
        lambda secret: secret.upper(),
        lambda secret: "oub_aaaaaaaaaaaa_" + secret[-43:],
        lambda secret: secret + "\n",
        lambda secret: "x" * 1_000_000,
        lambda secret: "\u0661" * 60,
    ],
)
def test_anything_but_the_secret_is_denied(tokens: Tokens, change: object) -> None:
    """Cut, changed, longer, another token's id: all get the same answer."""
    assert callable(change)
    secret = tokens.create("a", ["admin"]).secret
    with pytest.raises(AccessDeniedError) as caught:
        tokens.verify(change(secret))

    assert "the access token is not valid" == caught.value.message


def test_secrets_are_compared_in_constant_time_also_when_there_is_no_such_token(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that an answer takes tells nothing about what is kept."""
    compared: list[tuple[int, int]] = []

    def compare(first: str, second: str) -> bool:
        compared.append((len(first), len(second)))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    secret = tokens.create("a", ["admin"]).secret
    for given in (secret, "oub_aaaaaaaaaaaa_" + secret[-43:], "nonsense"):
        with pytest.raises(AccessDeniedError):
            tokens.verify(given)

    assert [(64, 64)] * 3 == compared


def test_an_expired_token_is_denied_and_still_listed(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time is all it takes, and its owner can see why it no longer works."""
    new = tokens.create("a", ["admin"], expires_at=now() + timedelta(hours=1))
    before = tokens.verify(new.secret)
    monkeypatch.setattr(tokens_module, "now", lambda: now() + timedelta(hours=2))
    with pytest.raises(AccessDeniedError):
        tokens.verify(new.secret)

    assert new.token.id == before.id
    assert [new.token.id] == [token.id for token in tokens.list()]


def test_a_revoked_token_is_denied_at_once(tokens: Tokens) -> None:
    """By its id or its name."""
    first, second = tokens.create("first", ["admin"]), tokens.create("second", ["admin"])
    tokens.revoke(first.token.id)
    tokens.revoke("second")
    for new in (first, second):
        with pytest.raises(AccessDeniedError):
            tokens.verify(new.secret)
    with pytest.raises(TokenNotFoundError):
        tokens.revoke("second")

    assert () == tokens.list()


def test_the_last_use_is_noted_to_the_minute(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Often enough to see which tokens are in use, and not so often that every request waits for the disk."""
    new = tokens.create("a", ["admin"])
    start = now()
    seen: list[datetime | None] = [new.token.last_used_at]
    for seconds in (0, 30, 90):
        monkeypatch.setattr(tokens_module, "now", lambda late=seconds: start + timedelta(seconds=late))
        tokens.verify(new.secret)
        seen.append(tokens.list()[0].last_used_at)

    assert [None, start, start, start + timedelta(seconds=90)] == seen


@pytest.mark.parametrize("scope", ["admin", "admin:ro"])
def test_scopes_above_projects(tokens: Tokens, scope: str) -> None:
    """They reach every project; read-only ones change nothing."""
    token = tokens.create("a", [scope]).token
    writes = scope == "admin"

    assert (True, True) == (token.allows(None, write=False), token.allows("proj_aaaaaaaaaaaa", write=False))
    assert (writes, writes) == (token.allows(None, write=True), token.allows("proj_aaaaaaaaaaaa", write=True))


@pytest.mark.parametrize("suffix", ["", ":ro"])
@pytest.mark.parametrize("named", ["id", "prefix", "name"])
def test_scopes_of_a_project(tokens: Tokens, make_project: MakeProject, suffix: str, named: str) -> None:
    """They reach that one alone and nothing above it, and are kept by id: a name could come to mean another."""
    project = make_project("web")
    reference = {"id": project.id, "prefix": project.id[:10], "name": "web"}[named]
    token = tokens.create("a", [f"project:{reference}{suffix}"]).token

    assert [f"project:{project.id}{suffix}"] == list(map(str, token.scopes))
    assert (True, not suffix) == (token.allows(project.id, write=False), token.allows(project.id, write=True))
    assert not token.allows("proj_aaaaaaaaaaaa", write=False)
    assert not token.allows(None, write=False)


def test_several_scopes_add_up(tokens: Tokens, make_project: MakeProject) -> None:
    """Each allows what it allows alone."""
    one, two = make_project("one"), make_project("two")
    new = tokens.create("a", ["project:one", "project:two:ro", "project:one"])
    token = tokens.verify(new.secret)

    assert [f"project:{one.id}", f"project:{two.id}:ro"] == list(map(str, token.scopes))
    assert (True, False) == (token.allows(one.id, write=True), token.allows(two.id, write=True))


@pytest.mark.parametrize("scope", ["", "root", "admin:rw", "admin:", "project:", "project::ro", "ADMIN", "admin ro"])
def test_what_is_no_scope_is_refused(tokens: Tokens, scope: str) -> None:
    """A typing error must not make a token that does something else."""
    with pytest.raises(InvalidValueError) as caught:
        tokens.create("a", [scope])

    assert "project:PROJECT:ro" in caught.value.hint
    assert () == tokens.list()


def test_a_token_needs_a_scope_a_free_name_and_a_future(tokens: Tokens) -> None:
    """Each mistake is told."""
    tokens.create("taken", ["admin"])
    with pytest.raises(InvalidValueError, match="needs a scope"):
        tokens.create("a", [])
    with pytest.raises(ConflictError, match="'taken' already"):
        tokens.create("taken", ["admin"])
    with pytest.raises(InvalidValueError, match="in the past"):
        tokens.create("a", ["admin"], expires_at=now() - timedelta(seconds=1))
    with pytest.raises(InvalidValueError, match="time zone"):
        tokens.create("a", ["admin"], expires_at=datetime(2999, 1, 1))  # noqa: DTZ001 - that is the mistake
    with pytest.raises(ProjectNotFoundError):
        tokens.create("a", ["project:nowhere"])

    assert ["taken"] == [token.name for token in tokens.list()]


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\x1b[31m", "x" * 65, "../a", "tok_aaaaaaaaaaaa\n"])
def test_names_are_one_printable_line(tokens: Tokens, name: str) -> None:
    """They are printed in lists and logs."""
    with pytest.raises(InvalidValueError, match="cannot be a token's name"):
        tokens.create(name, ["admin"])

    assert () == tokens.list()


def test_deleting_a_project_revokes_the_tokens_that_reached_nothing_else(
    tokens: Tokens, records: ProjectRecords, make_project: MakeProject
) -> None:
    """What opens nothing should not be lying about."""
    project = make_project("web")
    for name, scopes in {"a": ["project:web"], "b": ["project:web:ro"], "c": ["admin", "project:web"]}.items():
        tokens.create(name, scopes)
    records.delete(project.id)

    assert ["c"] == [token.name for token in tokens.list()]
