"""The process that starts a private engine and a registry, and cleans up after them whatever happens.

It is a process of its own so that it outlives the one that asked for the engine, however that one ends: the end of
its standard input is the order to stop. It reads one order a line and answers with one line of JSON. A session of
its own keeps Ctrl-C away from it.
"""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tests.engine import host, private
from tests.engine.order import Order
from tests.engine.packages import Programs

_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class _StopError(BaseException):
    """A signal asked for the end."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopError


def main() -> int:
    """Keep what the order on the command line asks for until standard input ends or a signal comes."""
    order = Order.from_json(sys.argv[1])
    for number in _SIGNALS:
        signal.signal(number, _stop)
    programs = Programs(root=Path(order.root) if order.root else None)
    footprint = host.Footprint(Path(order.state))
    held = host.hold(footprint.state)
    registry = private.PrivateRegistry(programs, footprint.state, order.registry_port)
    engine = private.PrivateEngine(programs, footprint, arguments=order.arguments, data_mb=order.data_mb)
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(os.close, held)
        cleanup.callback(footprint.remove, programs)
        cleanup.callback(registry.stop)
        cleanup.callback(engine.stop)
        cleanup.callback(_ignore_signals)  # the end must not be cut short
        try:
            return _serve(order, engine, registry)
        except _StopError:
            return 0


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _serve(order: Order, engine: private.PrivateEngine, registry: private.PrivateRegistry) -> int:
    try:
        registry.start()
        if order.engine:
            engine.start()
    except (private.StartError, host.NoNetworkError, OSError) as error:
        _answer(error=str(error))
        return 1
    docker_host = engine.docker_host if order.engine else None
    _answer(docker_host=docker_host, registry=registry.address, keeper=os.getpid())
    while order.detached:
        signal.pause()
    orders: dict[str, Callable[[], None]] = {
        "kill": engine.kill,
        "restart": engine.restart,
        "pause": engine.pause,
        "resume": engine.resume,
    }
    for line in sys.stdin:
        _obey(orders[line.strip()])
    return 0


def _obey(action: Callable[[], None]) -> None:
    try:
        action()
    except private.StartError as error:
        _answer(error=str(error))
    else:
        _answer(error=None)


def _answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    sys.exit(main())
