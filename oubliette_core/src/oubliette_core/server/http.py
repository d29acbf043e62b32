"""The server over HTTP: Streamable HTTP of both protocol eras at ``/mcp``, ``/healthz`` and ``/metrics``."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator

import anyio
import uvicorn
from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import BearerAuthBackend, RequireAuthMiddleware
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import ConfigDict
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from oubliette_core.app import App
from oubliette_core.config import ServerConfig
from oubliette_core.errors import AccessDeniedError, BusyError, ConfigError, ConflictError
from oubliette_core.server.callers import Caller
from oubliette_core.server.connections import SESSION_IDLE, PatientProtocol, SessionLimit
from oubliette_core.server.dispatch import Dispatcher
from oubliette_core.server.guard import Guard, Names, RateLimit, refuse_open_bind
from oubliette_core.server.metrics import CONTENT_TYPE, Metrics
from oubliette_core.server.protocol import Context, make_server
from oubliette_core.server.work import Work
from oubliette_core.services.records import Token

_LARGEST_BODY = 4 * 2**20
_SESSIONS = 1000
_CONNECTIONS = 512
"""Open connections at most: beyond it 503. The usual limit of 1024 descriptors has to do for engines and files too."""
_KEEP_ALIVE = 20
"""Seconds after which an idle connection is closed: later than clients do it (Node's after 4, Python's after 5 or 15),
who could otherwise send a request into a connection that is being closed, and not know whether it was carried out."""
_LONGEST_TOKEN = 200


class _Verified(AccessToken):
    """What stands for a token that was checked; its secret is not kept."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    record: Token


class _Verifier:
    """Checks bearer tokens."""

    def __init__(self, app: App, work: Work, metrics: Metrics) -> None:
        self._app = app
        self._work = work
        self._metrics = metrics

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return what a token stands for, or None."""
        try:
            if len(token) > _LONGEST_TOKEN:
                raise AccessDeniedError("too long for a token")
            record = await self._find(token)
        except AccessDeniedError:
            self._metrics.refused("token")
            return None
        return _Verified(token=record.id, client_id=record.id, scopes=list(map(str, record.scopes)), record=record)

    async def _find(self, token: str) -> Token:
        """Read one row: here, where nothing has to be waited for (a thread takes longer than that), or in a thread."""
        try:
            return self._app.tokens.verify(token, wait=False)
        except BusyError:
            return await self._work.check(lambda: self._app.tokens.verify(token))


def _identify(context: Context) -> Caller:
    """Tell who sent a request: every one carries its token, also within a session."""
    user = context.request.scope.get("user") if context.request is not None else None
    verified = getattr(user, "access_token", None)
    if not isinstance(verified, _Verified):
        raise AccessDeniedError("this request carries no access token")
    return Caller(token=verified.record)


def make_app(app: App, dispatcher: Dispatcher, config: ServerConfig, metrics: Metrics) -> Starlette:
    """Make the ASGI application."""
    names = Names.of(config)
    manager = StreamableHTTPSessionManager(
        make_server(dispatcher, _identify),
        # The guard before it is stricter; this stands for the day on which somebody takes it away.
        security_settings=TransportSecuritySettings(
            allowed_hosts=[form for host in _bracketed(names.hosts) for form in (host, f"{host}:*")],
            allowed_origins=[
                *(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in _bracketed(names.hosts)),
                *(f"{scheme}://{host}" for scheme in ("http", "https") for host in _bracketed(names.hosts)),
                *(form for origin in names.origins for form in (origin, f"{origin}:*")),
            ],
        ),
        session_idle_timeout=SESSION_IDLE,
        max_request_body_size=_LARGEST_BODY,
        max_sessions=_SESSIONS,
    )
    sessions = SessionLimit(StreamableHTTPASGIApp(manager), metrics=metrics)
    limited = RateLimit(sessions, per_minute=config.rate_limit, metrics=metrics)

    async def healthz(_request: Request) -> Response:
        stopping = dispatcher.work.stopping
        return JSONResponse({"status": "stopping" if stopping else "ok"}, status_code=503 if stopping else 200)

    async def show_metrics(scope: Scope, receive: Receive, send: Send) -> None:
        allowed = scope["user"].access_token.record.allows(None, write=False)
        response = (
            Response(metrics.text(), media_type=CONTENT_TYPE)
            if allowed
            else JSONResponse({"error": "Metrics need a token with the scope admin or admin:ro"}, status_code=403)
        )
        await response(scope, receive, send)

    return Starlette(
        routes=[
            Route("/mcp", RequireAuthMiddleware(limited, [])),
            Route("/healthz", healthz, methods=["GET"]),
            Route("/metrics", RequireAuthMiddleware(show_metrics, []), methods=["GET"]),
        ],
        middleware=[
            Middleware(Guard, names=names, metrics=metrics),
            Middleware(AuthenticationMiddleware, backend=BearerAuthBackend(_Verifier(app, dispatcher.work, metrics))),
            Middleware(AuthContextMiddleware),
        ],
        lifespan=lambda _app: manager.run(),
    )


def _bracketed(hosts: frozenset[str]) -> Iterator[str]:
    for host in hosts:
        yield f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


class HttpServer:
    """Listens, and stops in good order.

    :param config: says where. Made with the socket bound, so that ``url`` is known before anybody connects.

    :raises ConfigError: it would listen on a network without TLS, or its certificate cannot be used.
    :raises ConflictError: the port is taken.
    """

    def __init__(self, application: Starlette, config: ServerConfig) -> None:
        refuse_open_bind(config)
        self._socket = _bind(config.host, config.port)
        scheme = "https" if config.tls_certificate else "http"
        # Nobody connects to "any address".
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(config.host, config.host)  # noqa: S104 - a comparison
        host = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{host}:{self._socket.getsockname()[1]}/mcp"
        self._server = _Uvicorn(
            uvicorn.Config(
                application,
                http=PatientProtocol,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_CONNECTIONS,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=2,
                ssl_certfile=config.tls_certificate,
                ssl_keyfile=config.tls_key,
            )
        )
        try:
            self._server.config.load()
        except OSError as error:  # what is wrong with a certificate is one, too
            self._socket.close()
            raise ConfigError(
                f"the server's certificate cannot be used: {error.strerror or error}",
                problems=[f"server.tls_certificate: {config.tls_certificate}", f"server.tls_key: {config.tls_key}"],
                hint="They have to be a certificate chain and its private key, in PEM, and readable.",
            ) from error

    async def serve(
        self, started: Callable[[], None], stop: anyio.Event, drain: Callable[[], Awaitable[object]]
    ) -> None:
        """Serve until ``stop`` is set.

        :param started: called when requests are answered. :param drain: an async function that lets the calls end; the
            connections are there until it is done, so that clients get their answers.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve)
            await self._server.ready.wait()
            started()
            await stop.wait()
            await drain()
            self._server.should_exit = True

    async def _serve(self) -> None:
        await self._server.serve(sockets=[self._socket])


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us, and says when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start."""
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, kind, number)
    except OSError as error:
        raise ConflictError(f"cannot listen on {host}: {error.strerror}", subject=host) from error
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise ConflictError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            subject=f"{host}:{port}",
            hint="Choose another port: server.port in the configuration, or oubliette serve --port.",
        ) from error
    return bound
