"""What a request has to pass before anything is done for it: Host, Origin, a body in time, and a rate."""

from __future__ import annotations

import ipaddress
import logging
import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

import anyio
import attrs
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from oubliette_core.config import ServerConfig
from oubliette_core.errors import ConfigError
from oubliette_core.server.metrics import Metrics

_log = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@\s]+)(?::(?P<port>[0-9]{1,5}))?")
_BODY_SECONDS = 30.0
_REMEMBERED = 10_000
"""Tokens whose rates are remembered: more than anybody has, and few enough to keep."""


def is_loopback(host: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_bind(config: ServerConfig) -> None:
    """See to it that tokens do not cross a network in clear.

    :raises ConfigError: they would, and nobody said that this is meant.
    """
    if is_loopback(config.host) or config.tls_certificate is not None or config.allow_plain_http:
        return
    raise ConfigError(
        f"the server would listen on {config.host} without TLS: access tokens could be read on the network",
        problems=["server.host: anything but loopback needs server.tls_certificate and server.tls_key"],
        hint="Set them; or, behind a proxy that does TLS or in a network of your own, set server.allow_plain_http.",
    )


@attrs.frozen
class Names:
    """Which Host and Origin headers are ours: otherwise a web page could reach a server on its visitor's machine.

    :param hosts: lower-case ``host`` for any port, or ``host:port``. :param origins: likewise, with a scheme; those of
        loopback addresses need none.
    """

    hosts: frozenset[str]
    origins: frozenset[str]

    @classmethod
    def of(cls, config: ServerConfig) -> Names:
        """Take them from the configuration: what it lists, loopback, and the address that is listened on."""
        own = {config.host.lower()} if not _is_wildcard(config.host) else set()
        listed = {host.lower().removesuffix(":*") for host in config.allowed_hosts}
        origins = {origin.lower().rstrip("/").removesuffix(":*") for origin in config.allowed_origins}
        return cls(frozenset({*_LOOPBACK, *own, *listed}), frozenset(origins))

    def knows_host(self, header: str) -> bool:
        """Tell whether a Host header is one of ours."""
        match = _AUTHORITY.fullmatch(header.lower())
        if match is None:
            return False
        host = match["host"].strip("[]")
        return host in self.hosts or f"{match['host']}:{match['port']}" in self.hosts

    def knows_origin(self, header: str) -> bool:
        """Tell whether an Origin header is one of ours."""
        try:
            parts = urlsplit(header.lower())
            host = parts.hostname or ""
            _ = parts.port
        except ValueError:
            return False
        if parts.scheme not in ("http", "https") or parts.path or parts.query or parts.fragment or "@" in parts.netloc:
            return False
        bare = f"[{host}]" if ":" in host else host
        return host in _LOOPBACK or bool(
            {f"{parts.scheme}://{bare}", f"{parts.scheme}://{parts.netloc}"} & self.origins
        )


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Guard:
    """Refuses requests for other hosts, from other origins, and those whose body does not come."""

    def __init__(self, app: ASGIApp, *, names: Names, metrics: Metrics) -> None:
        self._app = app
        self._names = names
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(headers.getlist("host"), headers.getlist("origin"))
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await _in_time(self._app, scope, receive, send)

    def _refusal(self, hosts: list[str], origins: list[str]) -> Response | None:
        # Two of a kind could be read differently by whoever looks next.
        if len(hosts) != 1 or not self._names.knows_host(hosts[0]):
            return self._refuse("host", hosts, 421, "This server does not answer for this host")
        if len(origins) > 1 or not all(map(self._names.knows_origin, origins)):
            return self._refuse("origin", origins, 403, "This origin may not use this server")
        return None

    def _refuse(self, what: str, values: Iterable[str], status: int, text: str) -> Response:
        self._metrics.refused(what)
        _log.warning("refused: unknown %s %s", what, [value[:100] for value in values])
        hint = f"The server's configuration lists what is allowed: server.allowed_{what}s."
        return JSONResponse({"error": text, "hint": hint}, status_code=status)


async def _in_time(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Handle a request whose body has to be here within a limit; what is sent back may take as long as it takes."""
    deadline = anyio.current_time() + _BODY_SECONDS
    complete = started = False

    async def receive_in_time() -> Message:
        nonlocal complete
        if complete:
            return await receive()
        with anyio.fail_after(max(0.0, deadline - anyio.current_time())):
            message = await receive()
        complete = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    async def noting_send(message: Message) -> None:
        nonlocal started
        started = True
        await send(message)

    try:
        await app(scope, receive_in_time, noting_send)
    except TimeoutError:
        if complete or started:
            raise
        await JSONResponse({"error": "The request's body did not come"}, status_code=408)(scope, receive, send)


class RateLimit:
    """Lets each token make so many requests a minute, in bursts of up to that many.

    :param per_minute: None for no limit.
    """

    def __init__(self, app: ASGIApp, *, per_minute: int | None, metrics: Metrics) -> None:
        self._app = app
        self._per_minute = per_minute
        self._metrics = metrics
        self._allowances: dict[str, tuple[float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of a client that is known."""
        wait = self._wait(scope["user"].username, time.monotonic())
        if wait > 0:
            self._metrics.refused("rate")
            response = JSONResponse(
                {"error": f"This token may make {self._per_minute} requests a minute; wait {wait:.1f} s"},
                status_code=429,
                headers={"Retry-After": str(int(wait) + 1)},
            )
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _wait(self, client: str, now: float) -> float:
        """Take one request from a client's allowance; return the seconds until there is one, 0 when there was."""
        if self._per_minute is None:
            return 0.0
        left, then = self._allowances.pop(client, (float(self._per_minute), now))
        left = min(float(self._per_minute), left + (now - then) * self._per_minute / 60)
        if len(self._allowances) >= _REMEMBERED:
            del self._allowances[next(iter(self._allowances))]  # the one that was not seen for longest
        enough = left >= 1.0
        self._allowances[client] = (left - 1.0 if enough else left, now)
        return 0.0 if enough else (1.0 - left) * 60 / self._per_minute
