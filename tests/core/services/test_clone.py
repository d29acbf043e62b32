"""Cloning: from https and ssh only, and nothing that a repository brings is run or asked on the host."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import ssl
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from oubliette_core.errors import InvalidValueError, OperationCancelledError, ServiceError
from oubliette_core.models import Cancel
from oubliette_core.services.clone import check_repository, clone

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not (shutil.which("git") and shutil.which("openssl")), reason="needs git, and openssl for a certificate"
)


def git(*words: str, cwd: Path) -> None:
    """Run git as a person would who publishes a repository."""
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "protocol.file.allow=always"]
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *identity, *words], cwd=cwd, env=env, check=True, capture_output=True)


class Server:
    """An https server that publishes directories, and can be told to stall.

    :ivar seen: what was asked for, with the Authorization header.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.certificate = root / "certificate.pem"
        key = root / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *subject]
        subprocess.run([*make, "-keyout", str(key), "-out", str(self.certificate)], check=True, capture_output=True)
        self.seen: list[tuple[str, str | None]] = []
        self.stalled = threading.Event()
        self.stall = threading.Event()
        self.stall.set()
        handler = functools.partial(_handler(self), directory=str(root))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self._server.server_address[1]}"

    @property
    def environ(self) -> dict[str, str]:
        """An environment in which git trusts it."""
        return {"PATH": os.environ["PATH"], "GIT_SSL_CAINFO": str(self.certificate)}

    def close(self) -> None:
        """Stop it."""
        self.stall.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(server: Server) -> type[http.server.SimpleHTTPRequestHandler]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append((self.path, self.headers.get("Authorization")))
            server.stalled.set()
            server.stall.wait(30)
            with contextlib.suppress(OSError):  # git may have gone
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
            pass

    return Handler


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with one repository, ``demo.git``, of one commit."""
    root = tmp_path / "served"
    work = tmp_path / "work"
    for directory in (root, work):
        directory.mkdir()
    git("init", "-q", "-b", "main", cwd=work)
    (work / "hello.txt").write_text("hello\n")
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "first", cwd=work)
    git("clone", "-q", "--bare", str(work), str(root / "demo.git"), cwd=root)
    git("update-server-info", cwd=root / "demo.git")
    server = Server(root)
    yield server
    server.close()


def test_a_repository_arrives_with_its_history(server: Server, tmp_path: Path) -> None:
    """The workspace is an ordinary working copy, on the repository's own branch."""
    target = tmp_path / "target"
    clone(f"{server.url}/demo.git", target, environ=server.environ)
    log = subprocess.run(
        ["git", "log", "--format=%s %D"], cwd=target, check=True, capture_output=True, text=True
    ).stdout.strip()

    assert "hello\n" == (target / "hello.txt").read_text()
    assert log.startswith("first HEAD -> main")


def test_nothing_of_the_users_configuration_and_no_hook_is_run(server: Server, tmp_path: Path) -> None:
    """A filter, hook or helper that is set up for the user's own work must not see a stranger's files."""
    proof = tmp_path / "proof"
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    hook = hooks / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {proof}\n")
    hook.chmod(0o755)
    (tmp_path / ".gitconfig").write_text(
        f"[init]\n\ttemplateDir = {hooks.parent}\n[core]\n\thooksPath = {hooks}\n"
        f'[url "{server.url}/other"]\n\tinsteadOf = {server.url}/demo\n'
    )
    target = tmp_path / "target"
    environ = {**server.environ, "HOME": str(tmp_path), "GIT_TEMPLATE_DIR": str(hooks.parent), "GIT_DIR": "/nowhere"}
    clone(f"{server.url}/demo.git", target, environ=environ)

    assert (target / "hello.txt").exists()
    assert not proof.exists()
    assert not (target / ".git" / "hooks" / "post-checkout").exists()


def test_submodules_are_left_alone(server: Server, tmp_path: Path) -> None:
    """They name further places to fetch from, also on this machine."""
    work = tmp_path / "work"
    git("submodule", "--quiet", "add", str(server.root / "demo.git"), "sub", cwd=work)
    git("commit", "-q", "-m", "second", cwd=work)
    git("push", "-q", str(server.root / "demo.git"), "main", cwd=work)
    git("update-server-info", cwd=server.root / "demo.git")
    target = tmp_path / "target"
    clone(f"{server.url}/demo.git", target, environ=server.environ)

    assert [] == list((target / "sub").iterdir())


def test_the_github_token_is_for_github_alone_and_never_an_argument(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments can be read by every user of the machine, and another host is another party."""
    started: list[tuple[list[str], dict[str, str]]] = []
    real = subprocess.Popen

    def popen(argv: list[str], **options: object) -> object:
        env = options["env"]
        assert isinstance(env, dict)
        started.append((argv, env))
        return real(argv, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess, "Popen", popen)
    clone(f"{server.url}/demo.git", tmp_path / "target", environ=server.environ, github_token="canary-5e1")
    ((argv, env),) = started

    assert {None} == {header for _, header in server.seen}
    assert "http.https://github.com/.extraHeader" == env["GIT_CONFIG_KEY_0"]
    assert not any("canary" in word for word in argv)
    assert "canary" not in (tmp_path / "target" / ".git" / "config").read_text()


def test_a_repository_that_is_not_there_is_an_error_with_what_git_says(server: Server, tmp_path: Path) -> None:
    """And no question is asked."""
    with pytest.raises(ServiceError) as caught:
        clone(f"{server.url}/none.git", tmp_path / "target", environ=server.environ)

    assert caught.value.message.startswith(f"{server.url}/none.git could not be cloned: ")
    assert "not found" in caught.value.message


@pytest.mark.parametrize("protocol", ["file", "ext", "git", "http"])
def test_git_itself_refuses_other_protocols(tmp_path: Path, protocol: str) -> None:
    """Should one ever get past our own check, or be what a server redirects to."""
    proof = tmp_path / "proof"
    url = f"ext::sh -c touch% {proof}" if protocol == "ext" else f"{protocol}://localhost/x"
    with pytest.raises(ServiceError, match=f"transport '{protocol}' not allowed"):
        clone(url, tmp_path / "target", environ={"PATH": os.environ["PATH"]})

    assert not proof.exists()


def test_cancelling_ends_git_at_once(server: Server, tmp_path: Path) -> None:
    """Ctrl-C works while a server says nothing."""
    server.stall.clear()
    cancel = Cancel()

    def stop() -> None:
        server.stalled.wait(20)
        cancel.cancel()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(OperationCancelledError):
        clone(f"{server.url}/demo.git", tmp_path / "target", environ=server.environ, cancel=cancel)
    thread.join()

    assert not (tmp_path / "target" / "hello.txt").exists()


def test_a_server_that_says_nothing_is_given_up(server: Server, tmp_path: Path) -> None:
    """Every call ends."""
    server.stall.clear()
    with pytest.raises(ServiceError, match="took longer than"):
        clone(f"{server.url}/demo.git", tmp_path / "target", environ=server.environ, timeout=0.5)

    assert server.seen


def test_without_git_there_is_a_hint(tmp_path: Path) -> None:
    """The one program on the host that this needs."""
    with pytest.raises(ServiceError, match="git is not installed") as caught:
        clone("https://example.com/x", tmp_path / "target", environ={"PATH": str(tmp_path)})

    assert "Install git" in caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/group/repository.git",
        "https://example.com:8443/r",
        "ssh://git@example.com/r.git",
        "ssh://example.com:2222/r",
        "git@github.com:owner/repository.git",
        "example.com:r",
        "https://[2001:db8::1]/r",
    ],
)
def test_https_and_ssh_are_taken(url: str) -> None:
    """In the forms that people copy from a web page."""
    assert url == check_repository(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "-uoption",
        "--upload-pack=touch /tmp/x",
        "/etc",
        "./here",
        "../x",
        "file:///etc",
        "http://example.com/r",
        "git://example.com/r",
        "ftp://example.com/r",
        "ext::sh -c id",
        "fd::7",
        "https://",
        "https://example.com",
        "https://example.com/",
        "https://-oProxyCommand=id/r",
        "ssh://-oProxyCommand=id/r",
        "ssh://-oProxyCommand=id@example.com/r",
        "-oProxyCommand=id:r",
        "user@-host:r",
        "example.com:-r",
        "example.com:/etc:x",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://exa\x00mple.com/r",
        "https://example.com:port/r",
        "HTTPS:///r",
        "x" * 3000,
    ],
)
def test_everything_else_is_refused(url: str) -> None:
    """Local files, other protocols, options in disguise."""
    with pytest.raises(InvalidValueError) as caught:
        check_repository(url)

    assert "ssh://" in caught.value.hint


@pytest.mark.parametrize("url", ["https://user:canary-5e1@example.com/r", "https://canary-5e1@example.com/r"])
def test_a_secret_in_the_url_is_refused_and_not_repeated(url: str) -> None:
    """It would stay in the workspace for everything inside to read."""
    with pytest.raises(InvalidValueError, match="user or password") as caught:
        check_repository(url)

    assert "canary" not in f"{caught.value.message}{caught.value.value}{caught.value.hint}"
