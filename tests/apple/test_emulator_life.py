"""The emulator's containers live, fail and end as the real command's do (rules 12 to 20)."""

import json
import re
import time

import pytest

from tests.apple.conftest import Install
from tests.apple.installed import Emulator
from tests.apple.test_emulator_grammar import refused
from tests.images import ImageMaker

_NOT_FOUND = 'Error: internalError: "failed to {} container" (cause: "notFound: "container with ID nobody not found"")'


def state(mac: Emulator, name: str) -> dict[str, object]:
    """Return the status that inspect prints."""
    status: dict[str, object] = json.loads(mac.run("inspect", name).stdout)[0]["status"]
    return status


def test_e12_identifiers(mac: Emulator, image: str) -> None:
    """An id is matched as a whole, is a UUID when none is given, and has 2 to 63 characters."""
    unnamed = mac.run("create", image).stdout.decode()
    mac.run("create", "--name=box", image)

    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\n", unnamed)
    assert "Error: container not found: bo" == refused(mac, "inspect", "bo")
    assert "Error: container already exists: box" == refused(mac, "create", "--name=box", image)
    assert "Error: container ID x is not a valid container ID" == refused(mac, "create", "--name=x", image)
    assert 0 == mac.run("create", f"--name={'x' * 63}", image).returncode
    assert refused(mac, "create", f"--name={'x' * 64}", image).endswith("is not a valid container ID")


def test_e12_names_before_1_2(install: Install, image: str) -> None:
    """Before 1.2 longer names pass, and the words of refusals are others."""
    mac = install("0.12")
    mac.run("create", "--name=box", image)
    taken = 'Error: failed to create container (cause: "exists: "container already exists: box"")'

    assert taken == refused(mac, "create", "--name=box", image)
    assert "Error: invalid entity name x" == refused(mac, "create", "--name=x", image)
    assert 0 == mac.run("create", f"--name={'x' * 64}", image).returncode


def test_e13_create(mac: Emulator, image: str) -> None:
    """Create prints the id alone, pulls silently, and its container was never started."""
    made = mac.run("create", "--name=box", image)

    assert (0, b"box\n", b"") == (made.returncode, made.stdout, made.stderr)
    assert {"state": "stopped", "networks": []} == state(mac, "box")
    assert image in mac.run("image", "list", "--quiet").stdout.decode()


def test_e14_run(mac: Emulator, image: str) -> None:
    """Run passes streams and exit code through, prints the id when detached, and cleans up when it fails."""
    foreground = mac.run("run", "--progress=none", image, "sh", "-c", "echo out; echo err >&2; exit 3")
    detached = mac.run("run", "-d", "--progress=none", "--name=box", image)
    failed = mac.run("run", "--name=gone", "--progress=none", image, "/no/such/program")

    assert (3, b"out\n", b"err\n") == (foreground.returncode, foreground.stdout, foreground.stderr)
    assert (0, b"box\n", b"") == (detached.returncode, detached.stdout, detached.stderr)
    assert "running" == state(mac, "box")["state"]
    assert "Error: container with id box already exists" == refused(mac, "run", "--name=box", image)
    assert (1, True) == (failed.returncode, b"failed to bootstrap container" in failed.stderr)
    assert "Error: container not found: gone" == refused(mac, "inspect", "gone")


@pytest.mark.parametrize(("profile", "lines"), [("0.9", False), ("0.12", True), ("1.2", True)])
def test_e15_progress_lines(install: Install, image: str, profile: str, *, lines: bool) -> None:
    """From 0.12 on, who does not ask for silence gets lines of progress on standard error."""
    mac = install(profile)
    pulled = mac.run("image", "pull", image)
    ran = mac.run("run", "--rm", image, "true")
    quiet = mac.run("image", "pull", "--progress=none", image)

    assert (lines, lines) == (b"[1/2] Fetching image [0s]\n" in pulled.stderr, b"Starting container" in ran.stderr)
    assert (b"", b"", b"") == (pulled.stdout, quiet.stdout, quiet.stderr)


def test_e16_start_stop_kill_delete(mac: Emulator, image: str) -> None:
    """Start and stop are idempotent, kill and delete are not."""
    mac.run("create", "--name=box", image)
    starts = [mac.run("start", "box") for _ in range(2)]
    attached = "Error: attach is currently unsupported on already running containers"
    cause = 'invalidState: "container box is running and can not be deleted"'
    running = f'Error: internalError: "failed to delete container" (cause: "{cause}")'

    assert [(0, b"box\n")] * 2 == [(start.returncode, start.stdout) for start in starts]
    assert attached == refused(mac, "start", "-a", "box")
    assert running == refused(mac, "delete", "box")
    assert (0, b"") == ((all_of_them := mac.run("delete", "--all")).returncode, all_of_them.stdout)
    assert [(0, b"box\n")] * 2 == [((stop := mac.run("stop", "box")).returncode, stop.stdout) for _ in range(2)]
    assert refused(mac, "kill", "box").endswith('no runtime client exists: container is stopped"")')
    assert b"box\n" == mac.run("delete", "--force", "box").stdout
    for verb in ("stop", "kill", "delete"):
        assert _NOT_FOUND.format(verb) == refused(mac, verb, "nobody")
    assert "Error: get failed: container nobody not found" == refused(mac, "start", "nobody")


def test_e16_unknown_ids_in_0_9(install: Install) -> None:
    """Old versions say nothing about unknown ids, except when deleting."""
    mac = install("0.9")
    silent = [mac.run(verb, "nobody") for verb in ("stop", "kill")]

    assert [(0, b"", b"")] * 2 == [(call.returncode, call.stdout, call.stderr) for call in silent]
    assert refused(mac, "delete", "nobody").endswith('"failed to delete one or more containers: ["nobody"]"')


def test_e17_several_ids(mac: Emulator, image: str) -> None:
    """What succeeded is printed, all that failed is told at once, and an id counts once."""
    mac.run("create", "--name=box", image)
    answer = mac.run("delete", "box", "nobody", "box", "noone")
    lines = answer.stderr.decode().splitlines()

    assert (1, b"box\n") == (answer.returncode, answer.stdout)
    assert [True, True] == [lines[0].startswith("Error: internalError: "), lines[1].startswith("internalError: ")]
    assert [True, True] == ["nobody not found" in lines[0], "noone not found" in lines[1]]


def test_e18_stop_signal_and_kill(mac: Emulator, image: str, images: ImageMaker) -> None:
    """A process that ignores the signal is killed in time; an init and the image's signal end it at once."""
    mac.run("run", "-d", "--name=deaf", image, "sleep", "1000")
    mac.run("run", "-d", "--init", "--name=reaped", image, "sleep", "1000")
    quits = images.push(
        "quits", command=("/bin/sh", "-c", "trap 'exit 0' QUIT; while :; do sleep 0.1; done"), stop_signal="SIGQUIT"
    )
    mac.run("run", "-d", "--rm", "--name=quits", quits.reference)
    took = {}
    for name in ("deaf", "reaped", "quits"):
        started = time.monotonic()
        mac.run("stop", "--time=3", name)
        took[name] = time.monotonic() - started

    assert took["deaf"] >= 3
    assert (True, True) == (took["reaped"] < 2.5, took["quits"] < 2.5)
    assert "stopped" == state(mac, "deaf")["state"]
    assert "Error: container not found: quits" == refused(mac, "inspect", "quits")


def test_e19_the_record_may_be_late(mac: Emulator, image: str) -> None:
    """A container may be there for a while after run has returned."""
    mac.configure(lag=1.5)
    ended = mac.run("run", "--rm", "--name=box", image, "true")
    names = [mac.run("list", "--all", "--quiet").stdout]
    time.sleep(1.6)  # the record is late by design; nothing happens that could be waited for
    names.append(mac.run("list", "--all", "--quiet").stdout)

    assert (0, [b"box\n", b""]) == (ended.returncode, names)


def test_e20_no_exit_code_anywhere(mac: Emulator, image: str) -> None:
    """No command tells how a container ended."""
    mac.run("run", "--name=box", image, "sh", "-c", "exit 42")
    shown = mac.run("inspect", "box").stdout + mac.run("list", "--all").stdout

    assert b'"state" : "stopped"' in shown
    assert not re.search(rb"exit|\b42\b", shown.replace(b"exit 42", b""))
