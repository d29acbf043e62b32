"""Several processes share a store, and any of them may be killed at any moment."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oubliette_core.testing.faults import Slow
from oubliette_core.testing.images import build_image, files_layer, random_layer
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded.images import ImageStore
from tests.embedded.images import worker
from tests.embedded.images.conftest import ROOT
from tests.embedded.images.test_pull import OWN
from tests.embedded.images.test_use import leftovers


def start(store: ImageStore, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that works on a store."""
    command = [sys.executable, "-m", worker.__name__, str(store._disk.root), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def outcomes(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for processes, and give their exit codes and what they printed."""
    done = []
    for process in processes:
        out, err = process.communicate(timeout=90)
        done.append((process.returncode, out, err))
    return done


@pytest.fixture
def images(fault_registry: FaultRegistry) -> list[str]:
    """References of images that share a layer; each layer has a file that says which image it belongs to."""
    shared = random_layer(0.3, "shared")
    return [
        fault_registry.add(
            build_image(
                files_layer({f"/d{number}/word-{number}": word for number in range(40)}),
                shared,
                files_layer({"/word-z": word, "/.wh.d1": ""}),
                platform=OWN,
            ),
            word,
        )
        for word in ("one", "two")
    ]


def test_processes_that_pull_one_image_download_it_once(
    store: ImageStore, fault_registry: FaultRegistry, images: list[str]
) -> None:
    """The first one to come downloads a layer, the others wait and share."""
    slow = fault_registry.fail("one", Slow(1_000_000, times=3))
    done = outcomes([start(store, "pull", images[0]) for _ in range(4)])
    expected = store.inspect(images[0], None).id

    assert [(0, expected, "")] * 4 == done
    assert 3 == fault_registry.count("layer")
    assert slow.hits


@pytest.mark.slow
def test_processes_do_not_get_into_each_others_way(store: ImageStore, images: list[str]) -> None:
    """While some remove, others pull and use what they remove: nobody sees half an image."""
    done = outcomes([start(store, "work", "3", f"w{number}", *images) for number in range(4)])
    for image in images:
        store.pull(image, None)
        assert store.remove(image)

    assert [(0, "", "")] * 4 == done
    assert [] == leftovers(store)


@pytest.mark.slow
def test_a_killed_process_leaves_a_store_that_works(store: ImageStore, images: list[str]) -> None:
    """Whatever it was at: pulling, unpacking, removing. What is listed is whole, and the rest can be had again."""
    when = random.Random(1)  # noqa: S311 - must be repeatable
    for _ in range(10):
        process = start(store, "work", "60", "killed", *images)
        assert process.stdout
        _begun(store, process)
        time.sleep(when.uniform(0, 0.25))
        process.kill()
        process.communicate()
        store.release("killed-0")
        for image in images:
            if store.exists(image, None):
                worker.look(store, image, "after")
    outcome = outcomes([start(store, "work", "0.5", "last", *images)])
    for path in store._disk.uses.iterdir():
        store.release(path.stem)
    for image in images:
        store.pull(image, None)
        store.remove(image)

    assert [(0, "", "")] == outcome
    assert [] == [one for one in leftovers(store) if not one.startswith("partial/")]


def _begun(store: ImageStore, process: subprocess.Popen[str]) -> None:
    """Wait until a process is at work."""
    before = _seen(store)
    deadline = time.monotonic() + 30
    while _seen(store) == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def _seen(store: ImageStore) -> set[Path]:
    root = store._disk.root
    return {path for name in ("l", "locks", "partial", "uses") for path in (root / name).glob("*")}
