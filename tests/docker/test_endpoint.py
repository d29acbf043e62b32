"""The engine is found as the docker CLI finds it, and what is named is never replaced by something else."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import ConfigError, RuntimeUnavailableError
from oubliette_docker._endpoint import (
    Endpoint,
    Options,
    Surroundings,
    TlsFiles,
    find_endpoint,
    parse_options,
)


class Place:
    """A home, a configuration of the docker CLI, and sockets in them."""

    def __init__(self, root: Path) -> None:
        self.home = root
        self.docker = root / ".docker"
        self.docker.mkdir()
        self.environ: dict[str, str] = {"XDG_RUNTIME_DIR": f"{root}/run"}
        self._sockets: list[socket.socket] = []

    def around(self) -> Surroundings:
        return Surroundings(environ=self.environ, home=self.home, uid=1000, default_socket=f"{self.home}/default.sock")

    def find(self, **options: Any) -> Endpoint:
        return find_endpoint(Options(**options), self.around())

    def context(self, name: str, host: str, *, skip_verify: bool = False, tls: tuple[str, ...] = ()) -> None:
        identity = hashlib.sha256(name.encode()).hexdigest()
        meta = self.docker / "contexts" / "meta" / identity
        meta.mkdir(parents=True)
        docker = {"Host": host, "SkipTLSVerify": skip_verify}
        (meta / "meta.json").write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": docker}}))
        for file in tls:
            path = self.docker / "contexts" / "tls" / identity / "docker" / f"{file}.pem"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file)

    def use_context(self, name: str) -> None:
        (self.docker / "config.json").write_text(json.dumps({"currentContext": name}))

    def socket(self, path: str) -> None:
        target = self.home / path
        target.parent.mkdir(parents=True, exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(target))
        self._sockets.append(listener)

    def close(self) -> None:
        for listener in self._sockets:
            listener.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A home with nothing in it yet."""
    place = Place(tmp_path)
    yield place
    place.close()


def test_what_is_nearer_to_the_user_wins(place: Place) -> None:
    """Configuration, DOCKER_HOST, DOCKER_CONTEXT, current context, sockets: each only when those before are silent."""
    place.socket("default.sock")
    place.context("work", "tcp://work:1")
    place.context("play", "tcp://play:1")
    found = [place.find().url]
    place.use_context("play")
    found.append(place.find().url)
    place.environ["DOCKER_CONTEXT"] = "work"
    found.append(place.find().url)
    place.environ["DOCKER_HOST"] = "unix:///host.sock"
    found.append(place.find().url)
    found.append(place.find(context="play").url)
    found.append(place.find(host="ssh://me@far").url)

    assert [
        f"unix://{place.home}/default.sock",
        "tcp://play:1",
        "tcp://work:1",
        "unix:///host.sock",
        "tcp://play:1",
        "ssh://me@far",
    ] == found


def test_an_empty_variable_is_not_set(place: Place) -> None:
    """Shells export empty variables; the docker CLI passes over them."""
    place.environ |= {"DOCKER_HOST": "", "DOCKER_CONTEXT": ""}

    assert f"unix://{place.home}/default.sock" == place.find().url


def test_context_default_is_the_search_for_sockets(place: Place) -> None:
    """`docker context use default` leaves no context of that name behind."""
    place.environ["DOCKER_CONTEXT"] = "default"
    place.socket("default.sock")

    assert f"unix://{place.home}/default.sock" == place.find().url


@pytest.mark.parametrize("origin", ["option", "variable", "config"])
def test_a_context_that_does_not_exist_is_an_error(place: Place, origin: str) -> None:
    """Talking to another daemon than the one that was named is how the wrong containers get deleted."""
    place.socket("default.sock")
    if origin == "variable":
        place.environ["DOCKER_CONTEXT"] = "gone"
    if origin == "config":
        place.use_context("gone")

    with pytest.raises(RuntimeUnavailableError, match="no docker context 'gone'") as caught:
        place.find(context="gone" if origin == "option" else "")

    assert "docker context ls" in caught.value.hint


@pytest.mark.parametrize("content", ["{", "[]", '{"Endpoints": {}}', '{"Endpoints": {"docker": {}}}'])
def test_a_damaged_context_is_an_error(place: Place, content: str) -> None:
    """A context without an address must not fall back to another engine."""
    place.context("odd", "tcp://odd:1")
    file = next((place.docker / "contexts").rglob("meta.json"))
    file.write_text(content)

    with pytest.raises(RuntimeUnavailableError):
        place.find(context="odd")


def test_a_damaged_configuration_is_an_error(place: Place) -> None:
    """It may name a context; without it we would take another engine."""
    (place.docker / "config.json").write_text("{")

    with pytest.raises(RuntimeUnavailableError, match=r"config\.json"):
        place.find()


def test_docker_config_moves_the_contexts(place: Place, tmp_path: Path) -> None:
    """DOCKER_CONFIG names the directory that contexts are below, and nothing is looked for in the current one."""
    (tmp_path / "elsewhere").mkdir()
    elsewhere = Place(tmp_path / "elsewhere")
    elsewhere.context("work", "tcp://elsewhere:1")
    place.environ |= {"DOCKER_CONFIG": str(elsewhere.docker), "DOCKER_CONTEXT": "work"}

    assert "tcp://elsewhere:1" == place.find().url


def test_a_context_brings_its_certificates(place: Place) -> None:
    """A context with TLS material is spoken to with it, and its host is verified unless the context says otherwise."""
    place.context("safe", "tcp://safe:2376", tls=("ca", "cert", "key"))
    place.context("lax", "tcp://lax:2376", skip_verify=True)
    safe, lax = place.find(context="safe").tls, place.find(context="lax").tls

    assert safe is not None
    assert (True, ["ca", "cert", "key"]) == (safe.verify, [Path(p).read_text() for p in (safe.ca, safe.cert, safe.key)])
    assert TlsFiles(verify=False) == lax


def test_docker_host_takes_its_certificates_from_docker_cert_path(place: Place) -> None:
    """DOCKER_TLS_VERIFY asks for TLS with verification, DOCKER_TLS for TLS alone, neither for none."""
    certificates = place.home / "certs"
    certificates.mkdir()
    (certificates / "ca.pem").write_text("ca")
    place.environ |= {"DOCKER_HOST": "tcp://far:2376", "DOCKER_CERT_PATH": str(certificates)}
    found = [place.find().tls]
    place.environ["DOCKER_TLS"] = "1"
    found.append(place.find().tls)
    place.environ["DOCKER_TLS_VERIFY"] = "1"
    found.append(place.find().tls)

    ca = str(certificates / "ca.pem")
    assert [None, TlsFiles(ca=ca, verify=False), TlsFiles(ca=ca)] == found


@pytest.mark.parametrize(
    "path",
    [
        "run/docker.sock",
        "run/podman/podman.sock",
        ".colima/default/docker.sock",
        ".orbstack/run/docker.sock",
        ".rd/docker.sock",
        ".docker/run/docker.sock",
    ],
)
def test_sockets_of_other_engines_are_found(place: Place, path: str) -> None:
    """Rootless engines and the desktops are used without any setting."""
    place.socket(path)
    found = place.find()

    assert (f"unix://{place.home}/{path}", False) == (found.url, found.is_guess)


def test_the_default_socket_comes_before_the_others(place: Place) -> None:
    """Whoever has both gets what the docker CLI would take."""
    place.socket("run/podman/podman.sock")
    place.socket("default.sock")

    assert f"unix://{place.home}/default.sock" == place.find().url


def test_a_socket_that_we_may_not_use_is_passed_over(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user outside the docker group has a rootless engine that works; alone, the forbidden one is reported."""
    place.socket("default.sock")
    monkeypatch.setattr(os, "access", lambda path, _mode: "default.sock" not in str(path))
    alone = place.find().url
    place.socket("run/docker.sock")

    assert (f"unix://{place.home}/default.sock", f"unix://{place.home}/run/docker.sock") == (alone, place.find().url)


def test_without_any_socket_the_default_is_a_guess(place: Place) -> None:
    """Then the error can say that nothing is installed."""
    (place.home / "default.sock").write_text("a file, not a socket")

    assert place.find().is_guess


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("unix:///a/b%20c d.sock", "unix:///a/b%20c d.sock"),
        ("tcp://host:2375", "tcp://host:2375"),
        ("tcp://[::1]:2375", "tcp://[::1]:2375"),
        ("http://host:2375/", "tcp://host:2375"),
        ("host:2375", "tcp://host:2375"),
        ("ssh://me@host:22/run/user/1000/docker.sock", "ssh://me@host:22/run/user/1000/docker.sock"),
    ],
)
def test_addresses_are_those_of_docker_host(place: Place, text: str, expected: str) -> None:
    """Every form that the docker CLI takes is taken."""
    place.environ["DOCKER_HOST"] = text

    assert expected == place.find().url


@pytest.mark.parametrize(
    "text",
    [
        "npipe:////./pipe/docker",
        "unix://relative.sock",
        "tcp://",
        "tcp://host:port",
        "tcp://me@host:1",
        "tcp://host:1/path",
        "tcp://[::1",
        "ssh://-oProxyCommand=evil",
        "ssh://-l@host",
        "ssh://me:secret@host",
        "ssh://host/a;b",
        "ssh://host/a b",
        "ssh://ho st",
    ],
)
def test_an_address_that_is_none_is_refused(place: Place, text: str) -> None:
    """Nothing in an address becomes an option of ssh, a word of a remote shell, or a secret in the process list."""
    place.environ["DOCKER_HOST"] = text

    with pytest.raises(RuntimeUnavailableError, match="DOCKER_HOST") as caught:
        place.find()

    assert "secret" not in caught.value.message


def test_options_are_checked_all_at_once(tmp_path: Path) -> None:
    """Each problem has its path; an unknown key is answered with the nearest known one."""
    raw = {"hots": 1, "host": "ftp://x", "context": 7, "tls": {"ca": str(tmp_path / "no"), "cert": "", "verfy": True}}

    with pytest.raises(ConfigError) as caught:
        parse_options(raw)

    assert [
        "runtimes.docker.hots: unknown key; did you mean host?",
        "runtimes.docker.context: expected text",
        "runtimes.docker.tls.verfy: unknown key; did you mean verify?",
        f"runtimes.docker.tls.ca: there is no file {tmp_path / 'no'}",
        "runtimes.docker.host: 'ftp://x' has to begin with unix://, tcp:// or ssh://",
    ] == list(caught.value.problems)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"host": "tcp://a:1", "context": "b"}, "runtimes.docker.context: give either a host or a context"),
        ({"tls": {}}, "runtimes.docker.tls: needs a runtimes.docker.host"),
        ({"host": "unix:///a", "tls": {}}, "runtimes.docker.tls: only a tcp:// host is spoken to with TLS"),
        ({"host": "tcp://a:1", "tls": 5}, "runtimes.docker.tls: expected an object with ca, cert, key and verify"),
        (
            {"host": "tcp://a:1", "tls": {"ca": "ca.pem"}},
            "runtimes.docker.tls.ca: expected an absolute path, or one that begins with ~",
        ),
        ({"host": "tcp://a:1", "tls": {"verify": 1}}, "runtimes.docker.tls.verify: expected true or false"),
    ],
)
def test_options_that_contradict_each_other_are_refused(raw: dict[str, Any], problem: str) -> None:
    """A setting that would have no effect is a mistake, not a wish."""
    with pytest.raises(ConfigError) as caught:
        parse_options(raw)

    assert [problem] == list(caught.value.problems)


def test_options_are_taken_over(tmp_path: Path) -> None:
    """What is right comes out as it went in."""
    ca = tmp_path / "ca.pem"
    ca.write_text("ca")

    assert Options() == parse_options({})
    assert Options(host="tcp://a:1", tls=TlsFiles(ca=str(ca), verify=False)) == parse_options(
        {"host": "tcp://a:1", "tls": {"ca": str(ca), "verify": False}}
    )
