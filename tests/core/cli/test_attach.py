"""Bytes pass between our streams and a command unchanged, and the command's end is ours."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pty
import signal
import struct
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oubliette_core.cli.attach import Ending, Streams, attach, raw_terminal
from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.models import Cancel
from tests.core.cli.local_process import LocalProcess, python


@contextmanager
def _files(tmp_path: Path, data: bytes = b"") -> Iterator[Streams]:
    (tmp_path / "in").write_bytes(data)
    with (
        (tmp_path / "in").open("rb") as stdin,
        (tmp_path / "out").open("wb") as out,
        (tmp_path / "err").open("wb") as err,
    ):
        yield Streams(stdin=stdin.fileno(), stdout=out.fileno(), stderr=err.fileno())


def _printed(tmp_path: Path) -> tuple[bytes, bytes]:
    return (tmp_path / "out").read_bytes(), (tmp_path / "err").read_bytes()


def test_the_streams_and_the_exit_code_pass_through(tmp_path: Path) -> None:
    """Whatever bytes they are, each on its own stream."""
    program = "from sys import *; stdout.buffer.write(stdin.buffer.read()[::-1]); stderr.write('e'); exit(7)"
    with _files(tmp_path, bytes(range(256))) as streams, python(program) as process:
        ending = attach(process, streams, Cancel())

    assert Ending(exit_code=7) == ending
    assert (bytes(range(255, -1, -1)), b"e") == _printed(tmp_path)


def test_much_output_arrives_whole(tmp_path: Path) -> None:
    """Nothing is dropped at the end, when the command has gone and the pipe is still full."""
    program = "import random, sys; sys.stdout.buffer.write(random.Random(1).randbytes(12_000_000))"
    with _files(tmp_path) as streams, python(program) as process:
        assert Ending(exit_code=0) == attach(process, streams, Cancel())

    digest = hashlib.sha256((tmp_path / "out").read_bytes()).hexdigest()
    with python(
        "import hashlib, random; print(hashlib.sha256(random.Random(1).randbytes(12_000_000)).hexdigest())"
    ) as other:
        assert f"{digest}\n".encode() == other.stdout.read(100)


def test_output_comes_as_it_is_made() -> None:
    """A person sees a prompt before the answer to it is given."""
    with python("print('name?', flush=True); print('hello', input())") as process:
        (stdin, answer), (shown, stdout) = os.pipe(), os.pipe()
        thread = threading.Thread(target=attach, args=(process, Streams(stdin=stdin, stdout=stdout), Cancel()))
        thread.start()
        assert b"name?\n" == os.read(shown, 100)
        os.write(answer, b"Ada\n")
        thread.join()
        assert b"hello Ada\n" == os.read(shown, 100)
    for descriptor in (stdin, answer, shown, stdout):
        os.close(descriptor)


def test_without_input_the_command_sees_its_end(tmp_path: Path) -> None:
    """It must not wait for what never comes."""
    with _files(tmp_path) as streams, python("import sys; print(sys.stdin.read() == '')") as process:
        attach(process, Streams(stdin=None, stdout=streams.stdout), Cancel())

    assert b"True\n" == _printed(tmp_path)[0]


def test_input_that_was_not_asked_for_is_left_to_whoever_comes_next(tmp_path: Path) -> None:
    """Once the command has ended nothing more is read."""
    stdin, typed = os.pipe()
    with _files(tmp_path) as streams, python("pass") as process:
        attach(process, Streams(stdin=stdin, stdout=streams.stdout), Cancel())
    os.write(typed, b"for the shell")

    assert b"for the shell" == os.read(stdin, 100)
    os.close(stdin)
    os.close(typed)


def test_at_the_deadline_the_command_is_killed(tmp_path: Path) -> None:
    """What it printed by then has been passed on."""
    program = "import time; print('begun', flush=True); time.sleep(60)"
    with _files(tmp_path) as streams, python(program) as process:
        ending = attach(process, streams, Cancel(), timeout=1.0)

    assert Ending(exit_code=0, timed_out=True, killed=True) == ending
    assert b"begun\n" == _printed(tmp_path)[0]


def test_a_cancel_kills_the_command(tmp_path: Path) -> None:
    """Ctrl-C leaves nothing behind in the container."""
    cancel = Cancel()
    with _files(tmp_path) as streams, python("import time; time.sleep(60)") as process:
        threading.Timer(0.1, cancel.cancel).start()
        assert Ending(exit_code=137) == attach(process, streams, cancel)


def test_when_nobody_reads_any_more_the_command_is_killed() -> None:
    """``exec P -- yes | head`` ends, here and in the container."""
    shown, stdout = os.pipe()
    with python("while True: print('y')") as process:
        os.close(shown)
        ending = attach(process, Streams(stdin=None, stdout=stdout), Cancel())
    os.close(stdout)

    assert Ending(exit_code=137, unheard=True) == ending


def test_a_child_that_holds_the_pipe_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """A command may leave a server running that inherited its output."""
    program = "import os, time; print('up', flush=True); os.fork() or time.sleep(60)"
    began = time.monotonic()
    with _files(tmp_path) as streams, python(program) as process:
        ending = attach(process, streams, Cancel())
        took = time.monotonic() - began
        process.kill()

    assert Ending(exit_code=0) == ending
    assert b"up\n" == _printed(tmp_path)[0]
    assert took < 4


def test_a_slow_reader_loses_nothing() -> None:
    """The time to drain counts only while nothing comes from the command, not while our own output is stuck."""
    shown, stdout = os.pipe()
    data = b""
    with python("import sys; sys.stdout.write('x' * 300_000)") as process:
        thread = threading.Thread(target=attach, args=(process, Streams(stdin=None, stdout=stdout), Cancel()))
        thread.start()
        thread.join(2.5)  # longer than the time to drain: this is what is tested
        while len(data) < 300_000:
            data += os.read(shown, 65536)
        thread.join()
    os.close(shown)
    os.close(stdout)

    assert b"x" * 300_000 == data


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal: ours, and the one that a command has."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def _resize(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _fail_in_a_raw_terminal(process: LocalProcess, descriptor: int) -> None:
    with raw_terminal(process, descriptor, Interrupts()):
        assert 0 == termios.tcgetattr(descriptor)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        raise ZeroDivisionError


def test_a_terminal_is_raw_while_the_command_runs_and_then_as_it_was(terminal: tuple[int, int]) -> None:
    """Every key goes to the command; afterwards the user's shell works as before, also after an error."""
    _, descriptor = terminal
    before = termios.tcgetattr(descriptor)
    handler = signal.getsignal(signal.SIGWINCH)
    with python("pass") as process, pytest.raises(ZeroDivisionError):
        _fail_in_a_raw_terminal(process, descriptor)

    assert before == termios.tcgetattr(descriptor)
    assert handler == signal.getsignal(signal.SIGWINCH)


def test_the_command_learns_the_size_of_the_terminal(terminal: tuple[int, int]) -> None:
    """At the start, and each time the window changes."""
    _, descriptor = terminal
    _resize(descriptor, 30, 100)
    resized = threading.Semaphore(0)
    with python("input()") as process:
        plain = process.resize

        def resize(rows: int, columns: int) -> None:
            plain(rows, columns)
            resized.release()

        process.resize = resize  # type: ignore[method-assign]
        with raw_terminal(process, descriptor, Interrupts()):
            assert resized.acquire(timeout=10)
            _resize(descriptor, 50, 200)
            os.kill(os.getpid(), signal.SIGWINCH)
            assert resized.acquire(timeout=10)

    assert [(30, 100), (50, 200)] == process.sizes
