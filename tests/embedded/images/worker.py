"""A process that works on a store: once, or again and again until it is killed.

python -m tests.embedded.images.worker ROOT pull IMAGE          pull, and print the id
python -m tests.embedded.images.worker ROOT work SECONDS NAME IMAGE...    pull, use, look, release, remove
"""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path

from oubliette_core.errors import ImageNotFoundError, InUseError
from oubliette_embedded.images import ImageStore


def look(store: ImageStore, image: str, user: str) -> None:
    """Use an image, and see that all of it is there: each layer has a file that says what the next one says."""
    used = store.use(image, None, user)
    words = {path.read_text() for layer in used.layers for path in layer.rglob("word-*")}
    store.release(user)
    if len(words) != 1:
        raise SystemExit(f"{image} shows {words}")


def work(store: ImageStore, seconds: float, name: str, images: list[str]) -> None:
    """Do all that there is to do with a store, for some time, beside others who do the same."""
    end = time.monotonic() + seconds
    for number, image in enumerate(itertools.cycle(images)):
        if time.monotonic() >= end:
            return
        store.pull(image, None)
        try:
            look(store, image, f"{name}-{number}")
            store.remove(image)
        except (ImageNotFoundError, InUseError):
            pass  # others remove, and others use


def main() -> None:
    """Do what the command line says."""
    root, what, *rest = sys.argv[1:]
    store = ImageStore(Path(root))
    if what == "pull":
        sys.stdout.write(store.pull(rest[0], None).id)
    else:
        work(store, float(rest[0]), rest[1], rest[2:])


if __name__ == "__main__":
    main()
