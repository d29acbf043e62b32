"""Having a supervisor at hand: an interpreter that has imported what it needs, and waits to be told what for."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette_core.errors import OperationTimeoutError
from oubliette_embedded._control import in_memory
from oubliette_embedded._options import RUNTIME
from oubliette_embedded.supervisor.rights import send

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_embedded.supervisor.plan import Files, Plan

__all__ = ["Summoned", "Summoner"]

_DEADLINE = 30.0
_MOMENT = 0.002
_LONGEST = 65536
_PROGRAM = """
import os, sys
if os.fork():
    os._exit(0)  # whoever starts this need not wait for the container's end
package = type(sys)("oubliette_embedded")
package.__path__ = [sys.argv[1]]
sys.modules["oubliette_embedded"] = package
from oubliette_embedded.supervisor.main import main
main()
"""
# Not `-m`: that imports this package, and with it half of the standard library, which would cost each start more than
# all the rest of it.


class Summoned:
    """A supervisor that waits to be told what for. Closed, it gives up if it was not."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(Path(__file__).parent)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={},
            )
        # It forks and ends at once; nobody has to wait for that.
        threading.Thread(target=process.wait, daemon=True).start()

    def tell(self, plan: Plan, files: Files) -> None:
        """Tell it what to run. :raises OSError: it is not there any more."""
        body = in_memory("plan", plan.write())
        try:
            send(self._socket, b"plan", body, *files.all())
        finally:
            os.close(body)

    def report(self, container: str) -> str:
        """Wait for what it says of the start; nothing when it ended without a word."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        if not waiting.poll(_DEADLINE * 1000):
            raise OperationTimeoutError(
                f"container {container} did not start in time",
                operation="start",
                timeout=_DEADLINE,
                runtime=RUNTIME,
                subject=container,
            )
        return self._socket.recv(_LONGEST).decode(errors="replace")

    @property
    def is_there(self) -> bool:
        """Whether it has not ended meanwhile, in whatever way."""
        waiting = select.poll()
        waiting.register(self._socket, select.POLLIN)
        return not waiting.poll(0)

    def close(self) -> None:
        """Let go of it. Idempotent."""
        self._socket.close()


class Summoner:
    """Starts supervisors. A process that has started a few containers gets the next ones prepared. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spare: Summoned | None = None
        self._owner = 0
        self._count = 0

    def summon(self) -> Summoned:
        """Return a supervisor for a container: the one that is at hand, or a new one."""
        with self._lock:
            spare, self._spare = self._spare, None
            self._count += 1
        if spare is not None and self._owner == os.getpid() and spare.is_there:
            return spare
        return Summoned()

    @contextlib.contextmanager
    def preparing(self) -> Iterator[None]:
        """After this block have one at hand for the next start, if this is a process that goes on starting containers.

        What is to be done for that begins a moment later: whoever waits for the container should go on first.
        """
        with self._lock:
            wanted = self._spare is None and self._count > 1
        over = threading.Event()
        if wanted:
            threading.Thread(target=self._prepare, args=[over], daemon=True).start()
        try:
            yield
        finally:
            over.set()

    def _prepare(self, over: threading.Event) -> None:
        over.wait()
        time.sleep(_MOMENT)
        with contextlib.suppress(OSError):  # the next start can do without
            spare = Summoned()
            with self._lock:
                if self._spare is None and self._count:  # not closed meanwhile
                    self._spare, self._owner = spare, os.getpid()
                    return
            spare.close()

    def close(self) -> None:
        """Let go of it. Idempotent."""
        with self._lock:
            spare, self._spare = self._spare, None
            self._count = 0
        if spare is not None:
            spare.close()
