"""What the fake container's shell remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette_core.testing.fake.expand import ExpansionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.testing.fake.kernel import Task
    from oubliette_core.testing.fake.script import Command

__all__ = ["Memory"]


class Memory:
    """Variables, parameters, functions and options of one shell, which acts through a process."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.name = task.argv[0]
        self.positional: list[str] = []
        self.options: set[str] = set()
        self.variables: dict[str, str] = dict(task.env)
        self.exported: set[str] = set(task.env)
        self.functions: dict[str, Command] = {}
        self.status = 0
        self.last_child = 0
        self.shell_pid = task.pid

    def inherit(self, parent: Memory) -> None:
        """Take over what a subshell knows from its parent."""
        self.name, self.positional, self.options = parent.name, list(parent.positional), set(parent.options)
        self.variables, self.exported = dict(parent.variables), set(parent.exported)
        self.functions, self.status = dict(parent.functions), parent.status
        self.shell_pid, self.last_child = parent.shell_pid, parent.last_child

    def environment(self) -> dict[str, str]:
        """Return the variables that commands get."""
        return {name: self.variables[name] for name in self.exported if name in self.variables}

    def get(self, name: str) -> str | None:
        """Return the value of a variable or a special parameter."""
        if name.isdigit():
            number = int(name)
            if number == 0:
                return self.name
            return self.positional[number - 1] if number <= len(self.positional) else None
        special: dict[str, Callable[[], str]] = {
            "?": lambda: str(self.status),
            "$": lambda: str(self.shell_pid),
            "!": lambda: str(self.last_child or ""),
            "#": lambda: str(len(self.positional)),
            "-": lambda: "".join(sorted(self.options)),
            "PPID": lambda: str(self.task.parent.pid if self.task.parent else 0),
        }
        if name in special:
            return special[name]()
        return self.variables.get(name)

    def missing(self, name: str) -> None:
        """A parameter that is not set was used: an error with ``set -u``."""
        if "u" in self.options:
            raise ExpansionError(f"{name}: parameter not set")

    def set(self, name: str, value: str) -> None:
        """Set a variable."""
        self.variables[name] = value
        if name == "PATH":
            self.task.env["PATH"] = value
