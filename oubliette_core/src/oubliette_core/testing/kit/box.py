"""A running container, and what can be seen from inside it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ContainerNotRunningError, RuntimeLostError
from oubliette_core.models import ExecResult, ExecSpec
from oubliette_core.testing.kit.calls import eventually
from oubliette_core.testing.kit.talk import Talk

if TYPE_CHECKING:
    from oubliette_core.models import Cancel, ContainerInfo
    from oubliette_core.runtime import Runtime

__all__ = ["UNTIL_TOLD", "Box"]

_TOLD = "/kit/told"
UNTIL_TOLD = f"until [ -e {_TOLD} ]; do sleep 0.02; done;"
"""What a main process begins with that is to be seen alive before it does anything."""


@attrs.frozen
class Box:
    """Runs commands in a container. ``**spec`` are fields of `ExecSpec`."""

    runtime: Runtime
    id: str

    def run(self, *command: str, cancel: Cancel | None = None, **spec: Any) -> ExecResult:
        """Run a command."""
        return self.runtime.exec(self.id, ExecSpec(command=command, **spec), cancel=cancel)

    def shell(self, script: str, *words: str, cancel: Cancel | None = None, **spec: Any) -> ExecResult:
        """Run a script of ``/bin/sh``; ``words`` are its arguments, from ``$1`` on."""
        return self.run("/bin/sh", "-c", script, "sh", *words, cancel=cancel, **spec)

    def says(self, script: str, *words: str, **spec: Any) -> str:
        """Run a script that succeeds; give what it prints, without white space around it."""
        result = self.shell(script, *words, **spec)

        assert (0, b"") == (result.exit_code, result.stderr), result
        return result.stdout.decode().strip()

    def tell(self) -> None:
        """Let a main process that waits for `UNTIL_TOLD` go on; it may end before the command that told it."""
        with contextlib.suppress(RuntimeLostError, ContainerNotRunningError):
            self.shell(f"touch {_TOLD}")

    def talk(self, *command: str, **spec: Any) -> Talk:
        """Open a command to talk to."""
        return Talk(self.runtime.open_exec(self.id, ExecSpec(command=command, **spec)))

    def inspect(self) -> ContainerInfo:
        """Look at it from outside."""
        return self.runtime.inspect(self.id)

    def processes(self, mark: str) -> int:
        """Count the processes that have ``mark`` among their arguments."""
        # A process may end between the listing and the reading: that is no failure of the command.
        return self.shell("cat /proc/[0-9]*/cmdline 2>/dev/null; :").stdout.count(mark.encode())

    def wait_for_process(self, mark: str) -> int:
        """Wait until there is a process that has ``mark`` among its arguments; give how many there are."""
        return eventually(lambda: self.processes(mark))

    def status(self, field: str, process: str = "self") -> str:
        """Give a field of a process's ``/proc/PID/status``."""
        result = self.run("/bin/cat", f"/proc/{process}/status")
        lines = dict(line.split(":", 1) for line in result.stdout.decode().splitlines() if ":" in line)
        return lines[field].strip()
