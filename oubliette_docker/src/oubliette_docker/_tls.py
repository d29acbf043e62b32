"""TLS as a plain socket.

A thread carries bytes between one end of a socket pair and the encrypted connection. That gives TLS what an exec over
it needs and `ssl.SSLSocket` lacks: reading and writing from two threads at once, and closing one direction only (the
close_notify alert that tells the engine that standard input has ended, while output goes on).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_docker._endpoint import TlsFiles

__all__ = ["secure"]

_CHUNK = 64 * 1024
_ENOUGH = 1024 * 1024
"""Bytes waiting in one direction beyond which no more are taken in."""


def secure(sock: socket.socket, host: str, files: TlsFiles, timeout: float) -> tuple[socket.socket, Callable[[], None]]:
    """Shake hands over ``sock``; return a plain socket for what is said inside, and a function that ends it all.

    :raises OSError: the handshake failed (`ssl.SSLError`) or a file cannot be read.
    """
    try:
        session = _Session(sock, host, _context(files))
        session.shake_hands(time.monotonic() + timeout)
    except BaseException:
        sock.close()
        raise
    outer, inner = socket.socketpair()
    pump = _Pump(session, inner)
    threading.Thread(target=pump.run, name="oubliette-docker-tls", daemon=True).start()
    return outer, pump.stop


def _context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=files.ca)
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if files.cert:
        context.load_cert_chain(files.cert, files.key)
    return context


class _Session:
    """A TLS client over a TCP socket, one direction at a time."""

    def __init__(self, sock: socket.socket, host: str, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_hostname=host)
        self.to_send = bytearray()
        self.finished = False

    def shake_hands(self, deadline: float) -> None:
        """Do the handshake, blocking."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._leaving.read())
                self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
                self._feed(self.sock.recv(_CHUNK))
            else:
                self.sock.sendall(self._leaving.read())
                return

    def _feed(self, data: bytes) -> None:
        if data:
            self._arrived.write(data)
        else:
            self._arrived.write_eof()

    def receive(self) -> bytes:
        """Take in what the network has; return what it says in the clear. Sets ``finished`` at its end."""
        try:
            self._feed(self.sock.recv(_CHUNK))
        except OSError:
            self._feed(b"")
        clear = bytearray()
        try:
            while data := self._tls.read(_CHUNK):
                clear += data
            self.finished = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:  # ended without a close_notify, or a damaged record: nothing more can be trusted
            self.finished = True
        self.to_send += self._leaving.read()
        return bytes(clear)

    def say(self, data: bytes) -> None:
        """Encrypt ``data`` for sending; with no data, say that nothing more will come."""
        if data:
            self._tls.write(data)
        else:
            with contextlib.suppress(ssl.SSLError):  # it wants the other side's close_notify, which may come later
                self._tls.unwrap()
        self.to_send += self._leaving.read()


class _Pump:
    """Carries bytes between a `_Session` and a plain socket until both directions have ended."""

    def __init__(self, session: _Session, inner: socket.socket) -> None:
        self._session, self._inner = session, inner
        self._to_deliver = bytearray()
        self._said_all = False
        self._delivered_all = False

    def stop(self) -> None:
        """End the connection; the thread sees it and closes what it holds."""
        with contextlib.suppress(OSError):
            self._session.sock.shutdown(socket.SHUT_RDWR)

    def run(self) -> None:
        """Carry until the end. Whatever fails, both sockets are closed, which the reader sees as a lost engine."""
        session, inner = self._session, self._inner
        with session.sock, inner, contextlib.suppress(OSError):
            session.sock.setblocking(False)
            inner.setblocking(False)
            while not self._delivered_all:
                self._carry(*self._wait())

    def _wait(self) -> tuple[set[int], set[int]]:
        session, inner = self._session, self._inner
        wanted = {session.sock.fileno(): 0, inner.fileno(): 0}
        if not session.finished and len(self._to_deliver) < _ENOUGH:
            wanted[session.sock.fileno()] |= select.POLLIN
        if session.to_send:
            wanted[session.sock.fileno()] |= select.POLLOUT
        if not self._said_all and len(session.to_send) < _ENOUGH:
            wanted[inner.fileno()] |= select.POLLIN
        if self._to_deliver:
            wanted[inner.fileno()] |= select.POLLOUT
        poll = select.poll()
        for descriptor, events in wanted.items():
            if events:
                poll.register(descriptor, events)
        readable, writable = set(), set()
        for descriptor, events in poll.poll():
            failed = events & (select.POLLHUP | select.POLLERR)
            if events & select.POLLIN or (failed and wanted[descriptor] & select.POLLIN):
                readable.add(descriptor)
            if events & select.POLLOUT or (failed and wanted[descriptor] & select.POLLOUT):
                writable.add(descriptor)
        return readable, writable

    def _carry(self, readable: set[int], writable: set[int]) -> None:
        session, inner = self._session, self._inner
        if session.sock.fileno() in readable:
            self._to_deliver += session.receive()
        if inner.fileno() in readable:
            data = inner.recv(_CHUNK)
            session.say(data)
            self._said_all = not data
        if session.sock.fileno() in writable:
            del session.to_send[: session.sock.send(session.to_send)]
        if inner.fileno() in writable:
            del self._to_deliver[: inner.send(self._to_deliver)]
        if session.finished and not self._to_deliver:
            inner.shutdown(socket.SHUT_WR)
            self._delivered_all = True
