"""Pulls of the embedded runtime against the least that anybody could do: the same blobs over urllib."""

import contextlib
import functools
import hashlib
import itertools
import json
import os
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oubliette_core.testing.images import busybox_image, files_layer, find_busybox, random_layer
from oubliette_core.testing.upload import push
from oubliette_embedded.images import ImageStore
from tests.bench.measure import Outcome, compare
from tests.engine import running_engine

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


def _get(registry: str, path: str) -> Any:
    request = urllib.request.Request(f"http://{registry}/v2/bench/pull/{path}", headers={"Accept": _MANIFEST})
    return urllib.request.urlopen(request, timeout=60)  # noqa: S310 - a registry of this machine


def _download(registry: str, folder: Path) -> list[Path]:
    """Download all blobs one after the other, and verify nothing."""
    with _get(registry, "manifests/latest") as response:
        manifest = json.load(response)
    files = []
    for blob in (manifest["config"], *manifest["layers"]):
        files.append(folder / blob["digest"].partition(":")[2])
        with _get(registry, f"blobs/{blob['digest']}") as response, files[-1].open("wb") as file:
            while chunk := response.read(1024 * 1024):
                file.write(chunk)
    return files[1:]


def _download_and_unpack(registry: str, folder: Path) -> None:
    """Do the same, verify and unpack, with what the standard library has for it, and trust what is in the layers."""
    for number, layer in enumerate(_download(registry, folder)):
        with layer.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != layer.name:
                raise AssertionError(f"{layer} is damaged")
        with tarfile.open(layer) as archive:
            archive.extractall(folder / f"tree-{number}", filter="fully_trusted")  # noqa: S202 - made here


def pulls(scale: float) -> Iterator[Outcome]:
    """Compare pulls of an image with large layers and one with many files, and of one that is here."""
    shapes = {
        "24 MB in three layers": [random_layer(8, word) for word in "abc"],
        "5,000 files": [files_layer({f"/f{number}": f"{number}" * 100 for number in range(5000)})],
    }
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(running_engine())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        number = itertools.count()

        def fresh() -> Path:
            folder = root / str(next(number))
            folder.mkdir()
            return folder

        image = f"{engine.registry}/bench/pull:latest"
        for shape, layers in shapes.items():
            push(busybox_image(find_busybox(engine.busybox), layers=layers), engine.registry, "bench/pull")
            yield compare(
                f"pull of {shape}",
                {
                    "urllib": lambda: _download(engine.registry, fresh()),
                    "urllib, hashlib, tarfile": lambda: _download_and_unpack(engine.registry, fresh()),
                    "oubliette-embedded": lambda: ImageStore(fresh()).pull(image, None),
                },
                rounds=max(3, int(10 * scale)),
            )
        store = ImageStore(fresh())
        store.pull(image, None)
        yield compare(
            "pull of what is here",
            {
                "urllib": lambda: _get(engine.registry, "manifests/latest").read(),
                "oubliette-embedded": functools.partial(store.pull, image, None),
            },
            rounds=int(100 * scale),
        )
        yield compare(
            "use for a container",
            {
                "a small file, synced": lambda: _synced(root / "synced"),
                "oubliette-embedded": lambda: store.use(image, None, "bench"),
            },
            rounds=int(200 * scale),
        )


def _synced(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())


BENCHES = {"pulls": pulls}
