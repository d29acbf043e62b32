"""Ctrl-C ends a command within two seconds with code 130, whatever it is doing."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oubliette_core.cli.interrupts import Interrupts

_PROGRAM = """
import hashlib, sys, threading, time
from oubliette_core.cli.interrupts import Interrupts

def restore():
    print("restored", flush=True)

def ready():
    print("ready", flush=True)

with Interrupts() as interrupts:
    try:
        {body}
    except KeyboardInterrupt:
        print("interrupted", interrupts.fired, flush=True)
"""


@contextmanager
def _running(body: str) -> Iterator[subprocess.Popen[str]]:
    """Run ``body`` in a process, up to its call of ``ready``."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM.format(body=body)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            assert "ready\n" == child.stdout.readline()
            yield child
        finally:
            child.kill()


def _end(child: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=30)
    return child.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_work_that_can_be_cancelled_is_asked_to_stop(number: signal.Signals) -> None:
    """It ends in order, and then the command does."""
    body = "with interrupts.cancellable() as cancel: ready(); print(cancel.wait(60), flush=True)"
    with _running(body) as child:
        child.send_signal(number)

        assert (0, "True\ninterrupted True\n", "") == _end(child)


def test_other_work_is_left_at_once() -> None:
    """What cannot be cancelled is interrupted as Python does it."""
    with _running("ready(); time.sleep(60)") as child:
        child.send_signal(signal.SIGINT)

        assert (0, "interrupted True\n", "") == _end(child)


@pytest.mark.parametrize("stuck", ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"])
def test_what_does_not_stop_is_left_within_two_seconds(stuck: str) -> None:
    """A stalled engine, or a call into C that Python cannot interrupt; the terminal is put in order first."""
    with _running(f"with interrupts.cancellable(), interrupts.restoring(restore): ready(); {stuck}") as child:
        began = time.monotonic()
        child.send_signal(signal.SIGINT)

        assert (130, "restored\n", "\nInterrupted.\n") == _end(child)
        assert 1.1 < time.monotonic() - began < 2.0


def test_the_second_ctrl_c_ends_at_once() -> None:
    """Whoever presses it again does not want to wait."""
    body = "with interrupts.cancellable() as c: c.on_cancel(ready); ready(); time.sleep(60)"
    with _running(body) as child:
        assert child.stdout is not None
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        assert "ready\n" == child.stdout.readline()
        while child.poll() is None:
            child.send_signal(signal.SIGINT)

        assert (130, "", "\nInterrupted.\n") == _end(child)
        assert time.monotonic() - began < 1.1


def test_a_ctrl_c_can_do_something_else() -> None:
    """Once: whoever presses it again wants to leave."""
    body = (
        "e = threading.Event(); c = interrupts.absorbing(e.set); c.__enter__(); ready();"
        "e.wait(60); print(interrupts.fired, flush=True); time.sleep(60)"
    )
    with _running(body) as child:
        assert child.stdout is not None
        child.send_signal(signal.SIGINT)
        assert "False\n" == child.stdout.readline()
        child.send_signal(signal.SIGINT)

        assert (0, "interrupted True\n", "") == _end(child)


def test_other_signals_end_the_command_whatever_a_ctrl_c_does() -> None:
    """A SIGTERM is no key that somebody pressed."""
    with _running("c = interrupts.absorbing(ready); c.__enter__(); ready(); time.sleep(60)") as child:
        child.send_signal(signal.SIGTERM)

        assert (0, "interrupted True\n", "") == _end(child)


def test_what_the_caller_ignores_stays_ignored() -> None:
    """``nohup`` means it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts():
            assert signal.SIG_IGN == signal.getsignal(signal.SIGHUP)
            assert signal.SIG_IGN != signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_afterwards_signals_are_handled_as_before() -> None:
    """A program that embeds the command line keeps its own handlers."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    with Interrupts():
        pass

    assert before == [signal.getsignal(number) for number in numbers]
    assert -1 == signal.set_wakeup_fd(-1)


def test_in_another_thread_signals_are_left_alone() -> None:
    """Only the main thread may handle them."""
    fired = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.cancellable() as cancel:
            fired.append(cancel.cancelled)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert [False] == fired
