"""The program on PATH stands for the call that a server carries out: what it has is the call's, and its end, too."""

import os
import signal
from pathlib import Path

from oubliette_core.testing.kit.calls import eventually
from tests.apple.installed import Emulator


def test_what_the_client_has(mac: Emulator, tmp_path: Path) -> None:
    """Words, environment and directory reach the call as they are, whatever bytes are in them."""
    name = os.fsdecode(b"\xff \xc3\xa4'\"$x")
    (tmp_path / name).write_bytes(b"no archive")
    call = mac.popen("image", "load", f"--input={name}", env={"WORD": name}, cwd=tmp_path)
    _, said = call.communicate(timeout=20)
    [seen] = mac.calls()

    assert (1, False) == (call.returncode, b"file does not exist" in said), said
    assert (["image", "load", f"--input={name}"], name) == (seen["argv"], seen["env"]["WORD"])


def test_a_killed_client_ends_its_call(mac: Emulator) -> None:
    """A runtime kills what does not answer in time, and nothing may run on in its place."""
    mac.fault(hang="list")
    call = mac.popen("list")

    assert eventually(lambda: len(mac.processes()) == 1 and mac.calls())
    call.kill()
    call.communicate()
    assert eventually(lambda: not mac.processes())


def test_a_call_that_dies_is_seen(mac: Emulator) -> None:
    """The client never waits for one that has gone, and ends as that did."""
    mac.fault(hang="list")
    call = mac.popen("list")

    assert eventually(mac.processes)
    os.kill(mac.processes()[0], signal.SIGKILL)
    assert 128 + signal.SIGKILL == call.wait(20)
    call.communicate()
