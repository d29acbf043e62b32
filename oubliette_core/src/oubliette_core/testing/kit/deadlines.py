"""The deadline of a command, and its cancelling: nothing is left, and the result tells the truth about that."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from oubliette_core.errors import RuntimeOperationError
from oubliette_core.models import Cancel, ExecResult
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import SLACK, eventually, start
from oubliette_core.testing.kit.stage import Maker, Stage, unique

if TYPE_CHECKING:
    from typing import Any

_TIMEOUT = 1.0
_KILLING = 3.0
"""Seconds that finding and killing a whole tree may take after the deadline."""
_CANCEL_WITHIN = 2.0
_HARDENED = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")


class DeadlineCases(Cases):
    """exec with a timeout."""

    def test_exec_deadline_on_time(self, box: Box) -> None:
        started = time.monotonic()
        result = box.shell("echo begun; sleep 1000", timeout=_TIMEOUT)
        took = time.monotonic() - started

        assert (None, True, False) == (result.exit_code, result.timed_out, result.cancelled)
        assert _TIMEOUT <= took < _TIMEOUT + _KILLING + SLACK

    def test_exec_deadline_partial_output(self, box: Box) -> None:
        result = box.shell("echo so far; echo so bad >&2; sleep 1000; echo never", timeout=_TIMEOUT)

        assert (b"so far\n", b"so bad\n") == (result.stdout, result.stderr)

    def test_exec_deadline_not_reached(self, box: Box) -> None:
        result = box.shell("echo done; exit 3", timeout=30)

        assert (3, False, b"done\n") == (result.exit_code, result.timed_out, result.stdout)

    def test_exec_deadline_kills_tree(self, box: Box) -> None:
        _killed(box, 'sleep "$1" & sh -c "sleep $1" & sleep "$1"')

    def test_exec_deadline_killed_is_true(self, box: Box) -> None:
        mark = unique()
        result = box.shell('sleep "$1" & sleep "$1"', mark, timeout=_TIMEOUT)

        assert (True, 0) == (result.killed, box.processes(mark))

    def test_exec_deadline_kills_detached(self, box: Box) -> None:
        _killed(box, 'setsid sleep "$1" & setsid sh -c "sleep $1; sleep $1" & sleep "$1"')

    def test_exec_deadline_kills_double_fork(self, box: Box) -> None:
        _killed(box, '(setsid sh -c "sleep $1 & sleep $1 &" &) ; (sleep "$1" &) ; sleep "$1"')

    def test_exec_deadline_kills_cleared_environment(self, box: Box) -> None:
        _killed(box, 'env -i /bin/sleep "$1" & env -i setsid sh -c "/bin/sleep $1 &" ; sleep "$1"')

    def test_exec_deadline_kills_deaf(self, box: Box) -> None:
        deaf = "trap '' TERM HUP INT QUIT USR1; while :; do sleep 1; done"
        _killed(box, f'sh -c "{deaf}" "$1" & nohup sh -c "{deaf}" "$1" & {deaf}')

    def test_exec_deadline_kills_stopped(self, box: Box) -> None:
        _killed(box, "sh -c 'kill -STOP $$; sleep 1' \"$1\" & kill -STOP $$")

    def test_exec_deadline_kills_fork_storm(self, make: Maker) -> None:
        storm = "f() { sleep 0.02; f & }; f & f & f & sleep $0"
        _killed(make.running(), f'sh -c \'{storm}\' "$1" & sleep "$1"')

    def test_exec_deadline_kills_at_pids_limit(self, make: Maker) -> None:
        box = make.running(pids=40)
        # The inner shell ends when it cannot fork; the outer one needs no further process to go on.
        _killed(box, 'sh -c "while :; do sleep $1 & done" sh "$1" 2>/dev/null; exec sleep "$1"')

    def test_exec_deadline_kills_user(self, box: Box) -> None:
        _killed(box, 'setsid sleep "$1" & env -i /bin/sleep "$1" & sleep "$1"', user="1000:1000")

    def test_exec_deadline_kills_other_user(self, make: Maker) -> None:
        box = make.running(drop_capabilities=("ALL",), add_capabilities=_HARDENED, no_new_privileges=True)
        _killed(box, 'setsid su agent -c "sleep $1" & su agent -c "sleep $1 & sleep $1" & sleep "$1"')

    def test_exec_deadline_kills_without_capabilities(self, make: Maker) -> None:
        box = make.running(drop_capabilities=("ALL",))
        _killed(box, 'setsid sleep "$1" & env -i /bin/sleep "$1" & sleep "$1"', user="1000:1000")

    def test_exec_deadline_kills_with_shell_only(self, stage: Stage, make: Maker) -> None:
        box = make.running(image=make.pulled(stage.image(shell_only=True)).reference)
        mark = unique()
        script = '/bin/busybox setsid /bin/busybox sleep "$1" & exec /bin/busybox sleep "$1"'
        result = box.shell(script, mark, timeout=_TIMEOUT)
        count = 'for p in /proc/[0-9]*; do read -r line < "$p/cmdline"; echo "$line"; done 2>/dev/null'

        assert (True, True) == (result.timed_out, result.killed)
        assert mark.encode() not in box.shell(count).stdout.replace(b"\0", b" ")

    def test_exec_deadline_kills_read_only(self, make: Maker) -> None:
        _killed(make.running(read_only=True), 'setsid sleep "$1" & sleep "$1"')

    def test_exec_deadline_stdin(self, box: Box) -> None:
        _killed(box, 'sleep "$1"', stdin=bytes(5_000_000))

    def test_exec_deadline_output(self, box: Box) -> None:
        result = box.run("/bin/yes", timeout=_TIMEOUT, output_limit=10_000)

        assert (True, True, True) == (result.timed_out, result.killed, result.truncated)
        assert b"y\n" * 5_000 == result.stdout

    def test_exec_deadline_spares_others(self, box: Box) -> None:
        mark, other = unique(), unique()
        box.shell('sleep "$1" >/dev/null 2>&1 &', other)
        running = start(lambda: box.shell('sleep 3; echo "$1"', other), "another exec")
        _killed(box, 'sleep "$1" & sleep "$1"', mark=mark)
        outcome = running.result(30)
        left = box.processes(other)
        box.shell('for p in /proc/[0-9]*; do grep -q "$1" $p/cmdline && kill ${p#/proc/}; done 2>/dev/null', other)

        assert (0, f"{other}\n".encode()) == (outcome.exit_code, outcome.stdout)
        assert left >= 1
        assert box.inspect().running


class CancelCases(Cases):
    """exec with a `Cancel`."""

    def test_exec_cancel(self, box: Box) -> None:
        mark = unique()
        result, took = _cancelled(box, 'echo so far; setsid sleep "$1" & sleep "$1"', mark)

        assert (None, False, True) == (result.exit_code, result.timed_out, result.cancelled)
        assert (b"so far\n", True) == (result.stdout, result.killed)
        assert 0 == box.processes(mark)
        assert took < _CANCEL_WITHIN + SLACK

    def test_exec_cancel_before(self, box: Box) -> None:
        mark = unique()
        cancel = Cancel()
        cancel.cancel()
        started = time.monotonic()
        result = box.run("/bin/sleep", mark, cancel=cancel)
        took = time.monotonic() - started

        assert (None, True) == (result.exit_code, result.cancelled)
        assert took < _CANCEL_WITHIN + SLACK
        assert 0 == box.processes(mark)

    def test_exec_cancel_silent(self, box: Box) -> None:
        mark = unique()
        result, took = _cancelled(box, 'trap "" TERM INT; while :; do sleep 1; done', mark)

        assert (True, True) == (result.cancelled, result.killed)
        assert took < _CANCEL_WITHIN + SLACK
        assert 0 == box.processes(mark)


def _killed(box: Box, script: str, *, mark: str = "", **spec: Any) -> None:
    """Run a script to its deadline, and see that nothing of it is left and that the result says so.

    The script gets a word as ``$1`` that all its processes are to have among their arguments.
    """
    mark = mark or unique()
    result = box.shell(script, mark, timeout=_TIMEOUT, **spec)
    [left] = eventually(lambda: _look(box, mark))

    assert (None, True) == (result.exit_code, result.timed_out), result
    assert 0 == left
    assert result.killed


def _look(box: Box, mark: str) -> list[int]:
    """Count what is left, if a command can be run: where processes are few, the dead take them up for a moment."""
    with contextlib.suppress(RuntimeOperationError):
        return [box.processes(mark)]
    return []


def _cancelled(box: Box, script: str, mark: str) -> tuple[ExecResult, float]:
    """Cancel a script that runs; give the result, and the seconds from the cancelling to it."""
    cancel = Cancel()
    running = start(lambda: box.shell(script, mark, cancel=cancel), "an exec")

    assert box.wait_for_process(mark), "the command did not start"
    asked = time.monotonic()
    cancel.cancel()
    result = running.result(15)
    return result, time.monotonic() - asked
