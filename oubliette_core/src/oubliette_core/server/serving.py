"""Running the server: put together, listen, stop in good order."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TextIO

import anyio
import anyio.to_thread
import attrs
from anyio.abc import TaskGroup
from mcp.server.stdio import stdio_server

from oubliette_core._version import __version__
from oubliette_core.agents import AgentHost
from oubliette_core.app import App
from oubliette_core.config import ServerConfig
from oubliette_core.server.audit import Audit
from oubliette_core.server.background import BackgroundExecs
from oubliette_core.server.callers import Caller
from oubliette_core.server.dispatch import Dispatcher
from oubliette_core.server.http import HttpServer, make_app
from oubliette_core.server.logs import logging_to
from oubliette_core.server.metrics import Metrics
from oubliette_core.server.protocol import make_server
from oubliette_core.server.standard_io import taken_over
from oubliette_core.server.tools import TOOLS
from oubliette_core.server.work import Work, end_all
from oubliette_core.services.owners import Owner

_log = logging.getLogger(__name__)
_PATIENCE = 1.0
_GRACE = 6.0
_LAST_WORDS = 0.1
_LONGEST_STOP = 9.5
"""Patience before calls are cancelled, grace for their end, 2 s for connections: and then it is over."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@attrs.frozen(kw_only=True)
class Parts:
    """What a server is made of."""

    app: App
    dispatcher: Dispatcher
    metrics: Metrics

    @classmethod
    def of(cls, app: App) -> Parts:
        """Make the parts of a server for a home."""
        metrics = Metrics()

        def owner() -> Owner:
            agents.listen()  # other processes may ask for the end of what is theirs
            return Owner(app.home.locks_dir)

        execs = BackgroundExecs(app.sessions, owner)
        agents = AgentHost(app, commands=execs)
        metrics.count_execs(lambda: execs.running)
        metrics.count_sessions(lambda: len(agents.live))
        dispatcher = Dispatcher(app, TOOLS, work=Work(), execs=execs, agents=agents, metrics=metrics, audit=Audit())
        return cls(app=app, dispatcher=dispatcher, metrics=metrics)

    async def drain(self) -> None:
        """Let calls end, cancel those that do not, end the agents, and kill the commands in the background."""
        work, execs = self.dispatcher.work, self.dispatcher.execs
        work.stopping = True
        execs.refuse()
        self.dispatcher.agents.refuse()
        await work.idle(_PATIENCE)
        endings = (*work.endings(), *execs.endings())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, self.dispatcher.agents.close)
            left = await anyio.to_thread.run_sync(lambda: end_all(endings, seconds=_GRACE))
        if left:
            _log.error("%d calls and commands did not end", left)
        await anyio.to_thread.run_sync(lambda: execs.close(patience=0.0))


def serve_http(app: App, config: ServerConfig, *, started: Callable[[str], None], stderr: TextIO | None) -> None:
    """Serve over HTTP until a signal asks to stop.

    :param started: called with the URL once requests are answered. :param stderr: where warnings go besides the log.
    :raises ConfigError: it would listen on a network without TLS. :raises ConflictError: the port is taken.
    """

    async def run() -> None:
        parts = Parts.of(app)
        parts.dispatcher.agents.clear_away()
        server = HttpServer(make_app(app, parts.dispatcher, config, parts.metrics), config)

        def tell() -> None:
            _log.info("serving at %s, version %s", server.url, __version__)
            started(server.url)

        stop = anyio.Event()
        async with _on_signal(stop.set):
            await server.serve(tell, stop, parts.drain)
        _log.info("stopped")

    with logging_to(app.home, app.loaded.config, stderr=stderr):
        anyio.run(run)


def serve_stdio(app: App, *, stderr: TextIO | None) -> None:
    """Serve one client over standard input and output, until it closes its end or a signal asks to stop."""

    async def run() -> None:
        parts = Parts.of(app)
        parts.dispatcher.agents.clear_away()
        caller = Caller.local_user()
        server = make_server(parts.dispatcher, lambda _context: caller)
        _log.info("serving over standard input and output, version %s", __version__)

        async def stop() -> None:
            await parts.drain()
            await anyio.sleep(_LAST_WORDS)
            _log.info("stopped")
            app.close()
            # Calls that did not end are in threads still, and would keep the process.
            os._exit(0)

        async with anyio.create_task_group() as tasks, _on_signal(lambda: _start(tasks, stop)):
            async with stdio_server(*streams) as (reader, writer):
                await server.run(reader, writer, server.create_initialization_options())
            await parts.drain()
        _log.info("stopped")

    with logging_to(app.home, app.loaded.config, stderr=stderr), taken_over() as streams:
        anyio.run(run)


def _start(tasks: TaskGroup, function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    tasks.start_soon(function)


@contextlib.asynccontextmanager
async def _on_signal(act: Callable[[], None]) -> AsyncIterator[None]:
    """Act on the first signal that asks to stop; from there on, the process ends in time whatever happens."""
    watchdog = threading.Timer(_LONGEST_STOP, _give_up)
    watchdog.daemon = True

    async def watch() -> None:
        with anyio.open_signal_receiver(*_SIGNALS) as signals:
            async for number in signals:
                _log.info("asked to stop by %s", signal.Signals(number).name)
                if watchdog.ident is None:
                    watchdog.start()
                    act()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        yield
        tasks.cancel_scope.cancel()
    watchdog.cancel()


def _give_up() -> None:
    _log.error("did not stop within %g s", _LONGEST_STOP)
    os._exit(1)
