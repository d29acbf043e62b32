"""Tar streams into and out of a fake container."""

from __future__ import annotations

import io
import stat
import tarfile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, cast

from oubliette_core.errors import InvalidSpecError
from oubliette_core.testing.fake.nodes import File, HostNode, Identity, Node

if TYPE_CHECKING:
    from oubliette_core.testing.fake.files import Files

__all__ = ["pack", "unpack"]


def unpack(files: Files, path: str, archive: BinaryIO) -> None:
    """Unpack a tar stream into a directory, which has to exist. Nothing gets outside of that directory.

    :raises InvalidSpecError: no such directory, or not a tar stream.
    """
    try:
        if not stat.S_ISDIR(files.locate(path).here.mode):
            raise InvalidSpecError(f"{path} is not a directory", value=path)
        with tarfile.open(fileobj=archive, mode="r|*") as tar:
            for member in tar:
                _unpack_member(files, path, tar, member)
    except tarfile.TarError as error:
        raise InvalidSpecError(f"what was to be copied to {path} is not a tar stream", value=path) from error
    except OSError as error:
        raise InvalidSpecError(f"{error.filename or path}: {error.strerror or error}", value=path) from error


def _unpack_member(files: Files, path: str, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
    inside = PurePosixPath(member.name.lstrip("/"))
    if ".." in inside.parts:
        raise InvalidSpecError(f"the archive's {member.name} leads out of {path}", value=member.name)
    target = f"{path.rstrip('/')}/{inside}"
    owner = Identity(member.uid, member.gid)
    if member.isdir():
        files.make_directory(target, parents=True)
    elif member.issym():
        _clear(files, target)
        files.make_link(member.linkname, target)
        files.change_owner(target, owner, Identity(), follow=False)
        return
    elif member.isfile():
        files.make_directory(str(PurePosixPath(target).parent), parents=True)
        _clear(files, target)
        content = tar.extractfile(member)
        files.write(target, content.read() if content else b"")
    else:
        raise InvalidSpecError(f"the archive's {member.name} is neither file, directory nor link", value=member.name)
    node = files.locate(target).here
    node.change(mode=member.mode, mtime=float(member.mtime))
    files.change_owner(target, owner, Identity())


def _clear(files: Files, target: str) -> None:
    node = files.locate(target, follow=False).node
    if node is not None and not stat.S_ISDIR(node.mode):
        files.remove(target)


def pack(files: Files, path: str) -> bytes:
    """Return a file or a directory as a tar stream; its own name comes first in it.

    :raises InvalidSpecError: no such path.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        try:
            place = files.locate(path, follow=False)
            _pack_node(tar, files, place.path, PurePosixPath(place.path).name or ".", place.here)
        except OSError as error:
            raise InvalidSpecError(f"{path}: {error.strerror}", value=path) from error
    return buffer.getvalue()


def _pack_node(tar: tarfile.TarFile, files: Files, path: str, name: str, node: Node) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.mtime = node.mode & 0o7777, int(node.mtime)
    member.uid, member.gid = node.owner.uid, node.owner.gid
    if stat.S_ISDIR(node.mode):
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
        for entry in sorted(files.locate(path).directory.names()):
            below = f"{path.rstrip('/')}/{entry}"
            _pack_node(tar, files, below, f"{name}/{entry}", files.locate(below, follow=False).here)
    elif stat.S_ISLNK(node.mode):
        member.type, member.linkname = tarfile.SYMTYPE, getattr(node, "target", "")
        tar.addfile(member)
    elif stat.S_ISREG(node.mode):
        data = cast("File | HostNode", node).read(0, node.size)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
