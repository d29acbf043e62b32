"""Running commands: what they get, what comes back, and what cannot be run."""

from __future__ import annotations

import random
import time
import tracemalloc
from typing import Any

import pytest

from oubliette_core.errors import (
    CommandNotFoundError,
    ContainerNotFoundError,
    ContainerNotRunningError,
    InvalidSpecError,
)
from oubliette_core.models import ExecResult, ExecSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import SLACK, eventually, together
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import NOT_EXECUTABLE, Maker, unique

_MIB = 1024 * 1024
_DEFAULT_LIMIT = 16 * _MIB
_DRAINING = 2.0
"""Seconds that an exec may go on reading after the command's end, by the contract."""


class CommandCases(Cases):
    """exec: the command, its result, and what it gets."""

    def test_exec_echo(self, box: Box) -> None:
        result = box.run("/bin/echo", "hello", "there")

        assert (0, b"hello there\n", b"") == (result.exit_code, result.stdout, result.stderr)
        assert (False, False, False) == (result.timed_out, result.cancelled, result.truncated)

    def test_exec_path(self, box: Box) -> None:
        assert b"found\n" == box.run("echo", "found").stdout

    def test_exec_streams_apart(self, box: Box) -> None:
        result = box.shell("echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2")

        assert (b"out 1\nout 2\n", b"err 1\nerr 2\n") == (result.stdout, result.stderr)

    def test_exec_exit_codes(self, box: Box) -> None:
        codes = [0, 1, 2, 3, 64, 125, 126, 127, 128, 255]

        assert codes == [box.shell(f"exit {code}").exit_code for code in codes]

    def test_exec_signals(self, box: Box) -> None:
        found = [box.shell(f"kill -{name} $$; sleep 5").exit_code for name in ("TERM", "KILL", "HUP")]

        assert [128 + 15, 128 + 9, 128 + 1] == found

    def test_exec_argv(self, box: Box) -> None:
        words = ("", " ", "$(echo no)", "`echo no`", "; echo no", "*", "'", '"', "--help", "-n", "a\nb", "\\n", "世界")
        result = box.run("/bin/printf", "[%s]", *words)

        assert "".join(f"[{word}]" for word in words) == result.stdout.decode()

    def test_exec_env(self, make: Maker) -> None:
        box = make.running(env={"OF_CONTAINER": "kept", "OF_BOTH": "container's"})
        script = 'echo "$OF_CONTAINER $OF_BOTH $OF_EXEC"'
        found = box.says(script, env={"OF_BOTH": "exec's", "OF_EXEC": "added"})

        assert "kept exec's added" == found
        assert "kept container's" == box.says(script)

    def test_exec_env_exact(self, box: Box) -> None:
        values = ("  two  ", "\"a\" 'b'", "$HOME `id`", "a\nb\n", "", "a=b", "мир")
        found = [box.shell('printf "%s" "$ODD"', env={"ODD": value}).stdout.decode() for value in values]

        assert list(values) == found

    def test_exec_env_apart(self, box: Box) -> None:
        box.shell("SECRET=leaked; export SECRET", env={"SECRET": "leaked"})

        assert "unset" == box.says('echo "${SECRET-unset}"')

    def test_exec_workdir(self, make: Maker) -> None:
        box = make.running(workdir="/home")

        assert ("/home", "/kit") == (box.says("pwd"), box.says("pwd", workdir="/kit"))

    def test_exec_user(self, box: Box) -> None:
        users = {"1000": "1000 1000", "agent": "1000 1000", "1000:0": "1000 0", "0": "0 0"}

        assert users == {user: box.says("echo $(id -u) $(id -g)", user=user) for user in users}

    def test_exec_user_of_container(self, make: Maker) -> None:
        box = make.running(user="1000:1000")

        assert ("1000", "0") == (box.says("id -u"), box.says("id -u", user="0:0"))

    def test_exec_files(self, box: Box) -> None:
        name = f"/kit/{unique()}"
        box.says('echo kept > "$1"', name)

        assert "kept" == box.says('cat "$1"; rm "$1"', name)

    def test_exec_duration(self, box: Box) -> None:
        started = time.monotonic()
        result = box.shell("sleep 0.3")
        took = time.monotonic() - started

        assert 0.25 <= result.duration <= took

    def test_exec_silent(self, box: Box) -> None:
        result = box.shell("sleep 32; echo awake")

        assert (0, b"awake\n") == (result.exit_code, result.stdout)

    def test_exec_long_argument(self, box: Box) -> None:
        word = "x" * 100_000

        assert b"100000" == box.shell('echo "${#1}"', word).stdout.strip()

    def test_exec_long_variable(self, box: Box) -> None:
        assert "100000" == box.says('echo "${#LONG}"', env={"LONG": "x" * 100_000})

    def test_exec_many(self, box: Box) -> None:
        results = [box.run("/bin/echo", str(number)) for number in range(40)]

        assert [(0, f"{number}\n".encode()) for number in range(40)] == [(one.exit_code, one.stdout) for one in results]

    def test_exec_together(self, box: Box) -> None:
        script = 'i=0; while [ $i -lt 50 ]; do echo "$1"; echo "$1" >&2; i=$((i+1)); done'
        words = [unique() for _ in range(12)]
        outcomes = together([lambda word=word: box.shell(script, word) for word in words])  # type: ignore[misc]
        found = [(one.stdout, one.stderr) if isinstance(one, ExecResult) else one for one in outcomes]

        assert [(f"{word}\n".encode() * 50,) * 2 for word in words] == found

    def test_exec_background_child(self, make: Maker) -> None:
        box, mark = make.running(), unique()  # the child ends with a container of its own
        started = time.monotonic()
        result = box.shell('sleep "$1" & echo started', mark)
        took = time.monotonic() - started

        assert (0, b"started\n") == (result.exit_code, result.stdout)
        assert took < _DRAINING + 2 * SLACK
        assert box.processes(mark)

    def test_exec_init_reaps(self, make: Maker) -> None:
        box = make.running(init=True)
        box.shell("i=0; while [ $i -lt 50 ]; do (true & ) ; i=$((i+1)); done")
        count = "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l"

        assert "0" == _finally_says(box, count, "0")


class InputCases(Cases):
    """exec: standard input."""

    def test_exec_stdin(self, box: Box) -> None:
        assert b"to and fro\n" == box.run("/bin/cat", stdin=b"to and fro\n").stdout

    def test_exec_stdin_none(self, box: Box) -> None:
        result = box.run("/bin/cat", timeout=20)

        assert (0, b"") == (result.exit_code, result.stdout)

    def test_exec_stdin_binary(self, box: Box) -> None:
        data = bytes(range(256)) * 40

        assert data == box.run("/bin/cat", stdin=data).stdout

    def test_exec_stdin_large(self, box: Box) -> None:
        data = b"0123456789abcde\n" * 500_000

        assert b"8000000" == box.run("/bin/wc", "-c", stdin=data, timeout=60).stdout.strip()

    def test_exec_stdin_unread(self, box: Box) -> None:
        started = time.monotonic()
        result = box.shell("echo enough", stdin=bytes(5 * _MIB), timeout=30)
        took = time.monotonic() - started

        assert (0, b"enough\n") == (result.exit_code, result.stdout)
        assert took < 10

    def test_exec_stdin_half_read(self, box: Box) -> None:
        result = box.shell("head -c 3; echo; echo done", stdin=b"abc" + bytes(5 * _MIB), timeout=30)

        assert (0, b"abc\ndone\n") == (result.exit_code, result.stdout)


class OutputCases(Cases):
    """exec: what comes back, byte for byte."""

    def test_exec_output_bytes(self, box: Box) -> None:
        result = box.shell(r"printf '\000\001\377\376 \r\n\n\r'; printf '\302\302' >&2")

        assert (b"\x00\x01\xff\xfe \r\n\n\r", b"\xc2\xc2") == (result.stdout, result.stderr)

    def test_exec_output_no_newline(self, box: Box) -> None:
        assert b"no end" == box.shell("printf 'no end'").stdout

    def test_exec_output_long_line(self, box: Box) -> None:
        result = box.shell("head -c 1000000 /dev/zero | tr '\\0' x")

        assert b"x" * 1_000_000 == result.stdout

    def test_exec_output_to_the_last_byte(self, box: Box) -> None:
        sizes = [1, 4095, 4096, 16_384, 32_768, 65_536, 65_537, 131_073]
        found = [len(box.run("/bin/head", "-c", str(size), "/dev/zero").stdout) for size in sizes]

        assert sizes == found

    def test_exec_output_large(self, box: Box) -> None:
        data = random.Random("kit").randbytes(12 * _MIB)  # noqa: S311 - has to be the same each time
        result = box.run("/bin/cat", stdin=data, timeout=60)

        assert (0, False, len(data)) == (result.exit_code, result.truncated, len(result.stdout))
        assert result.stdout == data

    def test_exec_output_truncated(self, box: Box) -> None:
        tracemalloc.start()
        try:
            result = box.run("/bin/head", "-c", str(100 * _MIB), "/dev/zero", timeout=90)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert (0, True, _DEFAULT_LIMIT) == (result.exit_code, result.truncated, len(result.stdout))
        assert peak < 5 * _DEFAULT_LIMIT

    def test_exec_output_limit(self, box: Box) -> None:
        script = "echo 0123456789; echo abcdefghij >&2; exit 4"
        result = box.shell(script, output_limit=4)

        assert (4, True, b"0123", b"abcd") == (result.exit_code, result.truncated, result.stdout, result.stderr)

    def test_exec_output_limit_reached(self, box: Box) -> None:
        result = box.shell("printf 0123", output_limit=4)

        assert (False, b"0123") == (result.truncated, result.stdout)

    def test_exec_output_limit_zero(self, box: Box) -> None:
        result = box.shell("echo dropped; exit 3", output_limit=0)

        assert (3, True, b"") == (result.exit_code, result.truncated, result.stdout)


class NotRunCases(Cases):
    """exec: commands that cannot be run, and containers in which none can."""

    def test_exec_not_found(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 127, "no-such-command")

    def test_exec_path_not_found(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 127, "/no/such/command")

    def test_exec_not_executable(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 126, NOT_EXECUTABLE)

    def test_exec_directory(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 126, "/kit")

    def test_exec_no_user(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 126, "/bin/true", user="nobody-of-this-name")

    def test_exec_no_workdir(self, runtime: Runtime, box: Box) -> None:
        _not_run(runtime, box, 126, "/bin/true", workdir="/no/such/directory")

    def test_exec_shell_not_found(self, box: Box) -> None:
        result = box.shell("no-such-command")

        assert (127, b"") == (result.exit_code, result.stdout)
        assert b"no-such-command" in result.stderr

    def test_exec_not_running(self, runtime: Runtime, make: Maker) -> None:
        created = make.created().id
        stopped = runtime.stop(make.running().id, grace=0).id
        for container in (created, stopped):
            for call in (runtime.exec, runtime.open_exec):
                with pytest.raises(ContainerNotRunningError) as failed:
                    call(container, ExecSpec(command=("/bin/true",)))

                assert failed.value.subject in (container, runtime.inspect(container).name)
                assert runtime.name == failed.value.runtime

    def test_exec_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        for call in (runtime.exec, runtime.open_exec):
            with pytest.raises(ContainerNotFoundError) as failed:
                call(name, ExecSpec(command=("/bin/true",)))

            assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_exec_invalid(self, runtime: Runtime, box: Box) -> None:
        true = ("/bin/true",)
        specs = [
            ExecSpec(command=()),
            ExecSpec(command=("",)),
            ExecSpec(command=("/bin/echo", "a\0b")),
            ExecSpec(command=("/bin/echo", "x" * 200_000)),
            ExecSpec(command="/bin/true"),  # type: ignore[arg-type]
            ExecSpec(command=true, workdir="relative"),
            ExecSpec(command=true, workdir="/proc/self/fd/8"),
            ExecSpec(command=true, env={"A=B": "c"}),
            ExecSpec(command=true, env={"A": "b\0c"}),
            ExecSpec(command=true, user="root;id"),
            ExecSpec(command=true, stdin="text"),  # type: ignore[arg-type]
            ExecSpec(command=true, output_limit=-1),
        ]
        relay = Relay(runtime)
        face = relay.face()
        for spec in specs:
            for call in (face.exec, face.open_exec):
                with pytest.raises(InvalidSpecError):
                    call(box.id, spec)

        assert [] == relay.calls


def _finally_says(box: Box, script: str, expected: str) -> str:
    """Ask until the answer is the expected one, or time is up; give the last answer."""
    eventually(lambda: box.says(script) == expected)
    return box.says(script)


def _not_run(runtime: Runtime, box: Box, code: int, command: str, **spec: Any) -> None:
    """See that a command which cannot be run is an error, and not output."""
    with pytest.raises(CommandNotFoundError) as failed:
        box.run(command, **spec)

    assert (code, runtime.name) == (failed.value.exit_code, failed.value.runtime)
    assert failed.value.subject
    assert box.inspect().running
