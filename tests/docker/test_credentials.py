"""Registries are asked with the docker CLI's logins, and a broken helper does not stop what needs none."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from oubliette_core import logins
from oubliette_core.errors import ImagePullError, OperationCancelledError
from oubliette_core.models import Cancel
from oubliette_docker._credentials import Credentials, Login
from oubliette_docker._endpoint import Surroundings

HUB = "https://index.docker.io/v1/"
SetUp = Callable[..., Credentials]


def auth(user: str, password: str) -> dict[str, str]:
    """Return an entry as `docker login` writes it without a helper."""
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def decoded(headers: Mapping[str, str]) -> Any:
    """Return what the only header says."""
    (value,) = headers.values()
    return json.loads(base64.urlsafe_b64decode(value))


@pytest.fixture
def set_up(tmp_path: Path) -> SetUp:
    """Writes a configuration of the docker CLI and helper programs (name: shell script)."""
    programs = tmp_path / "bin"
    programs.mkdir()

    def write(config: object, **helpers: str) -> Credentials:
        (tmp_path / ".docker").mkdir()
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / ".docker" / "config.json").write_text(text)
        for name, script in helpers.items():
            program = programs / f"docker-credential-{name}"
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
        environ = {"PATH": f"{programs}:/usr/bin:/bin", "HELPED": str(tmp_path)}
        return Credentials(Surroundings(environ=environ, home=tmp_path))

    return write


ANSWER = """read server; echo "$1 $server" >> "$HELPED/asked"
echo '{"ServerURL":"x","Username":"me","Secret":"s3cret"}'"""


def test_without_a_configuration_nothing_is_sent(tmp_path: Path) -> None:
    """Most pulls need no login."""
    credentials = Credentials(Surroundings(environ={}, home=tmp_path))

    assert (Login(), {}) == (credentials.for_image("box:latest", None), credentials.for_build(None))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("r.example:5000/a/b:1", {"username": "u1", "password": "p:1", "serveraddress": "r.example:5000"}),
        ("box:latest", {"username": "hub", "password": "h", "serveraddress": HUB}),
        ("docker.io/library/box", {"username": "hub", "password": "h", "serveraddress": HUB}),
        ("token.example/x", {"identitytoken": "tok", "serveraddress": "token.example"}),
    ],
)
def test_the_entry_of_the_images_registry_is_sent(set_up: SetUp, image: str, expected: dict[str, str]) -> None:
    """Docker Hub's entry has a name of its own."""
    credentials = set_up(
        {
            "auths": {
                "r.example:5000": auth("u1", "p:1"),
                HUB: auth("hub", "h"),
                "token.example": {"identitytoken": "tok"},
            }
        }
    )
    login = credentials.for_image(image, None)

    assert expected == decoded(login.headers)
    assert ["X-Registry-Auth"] == list(login.headers)
    assert "config.json" in login.source


def test_another_registry_gets_nothing(set_up: SetUp) -> None:
    """A login for one registry is never shown to another."""
    credentials = set_up({"auths": {"r.example": auth("u", "p")}})

    assert Login() == credentials.for_image("other.example/x", None)


@pytest.mark.parametrize(
    "config",
    [{"credsStore": "good"}, {"credHelpers": {"r.example": "good"}, "credsStore": "bad"}],
)
def test_a_helper_is_asked_for_its_registry(set_up: SetUp, tmp_path: Path, config: dict[str, Any]) -> None:
    """The helper of the registry wins over the one for all."""
    login = set_up(config, good=ANSWER, bad="exit 9").for_image("r.example/x", None)

    assert {"username": "me", "password": "s3cret", "serveraddress": "r.example"} == decoded(login.headers)
    assert "get r.example\n" == (tmp_path / "asked").read_text()
    assert "s3cret" not in repr(login)


def test_a_helper_knows_docker_hub_by_its_old_address(set_up: SetUp, tmp_path: Path) -> None:
    """That is the name under which `docker login` stores it."""
    set_up({"credsStore": "good"}, good=ANSWER).for_image("box", None)

    assert f"get {HUB}\n" == (tmp_path / "asked").read_text()


def test_a_token_of_a_helper_is_sent_as_one(set_up: SetUp) -> None:
    """Helpers mark tokens with a user name that is none."""
    script = """echo '{"Username":"<token>","Secret":"tok"}'"""
    login = set_up({"credsStore": "good"}, good=script).for_image("r.example/x", None)

    assert {"identitytoken": "tok", "serveraddress": "r.example"} == decoded(login.headers)


@pytest.mark.parametrize(
    "script", ["echo 'credentials not found in native keychain'; exit 1", """echo '{"Username":"","Secret":""}'"""]
)
def test_a_helper_without_a_login_is_no_failure(set_up: SetUp, caplog: pytest.LogCaptureFixture, script: str) -> None:
    """Public images are pulled by people who are logged in elsewhere."""
    login = set_up({"credsStore": "none"}, none=script).for_image("r.example/x", None)

    assert (Login(), []) == (login, caplog.records)


BROKEN = ["exit 3", "echo no json", "echo '[]'", "echo '{}'", None]


@pytest.mark.parametrize("script", BROKEN)
def test_a_broken_helper_means_no_login(set_up: SetUp, caplog: pytest.LogCaptureFixture, script: str | None) -> None:
    """A desktop's helper that is not there must not stop the pull of a public image; it is told, once."""
    helpers = {"broken": script} if script else {}
    login = set_up({"credsStore": "broken"}, **helpers).for_image("r.example/x", None)

    assert (Login(), 1) == (login, len(caplog.records))
    assert "docker-credential-broken" in caplog.text


@pytest.mark.parametrize("script", BROKEN)
def test_a_broken_helper_of_somebody_who_logged_in_is_an_error(set_up: SetUp, script: str | None) -> None:
    """Going on without the login would end as "not found", which explains nothing."""
    helpers = {"broken": script} if script else {}
    config = {"auths": {"r.example": {}}, "credsStore": "broken"}

    with pytest.raises(ImagePullError, match="docker-credential-broken") as caught:
        set_up(config, **helpers).for_image("r.example/x:latest", None)

    assert ("unauthorized", False) == (caught.value.reason, caught.value.retryable)
    assert "docker login r.example" in caught.value.hint


def test_an_entry_stands_in_for_a_broken_helper(set_up: SetUp) -> None:
    """Whoever has both gets the one that works."""
    login = set_up({"auths": {"r.example": auth("u", "p")}, "credsStore": "gone"}).for_image("r.example/x", None)

    assert "u" == decoded(login.headers)["username"]


def test_a_helper_that_hangs_is_killed_with_its_children(
    set_up: SetUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some wait for a window that nobody sees."""
    monkeypatch.setattr(logins, "HELPER_TIMEOUT", 0.3)
    script = 'sleep 300 & echo $! > "$HELPED/child"; sleep 300'
    login = set_up({"credsStore": "slow"}, slow=script).for_image("r.example/x", None)
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    deadline = time.monotonic() + 5
    while child.exists() and "zombie" not in (child / "status").read_text() and time.monotonic() < deadline:
        threading.Event().wait(0.01)

    assert Login() == login
    assert time.monotonic() < deadline


def test_cancelling_does_not_wait_for_a_helper(set_up: SetUp) -> None:
    """Ctrl-C ends a pull within two seconds, whatever it is waiting for."""
    cancel = Cancel()
    credentials = set_up({"credsStore": "slow"}, slow="sleep 300")
    timer = threading.Timer(0.2, cancel.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(OperationCancelledError):
        credentials.for_image("r.example/x", cancel)
    timer.join()

    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["../evil", "a/b", "-x", "a b"])
def test_a_helpers_name_is_not_a_path(set_up: SetUp, name: str) -> None:
    """A configuration cannot have anything else run than a docker-credential program of PATH."""
    assert Login() == set_up({"credsStore": name}, evil=ANSWER).for_image("r.example/x", None)


def test_a_helper_in_the_current_directory_is_not_run(
    set_up: SetUp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be somebody else's repository."""
    credentials = set_up({"credsStore": "good"}, good=ANSWER)
    monkeypatch.chdir(tmp_path / "bin")

    assert Login() == credentials.for_image("r.example/x", None)
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("config", ["{", "[]", '{"auths": 5}', '{"auths": {"r.example": {"auth": "%%%"}}}'])
def test_a_damaged_configuration_means_no_login(set_up: SetUp, caplog: pytest.LogCaptureFixture, config: str) -> None:
    """It is told where it is damaged, without what is in it."""
    with caplog.at_level(logging.WARNING):
        login = set_up(config).for_image("r.example/x", None)

    assert Login() == login
    assert "%%%" not in caplog.text


def test_a_build_gets_the_logins_of_all_registries(set_up: SetUp) -> None:
    """Which images its steps are made from, only the engine finds out."""
    config = {
        "auths": {"r.example": auth("u", "p"), HUB: {}, "empty.example": {}},
        "credHelpers": {HUB: "good", "broken.example": "gone"},
    }
    headers = set_up(config, good=ANSWER).for_build(None)
    sent = decoded(headers)

    assert ["X-Registry-Config"] == list(headers)
    assert {"r.example": "u", HUB: "me"} == {key: value["username"] for key, value in sent.items()}
