"""Opening a byte stream to the engine: over a unix socket, TCP, TLS or ssh.

Whatever the way, what comes out is a `Link` with a plain connected socket, so that everything above reads, half-closes
and wakes up in one manner: TLS and ssh stand behind one end of a socket pair.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from oubliette_core.errors import RuntimeUnavailableError
from oubliette_core.logins import trusted_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_docker._endpoint import Endpoint

__all__ = ["Link", "open_link"]

CONNECT_TIMEOUT = 10.0
"""Longest wait for a connection in seconds, below the deadline of the call."""
_REMOTE_PATH = re.compile(r"/[A-Za-z0-9_./-]+")


class Link:
    """A connected socket, and what has to end with it.

    :param release: ends what stands behind the socket (a process, a thread).
    :param explain: tells why a link that never answered is dead, where the way itself can tell.
    """

    def __init__(
        self,
        sock: socket.socket,
        release: Callable[[], None] | None = None,
        explain: Callable[[], str] | None = None,
    ) -> None:
        self.sock = sock
        self.explain = explain
        self._release = release

    def abort(self) -> None:
        """End every read and write on the socket, in whatever thread; never blocks and never raises."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket and end what stands behind it. Idempotent."""
        self.sock.close()
        release, self._release = self._release, None
        if release is not None:
            release()


def open_link(endpoint: Endpoint, timeout: float) -> Link:
    """Connect to the engine.

    :param timeout: seconds for the connection.
    :raises OSError: the connection could not be made. :raises RuntimeUnavailableError: ssh is not installed.
    """
    seconds = max(min(timeout, CONNECT_TIMEOUT), 0.001)
    scheme = urlsplit(endpoint.url).scheme
    if scheme == "unix":
        return Link(_connect_unix(endpoint.path, seconds))
    if scheme == "ssh":
        return _connect_ssh(endpoint.url, seconds)
    sock = socket.create_connection(endpoint.address, seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if endpoint.tls is None:
        return Link(sock)
    from oubliette_docker._tls import secure  # noqa: PLC0415 - only needed for a remote engine

    inner, release = secure(sock, endpoint.address[0], endpoint.tls, seconds)
    return Link(inner, release)


def _connect_unix(path: str, timeout: float) -> socket.socket:
    deadline = time.monotonic() + timeout
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # the daemon accepts nothing and its queue is full
                if time.monotonic() >= deadline:
                    raise TimeoutError(errno.ETIMEDOUT, "the engine accepts no connection") from None
                time.sleep(0.05)
            else:
                return sock
    except BaseException:
        sock.close()
        raise


def _connect_ssh(url: str, timeout: float) -> Link:
    """Start ``ssh ... docker system dial-stdio`` with one end of a socket pair as its standard input and output."""
    ours, theirs = socket.socketpair()
    try:
        process = subprocess.Popen(
            ssh_command(url, timeout),
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Link(ours, lambda: _end(process), lambda: _last_words(process))


def ssh_command(url: str, timeout: float) -> list[str]:
    """Return the argv that bridges to the engine behind an ``ssh://[user@]host[:port][/socket]`` address."""
    program = shutil.which("ssh", path=trusted_path(os.environ))
    if program is None:
        raise RuntimeUnavailableError(
            f"the engine is at {url}, and ssh is not installed", runtime="docker", hint="Install an OpenSSH client."
        )
    parts = urlsplit(url)
    command = [program, "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={max(1, int(timeout))}"]
    if parts.username:
        command += ["-l", parts.username]
    if parts.port:
        command += ["-p", str(parts.port)]
    command += ["--", parts.hostname or "", "docker"]
    if _REMOTE_PATH.fullmatch(parts.path):
        command += ["--host", f"unix://{parts.path}"]
    return [*command, "system", "dial-stdio"]


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _last_words(process: subprocess.Popen[bytes]) -> str:
    """Return the last line of what ssh complained about, once it has ended."""
    try:
        process.wait(1)
    except subprocess.TimeoutExpired:
        return ""
    if process.stderr is None or process.stderr.closed:
        return ""
    os.set_blocking(process.stderr.fileno(), False)
    lines = (process.stderr.read() or b"").decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else f"ssh ended with exit code {process.returncode}"
