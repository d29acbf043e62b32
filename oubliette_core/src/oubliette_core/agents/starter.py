"""Starting an agent so that no secret of its own is ever in sight.

Variables of an exec are seen by the engine, which may log or keep them, and those of a program on the host may be seen
by others there. So the agent's variables go to a shell through its standard input, which nobody else reads, and the
shell becomes the agent. Before that it says what the agent's processes will be known by, for whoever has to kill them
if this process dies.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import attrs

from oubliette_core.guest import EXEC_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Starter"]

# The names of the shell's own variables are such that no program's can be meant.
_START = f"""
while read -r oubliette_a oubliette_b oubliette_c oubliette_soft oubliette_hard oubliette_rest; do
    case "$oubliette_a $oubliette_b $oubliette_c" in 'Max resident set') oubliette_limit=$oubliette_hard ;; esac
done 2>/dev/null </proc/self/limits
echo "$1 ${{oubliette_limit:-none}} ${{{EXEC_VARIABLE}:-none}}" >&2
shift
while read -r oubliette_name oubliette_lines && [ "$oubliette_name" != . ]; do
    IFS= read -r oubliette_value
    while [ "$oubliette_lines" -gt 1 ]; do
        IFS= read -r oubliette_rest
        oubliette_value="$oubliette_value
$oubliette_rest"
        oubliette_lines=$((oubliette_lines - 1))
    done
    export "$oubliette_name=$oubliette_value"
done
unset oubliette_a oubliette_b oubliette_c oubliette_soft oubliette_hard oubliette_rest oubliette_limit
unset oubliette_name oubliette_lines oubliette_value
exec "$@"
"""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@attrs.frozen(kw_only=True)
class Starter:
    """One start of an agent.

    :param nonce: begins the line in which the shell says what it has to say.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    nonce: str = attrs.field(factory=lambda: secrets.token_hex(16), repr=False)

    @property
    def argv(self) -> tuple[str, ...]:
        """What is run in the container; everybody may see it."""
        return ("/bin/sh", "-c", _START, "oubliette-agent", self.nonce, *self.command)

    @property
    def variables(self) -> bytes:
        """What the shell has to be given before anything that is for the agent."""
        lines: list[str] = []
        for name, value in self.env.items():
            if _NAME.fullmatch(name) and "\0" not in value:
                lines += [f"{name} {value.count(chr(10)) + 1}", value]
        return "".join(f"{line}\n" for line in (*lines, ".")).encode()

    def mark(self, line: str) -> tuple[str, str] | None:
        """Read a line of standard error: the limit and the token, if it is the one that tells them."""
        words = line.split()
        return (words[1], words[2]) if len(words) == 3 and words[0] == self.nonce else None
