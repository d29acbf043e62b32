"""The options that bubblewrap is called with: how the sandbox of a container looks."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import InvalidSpecError
from oubliette_core.models import Mount
from oubliette_embedded._specs import missing_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from oubliette_embedded._definition import Definition
    from oubliette_embedded._merged import Merged
    from oubliette_embedded.supervisor.users import User

__all__ = ["Sandboxed", "arguments"]

_SHARED_MEMORY = 64 * 1024 * 1024
_FILES = ("hosts", "hostname", "resolv.conf")
"""Of ``/etc``, which every container has its own of."""


@attrs.frozen(kw_only=True)
class Sandboxed:
    """What a sandbox is made of.

    :param layers: of the image, lowest first. :param tree: the same with what the container has written.
    :param mapped: all ids are mapped, by a user namespace that there is already.
    :param volumes: directory of the volumes. :param env: of the main process.
    """

    directory: Path
    definition: Definition
    layers: Sequence[Path]
    tree: Merged
    user: User
    mapped: bool
    volumes: Path
    env: Mapping[str, str]


def arguments(box: Sandboxed) -> bytes:
    """Return the options, each ended by NUL. :raises InvalidSpecError: something cannot be mounted."""
    words = [
        *_namespaces(box),
        *_root(box),
        *_mounts(box),
        *(("--remount-ro", "/") if box.definition.read_only else ()),
        *_process(box),
    ]
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def _namespaces(box: Sandboxed) -> Iterator[str]:
    yield from ("--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup")
    if not box.mapped:  # else the supervisor makes these two itself
        yield from ("--unshare-user", "--uid", str(box.user.uid), "--gid", str(box.user.gid))
        if box.definition.network != "host":
            yield "--unshare-net"
    yield from ("--hostname", box.definition.hostname, "--die-with-parent", "--new-session", "--cap-drop", "ALL")
    if box.user.uid == 0:
        for name in box.definition.capabilities:
            yield from ("--cap-add", f"CAP_{name}")
    if not box.definition.init:
        yield "--as-pid-1"


def _root(box: Sandboxed) -> Iterator[str]:
    for layer in box.layers:
        yield from ("--overlay-src", str(layer))
    yield from ("--overlay", str(box.directory / "upper"), str(box.directory / "work"), "/")
    yield from ("--proc", "/proc", "--dev", "/dev", "--mqueue", "/dev/mqueue")
    yield from ("--perms", "1777", "--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm")  # noqa: S108 - in the sandbox
    yield from ("--ro-bind", "/sys", "/sys")


def _mounts(box: Sandboxed) -> Iterator[str]:
    own = tuple(Mount(source=str(box.directory / "etc" / name), target=f"/etc/{name}") for name in _FILES)
    done: list[tuple[PurePosixPath, str]] = []
    for mount in sorted((*own, *box.definition.mounts), key=lambda one: len(PurePosixPath(one.target).parts)):
        target = _target(box.tree, mount, done)
        if mount.kind == "tmpfs":
            size = ("--size", str(mount.size)) if mount.size else ()
            yield from ("--perms", "1777", *size, "--tmpfs", target)
            source = ""
        else:
            source = _source(box, mount)
            yield from ("--bind", source, target)
        if mount.read_only:
            yield from ("--remount-ro", target)
        done.append((PurePosixPath(target), source))


def _source(box: Sandboxed, mount: Mount) -> str:
    if mount.kind == "volume":
        volume = box.volumes / mount.source
        volume.mkdir(mode=0o755, parents=True, exist_ok=True)
        return str(volume)
    if not os.path.exists(mount.source):  # noqa: PTH110
        raise missing_source(mount)
    return os.path.realpath(mount.source)


def _target(tree: Merged, mount: Mount, done: Sequence[tuple[PurePosixPath, str]]) -> str:
    """Return where a mount goes, without a symbolic link on the way, which could lead out of the sandbox.

    What the image has there is followed inside of it; in what was mounted before, links are refused.
    """
    target = PurePosixPath(tree.resolve(mount.target))
    for place, source in reversed(done):
        if place in target.parents or place == target:
            _refuse_links(Path(source), target.relative_to(place), mount)
            break
    return str(target)


def _refuse_links(source: Path, below: PurePosixPath, mount: Mount) -> None:
    path = source
    for name in below.parts:
        path /= name
        if path.is_symlink():
            raise InvalidSpecError(
                f"{mount.target} is behind a symbolic link in another mount: {path}", value=mount.target
            )


def _process(box: Sandboxed) -> Iterator[str]:
    workdir = box.tree.resolve(box.definition.workdir)
    yield "--clearenv"
    for name, value in box.env.items():
        yield from ("--setenv", name, value)
    # Made where it is missing, as Docker does; not below a mount, where that is somebody else's affair.
    targets = [PurePosixPath(mount.target) for mount in box.definition.mounts]
    if not any(target in (place := PurePosixPath(workdir)).parents or target == place for target in targets):
        yield from ("--dir", workdir)
    yield from ("--chdir", workdir)
