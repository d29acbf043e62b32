"""The logins of the docker CLI are found, and nothing else is run or believed on the way.

How engines are given them is tested in `tests.docker.test_credentials`, which goes through the same code.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.logins import DockerLogins, Login, trusted_path

HUB = "https://index.docker.io/v1/"


def logins(tmp_path: Path, config: object) -> DockerLogins:
    """Write a configuration of the docker CLI."""
    (tmp_path / "config.json").write_text(json.dumps(config))
    return DockerLogins({"PATH": "/usr/bin:/bin"}, tmp_path)


def encoded(text: str) -> dict[str, str]:
    """Return an entry as `docker login` writes it without a helper."""
    return {"auth": base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (encoded("me:pass:word"), {"username": "me", "password": "pass:word"}),
        ({"identitytoken": "token", **encoded("me:word")}, {"identity_token": "token"}),
        ({"username": "me", "password": "word"}, {"username": "me", "password": "word"}),
    ],
)
def test_every_form_of_an_entry_is_read(tmp_path: Path, entry: dict[str, str], expected: dict[str, Any]) -> None:
    """Programs other than the docker CLI write entries, too; a token wins over a password."""
    found = logins(tmp_path, {"auths": {"r.example": entry}}).find("r.example", "r.example/x")

    assert found is not None
    assert Login(server="r.example", source=found.source, **expected) == found
    assert not any(secret in repr(found) for secret in ("word", "token'"))


@pytest.mark.parametrize("key", [HUB, "index.docker.io", "docker.io", "https://docker.io/v2/"])
def test_docker_hub_is_found_under_all_its_names(tmp_path: Path, key: str) -> None:
    """Programs do not agree about how to write it."""
    found = logins(tmp_path, {"auths": {key: encoded("me:word")}}).find("docker.io", "box")

    assert found is not None
    assert (HUB, "me") == (found.server, found.username)


@pytest.mark.parametrize("entry", [5, [], "x", {"auth": "%%%"}, {"auth": "bWU="}, {"auth": 5}])
def test_a_damaged_entry_is_no_login(tmp_path: Path, entry: object) -> None:
    """A public image can be pulled all the same."""
    assert logins(tmp_path, {"auths": {"r.example": entry}}).find("r.example", "r.example/x") is None


def test_all_registries_are_named_once(tmp_path: Path) -> None:
    """A build needs the logins of all, however often they are written down."""
    config = {"auths": {HUB: {}, "r.example": {}}, "credHelpers": {"index.docker.io": "x", "h.example:5000": "x"}}

    assert ("docker.io", "r.example", "h.example:5000") == logins(tmp_path, config).registries()


def test_the_trusted_path_leaves_the_current_directory_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in somebody else's repository is never run for one of ours."""
    monkeypatch.chdir(tmp_path)

    assert "/usr/bin:/bin" == trusted_path({"PATH": f":.:bin:/usr/bin:{tmp_path}:/bin"})
