"""The connection to an engine: requests, streams and raw streams, over a few sockets that are kept open.

docker-py's own loses the first output of an exec, hides errors in streams, and is not safe between threads.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlencode, urlsplit

from oubliette_core.errors import InvalidValueError, RuntimeLostError, RuntimeUnavailableError
from oubliette_docker._errors import RUNTIME, unreachable
from oubliette_docker._http import Body, ByteStream, Exchange, HijackedStream, Patience, Request, Response
from oubliette_docker._transports import Link, open_link

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from oubliette_core.models import Cancel
    from oubliette_docker._endpoint import Endpoint

    Query = Mapping[str, str | int | bool | Sequence[str]]

__all__ = ["DEADLINE", "ByteStream", "Connection", "HijackedStream", "Response"]

DEADLINE = 30.0
"""Seconds that an engine call may take."""
NEWEST_API = (1, 51)
"""The newest version of the Engine API that this runtime was written for; a newer engine is asked for this one."""
OLDEST_API = (1, 40)
_IDLE_LINKS = 8
_IDLE_SECONDS = 60.0


class Connection:
    """Speaks the Docker Engine API with one engine. Safe between threads; connects when first used.

    A context manager; `close` gives up idle sockets, and any later call connects again.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Link]] = []
        self._process = os.getpid()
        self._greeting: Mapping[str, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every idle socket. Idempotent."""
        with self._lock:
            links, self._idle = self._idle, []
        for _, link in links:
            link.close()

    # -- What answers -------------------------------------------------------------------------------------------------

    def api_version(self, timeout: float = DEADLINE, cancel: Cancel | None = None) -> tuple[int, int]:
        """Return the version of the API that is spoken: the newest that the engine and this runtime both know.

        :raises RuntimeUnavailableError: no engine answers, or none that is new enough.
        """
        offered = self._greet(timeout, cancel).get("api-version", "")
        match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", offered)
        version = (int(match[1]), int(match[2])) if match else (0, 0)
        if version < OLDEST_API:
            raise RuntimeUnavailableError(
                f"what answers at {self.endpoint.url} speaks {f'Docker API {offered}' if offered else 'no Docker API'}",
                runtime=RUNTIME,
                hint=f"Use an engine with API {_dotted(OLDEST_API)} or newer (Docker 19.03, Podman 4).",
            )
        return min(version, NEWEST_API)

    def software(self, timeout: float = DEADLINE) -> tuple[str, str, str]:
        """Return what the engine is: its name, its version, and the system that its containers run on.

        It is in the header of every answer; asking for more takes an engine under load several seconds.
        """
        greeting = self._greet(timeout)
        match = re.match(r"(Docker|Libpod)/(\S+)", greeting.get("server", ""))
        name = "Podman" if self.is_podman() else "Docker Engine"
        return name, match[2] if match else "", greeting.get("ostype", "linux").lower()

    def is_podman(self) -> bool:
        """Tell whether the engine is Podman."""
        return self.podman_version() is not None

    def podman_version(self) -> tuple[int, int] | None:
        """Return the version of Podman, which it tells in every answer; None for any other engine."""
        match = re.match(r"(\d{1,3})\.(\d{1,3})", self._greet().get("libpod-api-version", ""))
        return (int(match[1]), int(match[2])) if match else None

    def _greet(self, timeout: float = DEADLINE, cancel: Cancel | None = None) -> Mapping[str, str]:
        greeting = self._greeting
        if greeting is None:
            greeting = self.request("GET", "/_ping", timeout=timeout, cancel=cancel, versioned=False).headers
            if "api-version" in greeting:  # something else may stand in for an engine that is only starting
                self._greeting = greeting
        return greeting

    # -- Asking -------------------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = DEADLINE,
        idle_timeout: float | None = None,
        cancel: Cancel | None = None,
        versioned: bool = True,
    ) -> Response:
        """Send a request and return the whole answer.

        :param path: without the API's version, such as ``/containers/json``; it is percent-encoded here.
        :param body: bytes, a mapping that is sent as JSON, or chunks of bytes.
        :param timeout: seconds for everything; None for no limit. :param idle_timeout: seconds without any progress.
        :param versioned: put the API's version in front of ``path``.
        :raises EngineError: the answer's status is 400 or higher.
        :raises RuntimeUnavailableError: the engine cannot be reached. :raises RuntimeLostError: it went away.
        :raises OperationTimeoutError: a deadline passed. :raises OperationCancelledError: ``cancel`` came first.
        """
        patience = Patience(f"{method} {path}", timeout, idle_timeout, cancel)
        version = self._spoken(patience, cancel) if versioned else None
        request = self._request(method, path, query, body=body, headers=headers, version=version)
        with self._exchange(request, patience, cancel) as exchange:
            return exchange.whole()

    @contextlib.contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = DEADLINE,
        idle_timeout: float | None = None,
        total: float | None = None,
        cancel: Cancel | None = None,
    ) -> Iterator[ByteStream]:
        """Send a request and give the answer's body in chunks, as they come.

        :param timeout: seconds until the answer's header has come. :param idle_timeout: longest silence after that.
        :param total: seconds for everything.

        Errors are those of `request`, and come out of the iterator too.
        """
        first = min((limit for limit in (timeout, total) if limit is not None), default=None)
        patience = Patience(f"{method} {path}", first, None, cancel)
        version = self._spoken(patience, cancel)
        request = self._request(method, path, query, body=body, headers=headers, version=version)
        with self._exchange(request, patience, cancel) as exchange:
            exchange.refuse_error()
            yield exchange.stream(total, idle_timeout)

    def hijack(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Query | None = None,
        timeout: float | None = DEADLINE,
        cancel: Cancel | None = None,
    ) -> HijackedStream:
        """Send a request that turns the connection into a raw stream, and return that; the caller closes it.

        ``timeout`` and ``cancel`` are for the answer's header only. Errors are those of `request`.
        """
        patience = Patience(f"{method} {path}", timeout, None, cancel)
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        version = self._spoken(patience, None)
        request = self._request(method, path, query, body=body or {}, headers=upgrade, version=version)
        with self._exchange(request, patience, cancel) as exchange:
            exchange.refuse_error()
            return exchange.hijacked()

    def _spoken(self, patience: Patience, cancel: Cancel | None) -> tuple[int, int]:
        return self.api_version(min(DEADLINE, patience.left()), cancel)

    # -- How ----------------------------------------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        query: Query | None,
        *,
        body: Body,
        headers: Mapping[str, str] | None,
        version: tuple[int, int] | None,
    ) -> Request:
        if not path.startswith("/") or ".." in path.split("/"):
            raise InvalidValueError(f"{path!r} is not a path of the Docker API", value=path)
        prefix = f"/v{_dotted(version)}" if version else ""
        target = prefix + quote(path, safe="/:@")
        if query:
            target += "?" + urlencode([(name, text) for name, value in query.items() for text in _texts(value)])
        parts = urlsplit(self.endpoint.url)
        host = parts.netloc if parts.scheme == "tcp" else "docker"
        return Request(method=method, target=target, host=host, headers=headers or {}, body=body)

    @contextlib.contextmanager
    def _exchange(self, request: Request, patience: Patience, cancel: Cancel | None) -> Iterator[Exchange]:
        exchange = self._begin(request, patience, cancel)
        try:
            yield exchange
        finally:
            link = exchange.end()
            if link is not None:
                self._keep(link)

    def _begin(self, request: Request, patience: Patience, cancel: Cancel | None) -> Exchange:
        """Send the request and read the answer's header.

        When a kept socket proves dead, what changes nothing is sent once more on a new one; for anything else nobody
        knows whether it took effect.
        """
        kept = self._take()
        while True:
            exchange = Exchange(kept or self._connect(patience), patience, cancel)
            try:
                exchange.begin(request)
            except RuntimeLostError:
                exchange.end()
                if kept is None or exchange.received or request.method not in ("GET", "HEAD"):
                    raise
                kept = None
            except BaseException:
                exchange.end()
                raise
            else:
                return exchange

    def _connect(self, patience: Patience) -> Link:
        patience.check()
        try:
            return open_link(self.endpoint, patience.left())
        except OSError as error:
            raise unreachable(self.endpoint, error) from error

    def _take(self) -> Link | None:
        """Take a kept socket that is still alive, if there is one."""
        with self._lock:
            if self._process != os.getpid():  # after a fork they are the parent's
                self._process = os.getpid()
                while self._idle:
                    self._idle.pop()[1].sock.close()
            while self._idle:
                since, link = self._idle.pop()
                if time.monotonic() - since < _IDLE_SECONDS and _is_silent(link.sock):
                    return link
                link.close()
        return None

    def _keep(self, link: Link) -> None:
        with self._lock:
            if len(self._idle) < _IDLE_LINKS:
                self._idle.append((time.monotonic(), link))
                return
        link.close()


def _is_silent(sock: socket.socket) -> bool:
    """Tell whether a kept socket is as it should be: open, and with nothing to read."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _texts(value: str | int | bool | Sequence[str]) -> list[str]:
    if isinstance(value, (list, tuple)):
        return list(value)
    return [str(value).lower() if isinstance(value, bool) else str(value)]
