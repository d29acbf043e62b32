"""What commands do in a fake container."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.tools_files import FILE_TOOLS
from oubliette_core.testing.fake.tools_lines import LINE_TOOLS
from oubliette_core.testing.fake.tools_system import SYSTEM_TOOLS
from oubliette_core.testing.fake.tools_text import TEXT_TOOLS

if TYPE_CHECKING:
    from oubliette_core.testing.fake.kernel import Program, Task

__all__ = ["standard_programs"]


def _careful(program: Program) -> Program:
    """Turn what a program makes of senseless arguments into a message, as programs do."""

    @functools.wraps(program)
    def run(task: Task) -> int:
        try:
            return program(task)
        except (ValueError, LookupError) as error:
            return task.complain(f"invalid arguments: {error}")

    return run


def standard_programs() -> dict[str, Program]:
    """Return the programs that every image has, by name."""
    tools = {**TEXT_TOOLS, **LINE_TOOLS, **FILE_TOOLS, **SYSTEM_TOOLS}
    return {name: _careful(program) for name, program in tools.items()}
