"""Joining the terminal, or whatever our standard streams are, to a command in a container."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator

import attrs

from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.errors import OublietteError
from oubliette_core.models import ByteSink, ByteSource, Cancel, Process

_CHUNK = 65536
_DRAIN = 2.0
"""Seconds to go on reading after the command's end, when a child that it left behind holds the pipe."""


@attrs.frozen(kw_only=True)
class Streams:
    """File descriptors on our side. :param stdin: None where the command gets no input."""

    stdin: int | None = 0
    stdout: int = 1
    stderr: int = 2


@attrs.frozen(kw_only=True)
class Ending:
    """How an attached command ended.

    :param exit_code: of the command. :param timed_out: the deadline came first, and it was killed.
    :param killed: it was confirmed that nothing of it is left. :param unheard: nobody reads our output any more, and
        the command was killed for that.
    """

    exit_code: int
    timed_out: bool = False
    killed: bool = False
    unheard: bool = False


def attach(process: Process, streams: Streams, cancel: Cancel, *, timeout: float | None = None) -> Ending:
    """Pass bytes in both directions, unchanged and as they come, until the command has ended.

    :param timeout: seconds until the command is killed. :raises RuntimeLostError: the engine went away.
    """

    def kill() -> None:
        with contextlib.suppress(OublietteError):  # the end of the wait tells what became of it
            process.kill()

    pumps = [_Pump(process.stdout, streams.stdout, kill), _Pump(process.stderr, streams.stderr, kill)]
    forget = cancel.on_cancel(kill)
    timed_out = killed = False
    try:
        with _feeding(process.stdin, streams.stdin):
            code = process.wait(timeout)
            if code is None:
                timed_out, killed = True, process.kill()
    finally:
        forget()
    ended = time.monotonic()
    for pump in pumps:
        pump.drain(ended)
    return Ending(
        exit_code=0 if code is None else code,
        timed_out=timed_out,
        killed=killed,
        unheard=any(pump.unheard for pump in pumps),
    )


class _Pump:
    """Copies what the command prints to one of our descriptors.

    :param end: called when nobody reads there any more.
    """

    def __init__(self, source: ByteSource, descriptor: int, end: Callable[[], None]) -> None:
        self._source, self._descriptor, self._end = source, descriptor, end
        self._reading_since: float | None = time.monotonic()
        self._error: OublietteError | None = None
        self._abandoned = False
        self.unheard = False
        self._thread = threading.Thread(target=self._run, name=f"oubliette-output-{descriptor}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while data := self._read():
                if not _write_all(self._descriptor, data):
                    self.unheard = True
                    self._end()
                    return
        except OublietteError as error:
            self._error = error
        except (OSError, ValueError):  # the connection was closed under a read that nobody waits for any more
            if not self._abandoned:
                raise

    def _read(self) -> bytes | None:
        self._reading_since = time.monotonic()
        data = self._source.read(_CHUNK)
        self._reading_since = None
        return data

    def drain(self, ended: float) -> None:
        """Return once all output has been passed on, or none has come for a while since the command ended.

        :raises RuntimeLostError: the engine went away before all had come.
        """
        while self._thread.is_alive():
            since = self._reading_since
            waited = 0.0 if since is None else time.monotonic() - max(since, ended)
            if waited >= _DRAIN:
                self._abandoned = True
                return
            self._thread.join(0.05 if since is None else _DRAIN - waited)
        if self._error is not None:
            raise self._error


def _write_all(descriptor: int, data: bytes) -> bool:
    """Write all of ``data``; False if nobody reads it any more."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # somebody who shares our terminal made it so
            select.select([], [descriptor], [])
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _feeding(sink: ByteSink, descriptor: int | None) -> Iterator[None]:
    """Pass our input to the command for as long as it runs; take none of what is meant for whoever comes next."""
    if descriptor is None:
        with contextlib.suppress(OSError, OublietteError):
            sink.close()
        yield
        return
    ended, end = os.pipe()
    feeder = threading.Thread(target=_feed, args=(sink, descriptor, ended), name="oubliette-input", daemon=True)
    feeder.start()
    try:
        yield
    finally:
        os.close(end)


def _feed(sink: ByteSink, descriptor: int, ended: int) -> None:
    # A command that does not read its input, or has gone, is its own affair.
    with contextlib.suppress(OSError, OublietteError), contextlib.closing(sink), open(ended, "rb", buffering=0):
        while True:
            readable, _, _ = select.select([descriptor, ended], [], [])
            if ended in readable:
                return
            rest = os.read(descriptor, _CHUNK)
            if not rest:
                return
            while rest:
                written = sink.write(rest)
                rest = rest[len(rest) if written is None else written :]


@contextlib.contextmanager
def raw_terminal(process: Process, descriptor: int, interrupts: Interrupts) -> Iterator[None]:
    """Hand every key to the command, and tell it the size of our terminal whenever that changes."""
    saved = termios.tcgetattr(descriptor)
    changed = threading.Event()
    changed.set()
    ended = threading.Event()
    before = signal.signal(signal.SIGWINCH, lambda *_: changed.set())

    def follow() -> None:
        while changed.wait() and not ended.is_set():
            changed.clear()
            with contextlib.suppress(OSError, OublietteError):  # the command may have ended just now, or our terminal
                size = os.get_terminal_size(descriptor)
                process.resize(size.lines, size.columns)

    threading.Thread(target=follow, name="oubliette-resize", daemon=True).start()
    with interrupts.restoring(lambda: termios.tcsetattr(descriptor, termios.TCSADRAIN, saved)):
        try:
            tty.setraw(descriptor, termios.TCSADRAIN)  # what was typed ahead is for the command
            yield
        finally:
            signal.signal(signal.SIGWINCH, before)
            ended.set()
            changed.set()
