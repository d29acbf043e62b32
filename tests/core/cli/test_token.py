"""``oubliette token``: a secret is shown once, to whoever asked for it."""

from __future__ import annotations

import json

import pytest

from tests.core.cli.conftest import CommandLine


def test_a_token_is_all_that_goes_to_standard_output(ready: CommandLine) -> None:
    """So that ``TOKEN=$(oubliette token create ...)`` works."""
    result = ready("token", "create", "ci", "--scope", "admin:ro")

    assert 0 == result.code
    assert 1 == len(result.stdout.splitlines())
    assert result.stdout.startswith("oub_")
    assert result.stderr.startswith("Created token ci (tok_")


def test_the_list_has_no_secrets(ready: CommandLine) -> None:
    """Neither for people nor for programs."""
    secret = ready("token", "create", "ci", "--scope", "admin").stdout.strip()
    ready("token", "create", "short", "--scope", "admin", "--days", "0.5")
    people, programs = ready("token", "list").stdout, ready("token", "list", "--json").stdout

    assert secret not in people + programs
    assert [("ci", ["admin"]), ("short", ["admin"])] == [(one["name"], one["scopes"]) for one in json.loads(programs)]
    assert "never" in people.splitlines()[1]


def test_a_revoked_token_is_gone(ready: CommandLine) -> None:
    """And revoking it again says so."""
    made = json.loads(ready("token", "create", "ci", "--scope", "admin", "--json").stdout)

    assert f"Revoked token ci ({made['id']}).\n" == ready("token", "revoke", made["id"]).stdout
    assert 4 == ready("token", "revoke", "ci").code
    assert "No tokens." in ready("token", "list").stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["ci"], 2),
        (["ci", "--scope", "root"], 2),
        (["ci", "--scope", "project:nope"], 4),
        (["ci", "--scope", "admin", "--days", "-1"], 2),
    ],
)
def test_a_token_without_a_meaning_is_refused(ready: CommandLine, words: list[str], code: int) -> None:
    """What it allows has to be said; nothing is allowed by default."""
    assert code == ready("token", "create", *words).code
    assert [] == json.loads(ready("token", "list", "--json").stdout)
