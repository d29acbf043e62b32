"""The emulator as a process that all calls of one emulated command share: a call is a fork of it.

A call runs with the words, the environment, the directory and the streams of its client, and ends when that does:
signals that the client gets come over the connection, and so does its end.
"""

import contextlib
import fcntl
import importlib
import marshal
import os
import selectors
import signal
import socket
import sys
from types import FrameType
from typing import NoReturn

from tests.apple.emulator.main import PLACES, main


def serve(folder: str, listener: socket.socket) -> None:
    """Answer calls until standard input ends, which is when whoever started this process closes it or ends.

    This process has a group of its own; then the calls that go on are ended with it.
    """
    for module in {module for module, _ in PLACES.values()}:
        importlib.import_module(f"tests.apple.emulator.{module}")
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    os.killpg(0, signal.SIGKILL)
                elif key.fileobj is listener:
                    _begin(folder, listener, selector)
                else:
                    selector.unregister(key.fd)
                    _finish(key.fd, *key.data)


def _begin(folder: str, listener: socket.socket, selector: selectors.BaseSelector) -> None:
    client, _ = listener.accept()
    process = os.fork()
    if process == 0:
        os.close(listener.detach())
        _call(folder, client)
    selector.register(os.pidfd_open(process), selectors.EVENT_READ, (process, client))


def _finish(number: int, process: int, client: socket.socket) -> None:
    """Tell the client how its call has ended."""
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    with contextlib.suppress(OSError):
        client.send(bytes([code if code >= 0 else 128 - code]))
    client.close()
    os.close(number)


def _call(folder: str, client: socket.socket) -> NoReturn:
    """Carry out one call in this process, and end it."""
    code = 1
    try:
        argv = _become(client)
        _follow(client)
        code = main(folder, argv)
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:  # noqa: BLE001 - nothing may leave this function: below it is the server's loop
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


def _become(client: socket.socket) -> list[str]:
    """Take the streams, the environment and the directory of the client; return its words."""
    header, streams, _, _ = socket.recv_fds(client, 4, 3)
    if len(streams) != 3:
        os._exit(1)  # the client has been killed
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    call, size = b"", int.from_bytes(header, "big")
    while len(call) < size:
        chunk = client.recv(size - len(call))  # and nothing of the signals that follow
        if not chunk:
            os._exit(1)
        call += chunk
    argv, environment, directory = marshal.loads(call)  # noqa: S302 - from our own client, through a private directory
    os.environb.clear()
    os.environb.update(environment)
    os.chdir(directory)
    return list(argv)


def _follow(client: socket.socket) -> None:
    """Do to this process what is done to the client."""

    def heard(_number: int = 0, _frame: FrameType | None = None) -> None:
        with contextlib.suppress(BlockingIOError):
            signals = client.recv(64, socket.MSG_DONTWAIT)
            if not signals:
                os._exit(1)
            for number in signals:
                os.kill(os.getpid(), number)

    signal.signal(signal.SIGIO, heard)
    fcntl.fcntl(client, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(client, fcntl.F_SETFL, fcntl.fcntl(client, fcntl.F_GETFL) | os.O_ASYNC)
    heard()  # what came before
