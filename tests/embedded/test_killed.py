"""Whatever of Oubliette is killed, and whenever: the next command finds a consistent state, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from oubliette_core.models import ContainerSpec
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.calls import eventually

ROOT = Path(__file__).parents[2]
ROUNDS = 50


@attrs.define
class Expected:
    """What is known of the container of one name.

    :param there: it is; None when it was being made or removed at the end.
    :param words: what its file may hold; nothing when it has not been written yet.
    """

    there: bool | None = False
    words: set[str] = attrs.field(factory=lambda: {""})


def _learn(known: dict[str, Expected], lines: list[dict[str, Any]]) -> None:
    """Take in what was done; what had only begun may have been done, or not."""
    for line in lines:
        one = known.setdefault(line["name"], Expected())
        match line:
            case {"begun": "write", "word": word}:
                one.words.add(word)
            case {"begun": "create"} if one.there is False:
                one.there, one.words = None, {""}
            case {"begun": "remove"} if one.there:
                one.there = None
            case {"done": "create"}:
                one.there, one.words = True, {""}
            case {"failed": "create"}:
                one.there = True  # there was one of the name
            case {"done": "remove"}:
                one.there, one.words = False, {""}
            case {"done": "write", "word": word}:
                one.words = {word}


def _kill_all(root: Path, client: subprocess.Popen[str], chance: random.Random) -> None:
    """Kill the client and every supervisor of this root, in any order; also those that it starts meanwhile."""
    victims = [client.pid, *_supervisors(root)]
    chance.shuffle(victims)
    while victims:
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                process = os.pidfd_open(pid)
                signal.pidfd_send_signal(process, signal.SIGKILL)
                select.select([process], [], [], 10)
                os.close(process)
        victims = _supervisors(root)


def _supervisors(root: Path) -> list[int]:
    """Find the processes that hold the containers of a root: they have their directory open."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            cmdline = (path / "cmdline").read_bytes()
            links = [str(one.readlink()) for one in (path / "fd").iterdir()] if b"supervisor.main" in cmdline else []
        except OSError:
            continue
        if any(link.startswith(str(root)) for link in links):
            found.append(int(path.name))
    return found


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_by_a_kill_at_any_moment(
    root: Path, image: str, runtime: Runtime, make_runtime: Callable[..., Runtime]
) -> None:
    """What was done is there, what was not is not, everything that is there works, and nothing else is left."""
    chance = random.Random("kill")  # noqa: S311 - has to be the same each time
    known: dict[str, Expected] = {}
    for number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-m", "tests.embedded.careless", str(root), image, str(number)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        ) as client:
            assert client.stdout is not None
            lines = [client.stdout.readline()]
            time.sleep(chance.uniform(0.0, 0.5))  # any moment
            _kill_all(root, client, chance)
            lines += client.stdout.readlines()
        _learn(known, [json.loads(line) for line in lines if line.endswith("\n")])
        _look(make_runtime(), known)
    for name in known:
        runtime.remove(name, force=True)
    runtime.remove(runtime.create(ContainerSpec(image=image)).id)

    assert () == runtime.list_containers()
    assert [] == [path for place in ("containers", "names", "new", "trash") for path in (root / place).iterdir()]
    assert eventually(lambda: not _supervisors(root))
    assert runtime.remove_image(image)


def _look(runtime: Runtime, known: dict[str, Expected]) -> None:
    """See that what is there agrees with what is known; what was uncertain is known afterwards."""
    listed = {info.name: info for info in runtime.list_containers()}
    for name, expected in known.items():
        assert expected.there in (None, name in listed), (name, expected)
        expected.there = name in listed
        if not expected.there:
            expected.words = {""}
            continue
        assert listed[name].id == runtime.inspect(name).id
        box = Box(runtime, runtime.start(name).id)
        found = box.says("cat /kept 2>/dev/null; :")

        assert found in expected.words, name
        expected.words = {found}
