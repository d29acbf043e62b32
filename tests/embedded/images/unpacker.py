"""Unpacks layers in a process of its own, as another user: orders on stdin, answers on stdout, one JSON object a line.

All that is needed is imported while the process may still read it; then it becomes that user, for good.
"""

from __future__ import annotations

import ctypes  # noqa: F401 - what the code imports late cannot be read any more by then, here and below
import encodings.idna  # noqa: F401
import json
import os
import sys
from pathlib import Path
from typing import Any

from oubliette_core import logins  # noqa: F401
from oubliette_core.errors import RuntimeOperationError
from oubliette_embedded.images import ImageStore, Limits, _merge, _pull, _registry, _tar, _transport, remove_tree  # noqa: F401
from oubliette_embedded.images._failures import Failure
from oubliette_embedded.images._unpack import unpack


def unpack_file(layer: Path, target: Path, diff_id: str, **limits: int) -> dict[str, Any]:
    """Unpack a layer into a directory, and say what came of it."""
    target.mkdir()
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with layer.open("rb") as file:
            size = layer.stat().st_size
            done = unpack(file, root, diff_id, compressed=size, limits=Limits(**limits), step=lambda: None)
    except Failure as failure:
        return {"failure": failure.reason, "why": failure.why}
    finally:
        os.close(root)
    return {"size": done.size, "entries": done.entries, "hides_all": done.hides_all}


def pull(root: Path, image: str) -> dict[str, Any]:
    """Pull an image into a store, and say where its layers are."""
    store = ImageStore(root)
    try:
        store.pull(image, None)
        used = store.use(image, None, "user")
        return {"layers": [str(layer) for layer in used.layers], "id": used.id}
    except RuntimeOperationError as error:
        return {"failure": error.message}


def carry_out(order: dict[str, Any]) -> dict[str, Any]:
    """Carry an order out."""
    what = order.pop("what")
    if what == "unpack":
        return unpack_file(Path(order.pop("layer")), Path(order.pop("target")), **order)
    if what == "pull":
        return pull(Path(order["root"]), order["image"])
    remove_tree(Path(order["path"]))
    return {}


def main() -> None:
    """Become the user that the command line names, and carry orders out."""
    user = int(sys.argv[1])
    _tar._zstd()
    _transport._tls()
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    for line in sys.stdin:
        try:
            answer = carry_out(json.loads(line))
        except Exception as error:  # noqa: BLE001 - the test that gave the order shows it
            answer = {"failure": "error", "why": repr(error)}
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
