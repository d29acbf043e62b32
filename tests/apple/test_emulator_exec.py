"""The emulator runs commands in containers as the real command does (rules 21 to 29)."""

import os
import pty
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from tests.apple.conftest import Install
from tests.apple.installed import Emulator
from tests.apple.test_emulator_grammar import refused

_LOST = (
    'Error: interrupted: "XPC connection error: Connection interrupted"\n'
    "Ensure container system service has been started with `container system start`."
)


@pytest.fixture(name="boxed")
def _boxed(mac: Emulator, image: str) -> Emulator:
    """An emulator with a running container `box`."""
    return with_box(mac, image)


def with_box(mac: Emulator, image: str, *options: str) -> Emulator:
    """Run a container `box`."""
    assert 0 == mac.run("run", "-d", "--name=box", *options, image).returncode
    return mac


def sleepers(mac: Emulator) -> int:
    """Return 0 when a command that sleeps is at work in the container, as grep does."""
    script = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -q 'slee[p] 1000'"
    return mac.run("exec", "box", "sh", "-c", script).returncode


def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def test_e21_not_found_and_not_running(mac: Emulator, image: str) -> None:
    """A command needs a container that runs."""
    mac.run("create", "--name=box", image)

    assert "Error: get failed: container nobody not found" == refused(mac, "exec", "nobody", "true")
    assert "Error: container box is not running" == refused(mac, "exec", "box", "true")


def test_e22_exit_status(boxed: Emulator) -> None:
    """Exit codes and signals pass through; a program that is missing is an error of the command."""
    codes = [boxed.run("exec", "box", "sh", "-c", f"exit {code}").returncode for code in (0, 1, 64, 127, 255)]
    killed = boxed.run("exec", "box", "sh", "-c", "kill -9 $$")

    assert [0, 1, 64, 127, 255, 137] == [*codes, killed.returncode]
    assert "failed to find target executable nosuch" in refused(boxed, "exec", "box", "nosuch")


def test_e23_streams(boxed: Emulator) -> None:
    """Streams are separate and exact; a terminal joins them, and needs one on our side for input."""
    script = r"printf 'a\377b\n\n'; printf 'c\nd' >&2"
    plain = boxed.run("exec", "box", "sh", "-c", script)
    merged = boxed.run("exec", "-t", "box", "sh", "-c", "echo one; echo two >&2")
    no_terminal = boxed.run("exec", "-it", "box", "true", stdin=b"")

    assert (b"a\xffb\n\n", b"c\nd") == (plain.stdout, plain.stderr)
    assert (b"one\r\ntwo\r\n", b"") == (merged.stdout, merged.stderr)
    assert (1, True) == (no_terminal.returncode, b"Inappropriate ioctl" in no_terminal.stderr)


def test_e23_a_terminal(boxed: Emulator) -> None:
    """A conversation through a terminal works."""
    outer, inner = pty.openpty()
    with subprocess.Popen([str(boxed.command), "exec", "-it", "box", "sh", "-c", "tty; read word; echo got $word"],
                          stdin=inner, stdout=inner, stderr=inner) as call:  # fmt: skip
        os.close(inner)
        os.write(outer, b"ping\n")
        shown = b""
        while b"got ping" not in shown:
            shown += os.read(outer, 1000)
        code = call.wait(20)
    os.close(outer)

    assert (0, True) == (code, b"/dev/pts/" in shown)


def test_e24_stdin(boxed: Emulator) -> None:
    """Without -i there is no input; with it every byte arrives, and the end."""
    big = os.urandom(300_000)
    without = boxed.run("exec", "box", "sh", "-c", "cat; echo end", stdin=big)
    given = boxed.run("exec", "-i", "box", "cat", stdin=big)

    assert (b"end\n", True) == (without.stdout, big == given.stdout)


def test_e25_defaults_and_options(mac: Emulator, image: str) -> None:
    """Settings come from the first process; a variable that is set twice has its first value but for shells."""
    with_box(mac, image, "--env=FROM=init", "--user=1000:1000", "--workdir=/made/at/start")
    shown = mac.run("exec", "box", "sh", "-c", "id -u; pwd; echo $FROM").stdout
    options = mac.run(
        "exec", "-e", "FROM=exec", "-w", "/made/by/exec", "-u", "0", "box", "sh", "-c", "id -u; pwd; echo $FROM"
    )
    first_of_two = mac.run("exec", "-e", "FROM=exec", "box", "env").stdout

    assert b"1000\n/made/at/start\ninit\n" == shown
    assert b"0\n/made/by/exec\nexec\n" == options.stdout
    assert b"\nFROM=init\n" in b"\n" + first_of_two
    assert "failed to start process" in refused(mac, "exec", "-u", "nobody-here", "box", "true")


def test_e26_detached(boxed: Emulator) -> None:
    """A detached command lives on in the container."""
    answer = boxed.run("exec", "-d", "box", "sh", "-c", "touch /begun; exec sleep 1000")
    until(lambda: boxed.run("exec", "box", "test", "-e", "/begun").returncode == 0)
    alive = sleepers(boxed)

    assert (0, b"box\n", 0) == (answer.returncode, answer.stdout, alive)


def test_e27_signals_are_not_forwarded(boxed: Emulator) -> None:
    """Versions 1.0 to 1.2 do not pass signals on; the third ends the command alone."""
    call = boxed.popen("exec", "box", "sh", "-c", "echo begun; exec sleep 1000")
    assert call.stdout
    assert call.stderr
    assert b"begun\n" == call.stdout.readline()
    call.send_signal(signal.SIGTERM)
    said = call.stderr.readline()
    call.send_signal(signal.SIGTERM)
    call.stderr.readline()
    call.send_signal(signal.SIGTERM)
    _, rest = call.communicate(timeout=20)

    assert b"failed to send signal: [" == said[:24]
    assert (1, b"Received 3 SIGINT/SIGTERM's, forcefully exiting.\n") == (call.returncode, rest)
    assert 0 == sleepers(boxed)


def test_e27_signals_are_forwarded_before_1_0(install: Install, image: str) -> None:
    """Older versions pass signals on."""
    mac = with_box(install("0.12"), image)
    call = mac.popen("exec", "box", "sh", "-c", "echo begun; exec sleep 1000")
    assert call.stdout
    call.stdout.readline()
    call.send_signal(signal.SIGTERM)
    call.communicate(timeout=30)

    assert 143 == call.returncode


def test_e27_killed(boxed: Emulator) -> None:
    """Killing the command leaves the process alone."""
    call = boxed.popen("exec", "box", "sh", "-c", "echo begun; exec sleep 1000")
    assert call.stdout
    call.stdout.readline()
    call.kill()
    call.communicate(timeout=20)

    assert 0 == sleepers(boxed)


@pytest.mark.parametrize("verb", [("delete", "--force"), ("stop", "--time=0")], ids=" ".join)
def test_e28_the_container_goes_away(boxed: Emulator, verb: tuple[str, ...]) -> None:
    """A command whose container ends says that the service may be down."""
    call = boxed.popen("exec", "box", "sh", "-c", "echo begun; exec sleep 1000")
    assert call.stdout
    call.stdout.readline()
    boxed.run(*verb, "box")
    _, said = call.communicate(timeout=30)

    assert (1, _LOST) == (call.returncode, said.decode().rstrip("\n"))


def test_e29_lost_output(boxed: Emulator) -> None:
    """Output can be lost, with and without an error."""
    boxed.fault(slow_reader=True)
    answer = boxed.run("exec", "box", "echo", "lost")
    boxed.fault(unflushed=True)
    silent = boxed.run("exec", "box", "echo", "lost")

    assert (1, b"", True) == (answer.returncode, answer.stdout, b"CancellationError" in answer.stderr)
    assert (0, b"", b"") == (silent.returncode, silent.stdout, silent.stderr)
