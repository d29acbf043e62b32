"""What a main process printed."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from oubliette_core.errors import ContainerNotFoundError, InvalidSpecError
from oubliette_core.models import LogSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import UNTIL_TOLD, Box
from oubliette_core.testing.kit.calls import SLACK, bounded, eventually, start
from oubliette_core.testing.kit.relay import Relay
from oubliette_core.testing.kit.stage import Maker
from oubliette_core.testing.kit.talk import drained

_MIB = 1024 * 1024


class LogCases(Cases):
    """logs."""

    def test_logs_all(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, "echo one; echo two; echo three")

        assert b"one\ntwo\nthree\n" == _logs(box)

    def test_logs_running(self, make: Maker) -> None:
        box = make.running("/bin/sh", "-c", "echo alive; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")

        assert b"alive\n" == eventually(lambda: _logs(box))

    def test_logs_both_streams(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, "echo out 1; echo err 1 >&2; echo out 2; echo err 2 >&2")
        lines = _logs(box).splitlines()

        assert [b"out 1", b"out 2"] == [line for line in lines if line.startswith(b"out")]
        assert [b"err 1", b"err 2"] == [line for line in lines if line.startswith(b"err")]
        assert 4 == len(lines)

    def test_logs_tail(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, "seq 1 20")
        tails = {tail: _logs(box, tail=tail) for tail in (0, 1, 3, 20, 1000)}
        expected = {tail: b"".join(f"{n}\n".encode() for n in range(max(1, 21 - tail), 21)) for tail in tails}

        assert expected == tails

    def test_logs_created(self, make: Maker) -> None:
        container = make.created()

        assert b"" == drained(make.stage.runtime.logs(container.id))

    def test_logs_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            drained(runtime.logs(name))

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_logs_bytes(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, r"printf '\377\376 \302 \r\n'; printf 'no end'")

        assert b"\xff\xfe \xc2 \r\nno end" == _logs(box)

    def test_logs_long_line(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, "head -c 100000 /dev/zero | tr '\\0' x; echo")

        assert b"x" * 100_000 + b"\n" == _logs(box)

    def test_logs_large(self, runtime: Runtime, make: Maker) -> None:
        line = "0123456789abcde" * 16
        box = _printed(runtime, make, f"yes {line} | head -n {20 * _MIB // len(line)}; echo last")
        tracemalloc.start()
        try:
            started = time.monotonic()
            last = _logs(box, tail=3)
            took = time.monotonic() - started
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert f"{line}\n{line}\nlast\n".encode() == last
        assert took < 5
        assert peak < 10 * _MIB

    def test_logs_not_of_execs(self, make: Maker) -> None:
        box = make.running("/bin/sh", "-c", "echo main; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
        box.says("echo exec")

        assert b"main\n" == eventually(lambda: _logs(box))

    def test_logs_after_restart(self, runtime: Runtime, make: Maker) -> None:
        box = make.running("/bin/sh", "-c", "echo begun; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
        runtime.stop(box.id, grace=0)
        runtime.start(box.id)

        assert eventually(lambda: _logs(box) == b"begun\nbegun\n", within=5)

    def test_logs_since(self, make: Maker) -> None:
        script = f"echo before; {UNTIL_TOLD} echo after; sleep 1000"
        box = make.running("/bin/sh", "-c", script)
        eventually(lambda: _logs(box))
        # The engine's clock may be another machine's: the moment is read inside.
        moment = datetime.fromtimestamp(float(box.says("sleep 1; date +%s")), UTC)
        box.says("sleep 1")
        box.tell()
        eventually(lambda: b"after" in _logs(box))

        assert b"after\n" == _logs(box, since=moment)
        assert b"" == _logs(box, since=moment + timedelta(hours=1))

    def test_logs_follow(self, make: Maker) -> None:
        script = f"echo first; {UNTIL_TOLD} echo second; exit 0"
        box = make.running("/bin/sh", "-c", script)
        chunks: list[bytes] = []
        follow = box.runtime.logs(box.id, LogSpec(follow=True))
        reading = start(lambda: chunks.extend(follow), "following")
        early = eventually(lambda: b"".join(chunks))
        box.tell()
        reading.result(20)

        assert (b"first\n", b"first\nsecond\n") == (early, b"".join(chunks))

    def test_logs_follow_ended(self, runtime: Runtime, make: Maker) -> None:
        box = _printed(runtime, make, "echo all there was")

        assert b"all there was\n" == _logs(box, follow=True)

    def test_logs_follow_closed(self, make: Maker) -> None:
        box = make.running("/bin/sh", "-c", "echo first; trap 'exit 0' TERM; while :; do sleep 1000 & wait; done")
        follow = box.runtime.logs(box.id, LogSpec(follow=True))
        first = bounded(lambda: next(follow), 20, "following")
        close = getattr(follow, "close", None)

        assert b"first\n" == first
        assert callable(close), "what follows a log cannot be closed"
        bounded(close, 2 + SLACK, "closing")

    def test_logs_invalid(self, runtime: Runtime, box: Box) -> None:
        relay = Relay(runtime)
        naive = datetime(2024, 1, 1)  # noqa: DTZ001 - what is to be refused
        specs = (LogSpec(tail=-1), LogSpec(tail=cast("int", "5")), LogSpec(since=naive))
        for spec in specs:
            with pytest.raises(InvalidSpecError):
                relay.face().logs(box.id, spec)

        assert [] == relay.calls


def _logs(box: Box, **spec: object) -> bytes:
    return drained(box.runtime.logs(box.id, LogSpec(**spec)))  # type: ignore[arg-type]


def _printed(runtime: Runtime, make: Maker, script: str) -> Box:
    """Run a script as main process to its end."""
    box = make.running("/bin/sh", "-c", f"{UNTIL_TOLD} {script}")
    box.tell()
    eventually(lambda: not box.inspect().running, 60)

    assert not runtime.inspect(box.id).running
    return box
