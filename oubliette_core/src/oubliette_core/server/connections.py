"""What one client can hold on to: connections on which nothing comes, and sessions that nobody ends."""

from __future__ import annotations

import asyncio
import time

import attrs
from mcp_types import DEFAULT_NEGOTIATED_VERSION
from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from oubliette_core.server.metrics import Metrics

SESSION_IDLE = 1800.0
"""Seconds without a request after which a session is over."""
_HEADER_SECONDS = 20.0
_SESSIONS_EACH = 100
_SESSION, _VERSION = "mcp-session-id", "mcp-protocol-version"


class PatientProtocol(H11Protocol):
    """HTTP/1.1 with a limit on the time until a request's header is complete; uvicorn waits for ever.

    Whoever opens connections and says nothing, or a byte now and then, would take them all.
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        """Begin to wait."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait for the rest if it was no whole header."""
        super().data_received(data)
        if self._is_at_work():
            self._wait_no_more()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _is_at_work(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(_HEADER_SECONDS, self._give_up)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._waiting = None
        if not self._is_at_work():
            self.transport.close()


@attrs.define(kw_only=True, eq=False)
class _Session:
    in_flight: int = 0
    last_used: float = attrs.field(factory=time.monotonic)


class SessionLimit:
    """Lets each token have so many sessions at a time: one could otherwise take all that the server has.

    Only the older era of the protocol has sessions. They end by a DELETE, or when they were idle for long.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._sessions: dict[str, dict[str, _Session]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request of a client that is known."""
        client, headers = scope["user"].username, Headers(scope=scope)
        given, mine = headers.get(_SESSION), self._open(client)
        opens = given is None and headers.get(_VERSION, DEFAULT_NEGOTIATED_VERSION) in HANDSHAKE_PROTOCOL_VERSIONS
        if opens and len(mine) >= _SESSIONS_EACH:
            self._metrics.refused("sessions")
            text = f"This token has {len(mine)} sessions already; end some, or wait until they are idle for long"
            await JSONResponse({"error": text}, status_code=429)(scope, receive, send)
            return
        session = mine.get(given or "", _Session())
        session.in_flight += 1

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400:
                made = Headers(raw=message["headers"]).get(_SESSION)
                if given is None and made is not None:
                    self._sessions.setdefault(client, {})[made] = session
                elif given is not None and scope["method"] == "DELETE":
                    mine.pop(given, None)
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            session.in_flight -= 1
            session.last_used = time.monotonic()

    def _open(self, client: str) -> dict[str, _Session]:
        """Return the sessions of a client, without those that are over."""
        mine = self._sessions.get(client, {})
        oldest = time.monotonic() - SESSION_IDLE
        for name in [name for name, one in mine.items() if not one.in_flight and one.last_used < oldest]:
            del mine[name]
        if not mine:
            self._sessions.pop(client, None)
        return mine
