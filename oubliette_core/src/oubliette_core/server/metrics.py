"""What the server counts, in the format of Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE

__all__ = ["CONTENT_TYPE", "Metrics"]

_SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0)


class Metrics:
    """The metrics of one server. Labels are names of tools and of outcomes: nothing of projects or clients."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._calls = Counter("oubliette_calls", "Calls of tools.", ["tool", "outcome"], registry=self._registry)
        self._seconds = Histogram(
            "oubliette_call_seconds", "Duration of calls.", ["tool"], buckets=_SECONDS, registry=self._registry
        )
        self._in_flight = Gauge("oubliette_calls_in_flight", "Calls at work.", ["kind"], registry=self._registry)
        self._refused = Counter("oubliette_refused", "Requests that were refused.", ["reason"], registry=self._registry)
        self._execs = Gauge("oubliette_background_commands", "Commands in the background.", registry=self._registry)
        self._sessions = Gauge("oubliette_agent_sessions", "Agent sessions.", registry=self._registry)

    def count_sessions(self, live: Callable[[], int]) -> None:
        """Have the agent sessions of this server counted whenever metrics are asked for."""
        self._sessions.set_function(lambda: float(live()))

    def count_execs(self, running: Callable[[], int]) -> None:
        """Have the commands in the background counted whenever metrics are asked for."""
        self._execs.set_function(lambda: float(running()))

    @contextlib.contextmanager
    def in_flight(self, *, long: bool) -> Iterator[None]:
        """Count a call for as long as it is at work."""
        with self._in_flight.labels("long" if long else "quick").track_inprogress():
            yield

    def called(self, tool: str, outcome: str, seconds: float) -> None:
        """Count a call that is over."""
        self._calls.labels(tool, outcome).inc()
        self._seconds.labels(tool).observe(seconds)

    def refused(self, reason: str) -> None:
        """Count a request that was refused before it was a call."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """Return all as text."""
        return generate_latest(self._registry)
