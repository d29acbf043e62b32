"""Every way to an engine behaves like a plain socket, and tells precisely why it cannot be gone."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

import attrs
import pytest
import trustme

from oubliette_core.errors import RuntimeLostError, RuntimeUnavailableError
from oubliette_docker._connection import Connection
from oubliette_docker._endpoint import Endpoint, TlsFiles
from oubliette_docker._transports import ssh_command
from tests.docker.scripted import ScriptedEngine, reply
from tests.engine import Engine

_BRIDGE = """\
import json, os, socket, sys, threading

with open(os.environ["BRIDGE_RECORD"], "a") as record:
    record.write(json.dumps(sys.argv[1:]) + "\\n")
if "BRIDGE_FAILURE" in os.environ:
    sys.exit(os.environ["BRIDGE_FAILURE"])
engine = socket.socket(socket.AF_UNIX)
engine.connect(os.environ["BRIDGE_TO"])

def send():
    while data := os.read(0, 65536):
        engine.sendall(data)
    engine.shutdown(socket.SHUT_WR)

threading.Thread(target=send, daemon=True).start()
while data := engine.recv(65536):
    os.write(1, data)
"""


def talk(connection: socket.socket, _head: bytes) -> bool:
    """Answer a hijack: first words with the header, an echo, and last words after the end of input."""
    while b"}" not in connection.recv(100):
        pass
    connection.sendall(b"HTTP/1.1 101 UPGRADED\r\n\r\nfirst ")
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.sendall(b" last")
    return False


def answer(connection: socket.socket, _head: bytes) -> bool:
    """Answer with an empty object."""
    connection.sendall(reply(b"{}"))
    return False


def converse(connection: Connection, size: int) -> tuple[bytes, bytes, bytes]:
    """Say ``size`` bytes to `talk` while listening; return how the answer begins, the echo and how it ends."""
    said = os.urandom(size)
    with connection.hijack("POST", "/x") as stream:
        stream.sock.settimeout(20)

        def speak() -> None:
            stream.sock.sendall(said)
            stream.close_write()

        speaker = threading.Thread(target=speak)
        speaker.start()
        heard = bytearray(stream.buffered)
        while data := stream.sock.recv(65536):
            heard += data
        speaker.join()
    assert said == heard[6:-5]
    return bytes(heard[:6]), said, bytes(heard[-5:])


# -- Sockets that do not answer ---------------------------------------------------------------------------------------


def refused(endpoint: Endpoint, timeout: float = 2) -> RuntimeUnavailableError:
    """Return the error with which a call ends there."""
    with Connection(endpoint) as connection, pytest.raises(RuntimeUnavailableError) as caught:
        connection.request("GET", "/info", timeout=timeout)
    return caught.value


def test_a_missing_socket_is_an_engine_that_does_not_run(tmp_path: Path) -> None:
    """The socket was named, so the engine is expected to be installed."""
    error = refused(Endpoint(url=f"unix://{tmp_path}/none.sock", origin="DOCKER_HOST"))

    assert f"the engine is not running: there is no unix://{tmp_path}/none.sock (DOCKER_HOST)" == error.message
    assert "systemctl start docker" in error.hint or "Docker Desktop" in error.hint


def test_nothing_found_and_nothing_installed_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then there is nothing to start; there is something to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(Endpoint(url=f"unix://{tmp_path}/none.sock", origin="the default socket", is_guess=True))

    assert error.message.startswith("neither Docker nor Podman is installed")
    assert "https://docs.docker.com/engine/install/" in error.hint


@pytest.mark.parametrize("kind", ["stale", "file"])
def test_a_socket_that_nobody_serves_is_an_engine_that_does_not_run(tmp_path: Path, kind: str) -> None:
    """A daemon that was killed leaves its socket behind."""
    path = tmp_path / "engine.sock"
    if kind == "file":
        path.write_text("")
    else:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))

    assert "not running" in refused(Endpoint(url=f"unix://{path}")).message


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_no_permission_says_how_to_get_it(tmp_path: Path) -> None:
    """The commonest first failure on Linux. Root may use every socket, so another user tries it."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        child = os.fork()
        if child == 0:
            _tell_as_nobody(Endpoint(url=f"unix://{path}"), tmp_path / "told")
        os.waitpid(child, 0)
    told = (tmp_path / "told").read_text()

    assert f"you are not allowed to use the engine at unix://{path}" in told
    assert "sudo usermod -aG docker $USER" in told


def _tell_as_nobody(endpoint: Endpoint, file: Path) -> None:
    """Write the error down that a user without rights gets, and end this process."""
    try:
        with file.open("w") as out:
            if os.getuid() == 0:
                os.setuid(65534)
            error = refused(endpoint)
            out.write(f"{error.message}|{error.hint}")
    finally:
        os._exit(0)


def test_an_engine_that_accepts_nothing_does_not_respond(tmp_path: Path) -> None:
    """A frozen daemon's queue fills up, and connecting then fails at once instead of waiting."""
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as queued:
        listener.bind(str(path))
        listener.listen(0)
        queued.connect(str(path))
        began = time.monotonic()
        error = refused(Endpoint(url=f"unix://{path}"), timeout=0.3)

    assert ("does not respond" in error.message, True) == (True, time.monotonic() - began < 1)


def test_a_host_without_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing error in DOCKER_HOST is not a network that is down."""

    def no_address(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_address)

    assert "has no known address" in refused(Endpoint(url="tcp://nosuch.invalid:2375")).message


# -- TLS --------------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Pki:
    """A certificate authority, and files of what it gave out."""

    files: TlsFiles
    server: ssl.SSLContext


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates of a host called localhost and of a client that it admits."""
    place = tmp_path_factory.mktemp("pki")
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    client = authority.issue_cert("client")
    authority.cert_pem.write_to_path(place / "ca.pem")
    client.cert_chain_pems[0].write_to_path(place / "cert.pem")
    client.private_key_pem.write_to_path(place / "key.pem")
    files = TlsFiles(ca=str(place / "ca.pem"), cert=str(place / "cert.pem"), key=str(place / "key.pem"))
    return Pki(files=files, server=server)


def test_over_tls_input_can_end_while_output_goes_on(pki: Pki, tmp_path: Path) -> None:
    """What `docker exec -i` needs: both directions at once, and the end of one of them."""
    with (
        ScriptedEngine(tmp_path, talk, tls=pki.server) as engine,
        Connection(attrs.evolve(engine.endpoint, tls=pki.files)) as connection,
    ):
        beginning, _, end = converse(connection, 5_000_000)

    assert (b"first ", b" last") == (beginning, end)


def test_over_tls_an_answer_that_is_cut_is_a_lost_engine(pki: Pki, tmp_path: Path) -> None:
    """An attacker who ends the connection must not make half an answer look whole."""

    def cut(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
        return False

    with (
        ScriptedEngine(tmp_path, cut, tls=pki.server) as engine,
        Connection(attrs.evolve(engine.endpoint, tls=pki.files)) as connection,
        pytest.raises(RuntimeLostError),
    ):
        connection.request("GET", "/x")


def test_over_tls_threads_end_with_their_connections(pki: Pki, tmp_path: Path) -> None:
    """A thread carries each connection, and none is left behind."""
    with ScriptedEngine(tmp_path, answer, tls=pki.server) as engine:
        with Connection(attrs.evolve(engine.endpoint, tls=pki.files)) as connection:
            answers = [connection.request("GET", "/x").status for _ in range(3)]
        deadline = time.monotonic() + 5
        while _tls_threads() and time.monotonic() < deadline:
            _tls_threads()[0].join(0.1)

    assert ([200] * 3, []) == (answers, _tls_threads())


def _tls_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "oubliette-docker-tls"]


@pytest.mark.parametrize("trouble", ["authority", "name", "client"])
def test_a_certificate_that_is_not_right_is_refused(pki: Pki, tmp_path: Path, trouble: str) -> None:
    """An engine that cannot prove who it is is not spoken to, nor one that does not admit us."""
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    files = {
        "authority": attrs.evolve(pki.files, ca=str(other)),
        "name": pki.files,
        "client": attrs.evolve(pki.files, cert="", key=""),
    }[trouble]
    with ScriptedEngine(tmp_path, talk, tls=pki.server) as engine:
        url = engine.endpoint.url.replace("localhost", "127.0.0.1") if trouble == "name" else engine.endpoint.url
        with (
            Connection(Endpoint(url=url, tls=files)) as connection,
            pytest.raises((RuntimeUnavailableError, RuntimeLostError)) as caught,
        ):
            connection.request("GET", "/info", timeout=5)

    if trouble != "client":  # TLS 1.3 tells the client only after its handshake has succeeded
        assert "cannot be trusted" in caught.value.message


def test_verification_can_be_switched_off(pki: Pki, tmp_path: Path) -> None:
    """DOCKER_TLS without DOCKER_TLS_VERIFY encrypts only."""
    lax = attrs.evolve(pki.files, ca="", verify=False)
    with (
        ScriptedEngine(tmp_path, answer, tls=pki.server) as engine,
        Connection(attrs.evolve(engine.endpoint, tls=lax)) as connection,
    ):
        assert 200 == connection.request("GET", "/x").status


# -- ssh --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def bridge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `ssh` on PATH that bridges to the socket in BRIDGE_TO, and records how it was called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "ssh"
    program.write_text(f"#!{sys.executable} -IS\n{_BRIDGE}")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("BRIDGE_RECORD", str(tmp_path / "record"))
    return tmp_path / "record"


def test_over_ssh_the_real_engine_answers(bridge: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call goes through `ssh ... docker system dial-stdio`, and the connection is kept for the next one."""
    monkeypatch.setenv("BRIDGE_TO", engine.docker_host.removeprefix("unix://"))
    with Connection(Endpoint(url="ssh://me@far:2222")) as connection:
        answers = [connection.request("GET", "/info").status for _ in range(3)]
    calls = bridge.read_text().splitlines()

    assert [200] * 3 == answers
    assert 1 == len(calls)
    assert calls[0].endswith('"-l", "me", "-p", "2222", "--", "far", "docker", "system", "dial-stdio"]')


def test_over_ssh_input_can_end_while_output_goes_on(
    bridge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half-closing reaches the engine through the pipes of the ssh process."""
    with ScriptedEngine(tmp_path / "engine.sock", talk) as engine:
        monkeypatch.setenv("BRIDGE_TO", engine.endpoint.path)
        with Connection(Endpoint(url="ssh://far")) as connection:
            beginning, _, end = converse(connection, 1_000_000)

    assert (b"first ", b" last") == (beginning, end)
    assert bridge.exists()


def test_what_ssh_complains_about_is_passed_on(bridge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is refused is not an engine that was lost."""
    monkeypatch.setenv("BRIDGE_FAILURE", "me@far: Permission denied (publickey).")

    assert "me@far: Permission denied (publickey)." in refused(Endpoint(url="ssh://me@far"), timeout=10).message
    assert bridge.exists()


def test_without_ssh_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ssh in the current directory is not run."""
    program = tmp_path / "ssh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f".:{tmp_path}")

    assert "Install an OpenSSH client." == refused(Endpoint(url="ssh://far")).hint


def test_the_socket_on_the_other_machine_can_be_named(bridge: Path) -> None:
    """As the docker CLI has it: ssh://host/path."""
    command = ssh_command("ssh://far/run/user/1000/docker.sock", 5)

    assert ["--", "far", "docker", "--host", "unix:///run/user/1000/docker.sock", "system", "dial-stdio"] == command[
        -7:
    ]
    assert str(bridge.parent / "bin" / "ssh") == command[0]
