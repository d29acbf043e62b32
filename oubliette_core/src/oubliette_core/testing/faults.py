"""What can go wrong with a registry: each class is one way in which `FaultRegistry` answers a request badly.

    Fault                what the client sees
    ├── Status           an error status, with Retry-After on demand
    ├── Hangup           the connection closed without an answer
    ├── Truncated        fewer bytes than announced, then the connection closed
    ├── Corrupt          as many bytes as announced, one of them wrong
    ├── Stalled          some bytes, then none until the test releases them
    ├── Slow             a trickle
    ├── Junk             a success with a body of another kind, such as a portal's log-in page
    └── Redirect         the same path on another host

Every fault counts its hits; `reached` is set at the first one, `disconnected` when a client leaves before it has all.
So tests wait for events and never sleep.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Answer",
    "Corrupt",
    "Fault",
    "Hangup",
    "Junk",
    "Redirect",
    "Slow",
    "Stalled",
    "Status",
    "Target",
    "Truncated",
    "Wire",
    "error_answer",
]

Target = Literal["manifest", "config", "layer"]

_CODES = {
    401: ("UNAUTHORIZED", "authentication required"),
    403: ("DENIED", "requested access to the resource is denied"),
    404: ("MANIFEST_UNKNOWN", "manifest unknown"),
    429: ("TOOMANYREQUESTS", "You have reached your pull rate limit."),
    500: ("UNKNOWN", "internal error"),
    503: ("UNAVAILABLE", "service unavailable"),
}


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A response that is to be sent."""

    status: int = 200
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = dataclasses.field(default=b"", repr=False)


def error_answer(status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """Give an error status with the document that registries explain it with."""
    code, text = _CODES.get(status, ("UNKNOWN", "unknown error"))
    document = {"errors": [{"code": code, "message": message or text, "detail": None}]}
    content = {"Content-Type": "application/json", **(headers or {})}
    return Answer(status=status, headers=content, body=json.dumps(document).encode())


class Wire(Protocol):
    """The client's end of one request, as a fault may treat it."""

    connection: socket.socket
    path: str

    def send_head(self, answer: Answer) -> None:
        """Send status and headers, with the length of the whole body."""

    def send_body(self, data: bytes) -> None:
        """Send some bytes of the body; nothing when the request was HEAD."""

    def hang_up(self) -> None:
        """Close the connection once this request is done."""


class Fault:
    """One way of answering badly. `on` says which requests, `times` how many of them (None: all that come)."""

    def __init__(self, *, on: Target, times: int | None = None) -> None:
        self.on = on
        self.reached = threading.Event()
        self.disconnected = threading.Event()
        self._left = times
        self._hits = 0
        self._lock = threading.Lock()

    @property
    def hits(self) -> int:
        """How many requests met this fault."""
        return self._hits

    def claim(self, kind: str) -> bool:
        """Take one request of `kind`, if it is this fault's turn."""
        with self._lock:
            if kind != self.on or self._left == 0:
                return False
            self._left = None if self._left is None else self._left - 1
            self._hits += 1
        self.reached.set()
        return True

    def apply(self, answer: Answer, wire: Wire) -> None:
        """Send what the client gets instead of `answer`. Raises `ConnectionError` when it leaves meanwhile."""
        raise NotImplementedError

    def release(self) -> None:
        """Let everything go on that waits in this fault."""


class Status(Fault):
    """Answer with an error status and the error document that registries send."""

    def __init__(
        self,
        status: int,
        *,
        on: Target = "manifest",
        times: int | None = None,
        retry_after: int | None = None,
        message: str | None = None,
    ) -> None:
        super().__init__(on=on, times=times)
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        self._answer = error_answer(status, message, headers)

    def apply(self, answer: Answer, wire: Wire) -> None:  # noqa: ARG002 - the good answer is not needed
        """Send the error."""
        wire.send_head(self._answer)
        wire.send_body(self._answer.body)


class Hangup(Fault):
    """Close the connection without a word."""

    def __init__(self, *, on: Target = "manifest", times: int | None = None) -> None:
        super().__init__(on=on, times=times)

    def apply(self, answer: Answer, wire: Wire) -> None:  # noqa: ARG002 - the good answer is not needed
        """Send nothing."""
        wire.hang_up()


class Truncated(Fault):
    """Announce the whole body, send `after` bytes of it (half of it when None) and close the connection."""

    def __init__(self, *, on: Target = "layer", times: int | None = None, after: int | None = None) -> None:
        super().__init__(on=on, times=times)
        self._after = after

    def apply(self, answer: Answer, wire: Wire) -> None:
        """Send the beginning."""
        wire.send_head(answer)
        wire.send_body(answer.body[: len(answer.body) // 2 if self._after is None else self._after])
        wire.hang_up()


class Corrupt(Fault):
    """Send the body with one byte changed, so that its digest is wrong and its length right."""

    def __init__(self, *, on: Target = "layer", times: int | None = None) -> None:
        super().__init__(on=on, times=times)

    def apply(self, answer: Answer, wire: Wire) -> None:
        """Send the damaged body."""
        damaged = bytearray(answer.body)
        if damaged:
            damaged[-1] ^= 0xFF
        wire.send_head(answer)
        wire.send_body(bytes(damaged))


class Stalled(Fault):
    """Send `after` bytes of the body, then nothing until `release` is called; with `after=0` not even the head.

    `stalled` is set when the bytes are out and the silence begins.
    """

    def __init__(self, *, on: Target = "layer", times: int | None = None, after: int = 1) -> None:
        super().__init__(on=on, times=times)
        self.stalled = threading.Event()
        self._after = after
        self._released = threading.Event()

    def apply(self, answer: Answer, wire: Wire) -> None:
        """Send the beginning, wait, and send the rest unless the client has gone."""
        if self._after:
            wire.send_head(answer)
            wire.send_body(answer.body[: self._after])
        self.stalled.set()
        while not self._released.wait(0.05):
            _check_presence(wire.connection)
        if not self._after:
            wire.send_head(answer)
        wire.send_body(answer.body[self._after :])

    def release(self) -> None:
        """Let all waiting requests go on, and later ones pass without waiting."""
        self._released.set()


def _check_presence(client: socket.socket) -> None:
    """Raise `ConnectionError` when the client has closed its end."""
    try:
        left = client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return
    if left:
        raise ConnectionAbortedError("the client closed its end")


class Slow(Fault):
    """Send the body at `rate` bytes a second, in ten pieces a second."""

    def __init__(self, rate: int, *, on: Target = "layer", times: int | None = None) -> None:
        super().__init__(on=on, times=times)
        self._piece = max(1, rate // 10)
        self._released = threading.Event()

    def apply(self, answer: Answer, wire: Wire) -> None:
        """Send the body bit by bit; `release` makes the rest come at once."""
        wire.send_head(answer)
        for start in range(0, len(answer.body), self._piece):
            _check_presence(wire.connection)
            wire.send_body(answer.body[start : start + self._piece])
            self._released.wait(0.1)

    def release(self) -> None:
        """Send what is left at once."""
        self._released.set()


class Junk(Fault):
    """Answer 200 with something else altogether, as a captive portal does."""

    def __init__(
        self,
        body: bytes = b"<!DOCTYPE html><title>Log in</title><p>Please accept the terms of this network.",
        *,
        media_type: str = "text/html; charset=utf-8",
        on: Target = "manifest",
        times: int | None = None,
    ) -> None:
        super().__init__(on=on, times=times)
        self._answer = Answer(headers={"Content-Type": media_type}, body=body)

    def apply(self, answer: Answer, wire: Wire) -> None:  # noqa: ARG002 - the good answer is not needed
        """Send the junk."""
        wire.send_head(self._answer)
        wire.send_body(self._answer.body)


class Redirect(Fault):
    """Send the client to the same path on another host; `to` is its origin, such as `http://127.0.0.1:5001`."""

    def __init__(self, to: str, *, on: Target = "layer", times: int | None = None) -> None:
        super().__init__(on=on, times=times)
        self._to = to

    def apply(self, answer: Answer, wire: Wire) -> None:  # noqa: ARG002 - the good answer is not needed
        """Send the new address."""
        wire.send_head(Answer(status=307, headers={"Location": self._to + wire.path}))
