"""Images that are made on the spot: of busybox, or of what this machine has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from oubliette_core.testing.images import File, Image, build_image, busybox_image, files_layer, random_layer

_PROGRAMS = ("sh", "cat", "env", "hostname", "id", "ls", "mkdir", "ps", "sleep", "uname")
_REQUIRED = frozenset({"sh", "cat", "id", "sleep"})
_PATH = "/usr/local/bin:/usr/bin:/bin"
_MEGABYTES = 24
"""Size of a layer that makes the pull of an image last long enough to be seen."""


def small_image(busybox: Path, *, files: Mapping[str, str], seed: str, labels: Mapping[str, str]) -> Image:
    """Make an image of busybox."""
    return busybox_image(busybox, files=files, layers=[random_layer(_MEGABYTES, seed)], labels=labels)


def machine_image(*, files: Mapping[str, str], seed: str, labels: Mapping[str, str]) -> Image:
    """Make an image of a few programs of this machine, with the libraries that they need."""
    own = files_layer({"/etc/oubliette-image": "made for the demo\n", **files})
    layers = (files_layer(_programs()), own, random_layer(_MEGABYTES, seed))
    return build_image(*layers, command=("/bin/sh",), env={"PATH": _PATH}, labels=labels, platform=_platform())


def _programs() -> dict[str, File | bytes | str]:
    found = {name: path for name in _PROGRAMS if (path := shutil.which(name, path=_PATH))}
    missing = sorted(_REQUIRED - found.keys())
    if missing:
        raise FileNotFoundError(f"this machine has no {', '.join(missing)} in {_PATH}")
    copies = {f"/bin/{name}": Path(path) for name, path in found.items()}
    for path in found.values():
        copies |= {library: Path(library) for library in _libraries(path)}
    directory = File(mode=0o755)
    parents = {str(parent) for name in copies for parent in Path(name).parents} - {"/"}
    files: dict[str, File | bytes | str] = dict.fromkeys(
        sorted(parents | {"/dev", "/etc", "/home", "/proc", "/root", "/sys"}), directory
    )
    files["/tmp"] = File(mode=0o1777)  # noqa: S108 - in the image
    files["/etc/passwd"] = "root:x:0:0:root:/root:/bin/sh\n"
    files["/etc/group"] = "root:x:0:\n"
    return files | {name: File(content=path.read_bytes(), mode=0o755) for name, path in copies.items()}


def _libraries(program: str) -> list[str]:
    """Name the libraries of a program and what loads them, as ``ldd`` tells; none for a static one."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+)(?= \(0x)", done.stdout)


def _platform() -> str:
    return {"aarch64": "linux/arm64"}.get(os.uname().machine, "linux/amd64")
