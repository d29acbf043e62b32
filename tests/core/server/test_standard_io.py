"""The protocol's lines over descriptors of every kind."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from io import FileIO
from pathlib import Path

import anyio
import pytest

from oubliette_core.server.standard_io import Lines, Output

SECONDS = 10
LONG = "x" * 300_000


@pytest.fixture(params=["pipe", "socket", "unblocked pipe"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[FileIO, FileIO]]:
    """Where to read and where to write of a connection."""
    if request.param == "socket":
        one, other = socket.socketpair()
        descriptors = one.detach(), other.detach()
    else:
        descriptors = os.pipe()
    for descriptor in descriptors:
        os.set_blocking(descriptor, request.param != "unblocked pipe")
    with FileIO(descriptors[0]) as reading, FileIO(descriptors[1], "w") as writing:
        yield reading, writing


async def expect(reading: FileIO, count: int | None = None) -> list[str]:
    """Read so many lines, or all."""
    found = []
    with anyio.fail_after(SECONDS):
        async with aclosing(aiter(Lines(reading.fileno()))) as lines:
            async for line in lines:
                found.append(line)
                if len(found) == count:
                    break
    return found


async def together(
    write: Callable[[], Coroutine[object, object, None]], reading: FileIO, count: int | None = None
) -> list[str]:
    """Read while something is written; return what was read."""
    found: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        await anyio.sleep(0.1)
        found += await expect(reading, count)
    return found


def test_lines_come_whole(ends: tuple[FileIO, FileIO]) -> None:
    """However they were cut on their way, and the last one even without an end."""
    reading, writing = ends

    async def write() -> None:
        for piece in (b'{"one"}\n{"gr', b"\xc3", b'\xb6\xc3\x9f"}\r\n', b"\xff\n", b"end"):
            writing.write(piece)
            await anyio.sleep(0.02)
        writing.close()

    found = anyio.run(together, write, reading)

    assert ['{"one"}', '{"größ"}\r', "\N{REPLACEMENT CHARACTER}", "end"] == found


def test_a_long_message_passes(ends: tuple[FileIO, FileIO]) -> None:
    """Nothing else waits while the other side is slow to read it."""
    reading, writing = ends

    async def write() -> None:
        output = Output(writing.fileno())
        for text in (LONG, "short"):
            await output.write(text + "\n")
        await output.flush()

    assert [LONG, "short"] == anyio.run(together, write, reading, 2)


def test_what_a_pipe_takes_at_once_needs_no_thread(ends: tuple[FileIO, FileIO]) -> None:
    """Nor does what comes: to hand each line to a thread and back takes a tenth of a status call."""
    reading, writing = ends

    async def main() -> set[threading.Thread]:
        before = set(threading.enumerate())
        await Output(writing.fileno()).write("x" * (select.PIPE_BUF - 1) + "\n")
        await expect(reading, 1)
        return set(threading.enumerate()) - before

    assert set() == anyio.run(main)


def test_a_file_is_read_too(tmp_path: Path) -> None:
    """Nobody can wait for a file to become ready."""
    (tmp_path / "lines").write_text("one\ntwo\n")
    with FileIO(tmp_path / "lines") as file:
        assert ["one", "two"] == anyio.run(expect, file)


def test_waiting_for_a_line_can_be_cancelled(ends: tuple[FileIO, FileIO]) -> None:
    """A server that is asked to stop does not need another message for that."""

    async def main() -> bool:
        with anyio.move_on_after(0.05) as scope:
            await expect(ends[0])
        return scope.cancelled_caught

    assert anyio.run(main)


def test_what_else_is_printed_goes_to_standard_error() -> None:
    """A library that prints must not break the protocol, nor a program that reads its messages."""
    program = """
import os, subprocess, sys, anyio
from oubliette_core.server.standard_io import taken_over

async def main(lines, output):
    print("stray", flush=True)
    subprocess.run(["cat"])
    async for line in lines:
        await output.write(line.upper() + "\\n")

with taken_over() as streams:
    anyio.run(main, *streams)
print("after", sys.stdin.read())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input="one\ntwo\n", capture_output=True, text=True, check=True
    )

    assert ("ONE\nTWO\nafter \n", "stray\n") == (done.stdout, done.stderr)
