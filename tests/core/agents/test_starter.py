"""The shell that becomes the agent, as the shells of this machine run it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oubliette_core.agents.starter import Starter
from oubliette_core.guest import EXEC_VARIABLE
from oubliette_core.testing.images import BusyboxNotFoundError, find_busybox

LISTING = "env; echo ---; cat"


def _shells() -> dict[str, list[str]]:
    found = {name: [path] for name in ("dash", "bash") if (path := shutil.which(name))}
    with contextlib.suppress(BusyboxNotFoundError):
        found["busybox"] = [str(find_busybox()), "sh"]
    return found


SHELLS = _shells()


def _run(shell: str, starter: Starter, stdin: bytes, env: dict[str, str]) -> tuple[int, str, str]:
    argv = [*SHELLS[shell], *starter.argv[1:]]
    done = subprocess.run(argv, input=stdin, capture_output=True, env={"PATH": "/usr/bin:/bin", **env}, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("shell", SHELLS)
def test_the_agent_has_its_variables_and_the_rest_of_its_input(shell: str) -> None:
    """Whatever is in them, and nothing of the shell's own."""
    env = {"PLAIN": "one", "EMPTY": "", "LINES": "a\n  b\n\nc", "ODD": " $HOME `id` \\n 'x' \"y\" ", "name": "kept"}
    starter = Starter(command=("/bin/sh", "-c", LISTING), env=env)
    code, out, _ = _run(shell, starter, starter.variables + b'{"first": "message"}\nsecond', {})
    listed, _, rest = out.partition("---\n")

    assert 0 == code
    assert '{"first": "message"}\nsecond' == rest
    for name, value in env.items():
        assert f"{name}={value}\n" in listed
    assert "oubliette" not in listed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("shell", SHELLS)
def test_the_mark_is_told_before_anything_else(shell: str) -> None:
    """With the limit that the kernel shows, and the variable of whoever started it."""
    starter = Starter(command=("true",), env={})
    _, _, err = _run(shell, starter, starter.variables, {EXEC_VARIABLE: "token"})
    limit = next(line.split()[4] for line in Path("/proc/self/limits").read_text().splitlines() if "resident" in line)

    assert [(limit, "token")] == [starter.mark(line) for line in err.splitlines()]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_program_that_is_not_there_ends_with_127(shell: str) -> None:
    """By which that can be told from whatever else goes wrong."""
    starter = Starter(command=("/no/such/agent",), env={"A": "b"})

    assert 127 == _run(shell, starter, starter.variables, {})[0]


def test_no_secret_is_in_the_arguments() -> None:
    """Everybody may see these; a name that no shell could use is left out."""
    starter = Starter(command=("agent",), env={"KEY": "secret", "NOT A NAME": "x", "ZERO": "a\0b"})

    assert not any("secret" in word for word in starter.argv)
    assert b"KEY 1\nsecret\n.\n" == starter.variables
    assert "secret" not in repr(starter)


@pytest.mark.parametrize("line", ["", "a b c", "nonce", "nonce 1", "nonce 1 2 3"])
def test_nothing_else_is_taken_for_the_mark(line: str) -> None:
    """An agent prints what it likes."""
    assert None is Starter(command=("x",), env={}, nonce="nonce").mark(line)
