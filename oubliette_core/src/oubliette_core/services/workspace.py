"""The directories of projects on this machine.

    <projects>/<id>/            0700
    <projects>/<id>/workspace/  0755, mounted at /workspace
    <projects>/<id>/home/       0700, mounted at HOME

Containers write in them while we look, so nothing here follows a link that was found inside.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import struct
import sys
from typing import TYPE_CHECKING

from oubliette_core.errors import ConflictError, ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oubliette_core.services.records import Project

__all__ = ["give_to", "nonce_file", "prepare", "remove", "remove_tree", "share_with"]

_ACL = "system.posix_acl_default"
_NONCE_PREFIX = ".oubliette-nonce-"


def prepare(project: Project) -> None:
    """Make the directories of a project. Idempotent.

    :raises ConflictError: something else is there. :raises ServiceError: they cannot be made.
    """
    modes = {project.workspace.parent: 0o700, project.workspace: 0o755, project.home: 0o700}
    for directory, mode in modes.items():
        try:
            directory.mkdir(mode=mode)
            directory.chmod(mode)  # whatever the umask
        except FileExistsError:
            pass
        except OSError as error:
            raise _unusable(project, directory, error) from error
        if not stat.S_ISDIR(directory.lstat().st_mode):
            raise ConflictError(
                f"{directory} is not a directory", subject=project.id, hint="Put the project's directory back."
            )


@contextlib.contextmanager
def nonce_file(project: Project) -> Iterator[tuple[str, str]]:
    """Put a file into the workspace whose name and content nobody can know; gives both, and removes it after.

    :raises ServiceError: it cannot be written.
    """
    for old in project.workspace.glob(f"{_NONCE_PREFIX}*"):
        with contextlib.suppress(OSError):  # what a container calls so may be anything
            old.unlink()  # of a check that was killed
    name, nonce = f"{_NONCE_PREFIX}{secrets.token_hex(8)}", secrets.token_hex(16)
    path = project.workspace / name
    try:
        try:
            _write_new(path, f"{nonce}\n")
        except OSError as error:
            raise _unusable(project, project.workspace, error) from error
        yield name, nonce
    finally:
        with contextlib.suppress(OSError):
            path.unlink()


def _write_new(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)


def give_to(project: Project, uid: int, gid: int) -> None:
    """Make everything in the workspace and home belong to a user, as only the superuser can.

    :param uid: as this machine counts. :param gid: likewise.
    """
    for directory in (project.workspace, project.home):
        for names, descriptor in _walk(directory):
            os.fchown(descriptor, uid, gid)
            for name in names:
                with contextlib.suppress(FileNotFoundError):  # the container works in here at the same time
                    os.chown(name, uid, gid, dir_fd=descriptor, follow_symlinks=False)


def share_with(project: Project, uid: int) -> None:
    """Let a user read, write and delete what others will make in the workspace, where the file system can.

    That is what a default access control list of a directory is for. Where there is none (macOS, some network file
    systems), files of others are as their makers' umask says.

    :param uid: as this machine counts.
    """
    if sys.platform != "linux":
        return
    entry = _default_acl(uid)
    with contextlib.suppress(OSError):
        if os.getxattr(project.workspace, _ACL) == entry:
            return  # and every directory made since then has it from the one it was made in
    for _, descriptor in _walk(project.workspace):
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, _ACL, entry)


def remove(project: Project, *, keep_workspace: bool) -> bool:
    """Remove a project's directories as far as this user can; True when nothing is left of what had to go.

    A directory that is a symbolic link is unlinked, and what it leads to is left alone.
    """
    directory = project.workspace.parent
    if keep_workspace and not directory.is_symlink():
        return remove_tree(project.home)
    return remove_tree(directory)


def remove_tree(path: Path) -> bool:
    """Remove a directory as far as this user can; True when nothing is left. A symbolic link is unlinked."""
    if path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()
        return not os.path.lexists(path)
    with contextlib.suppress(RecursionError):  # made to be too deep; a container's rm can
        shutil.rmtree(path, ignore_errors=True)
        if path.exists():
            _open_up(path)  # directories without write permission, such as those of Go's module cache
            shutil.rmtree(path, ignore_errors=True)
    return not os.path.lexists(path)


def _open_up(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.chmod(0o700)
    for names, descriptor in _walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                    os.chmod(name, 0o700, dir_fd=descriptor)


def _walk(directory: Path) -> Iterator[tuple[list[str], int]]:
    """Yield the names in each directory from here down, with a descriptor of the directory; links are not followed.

    It ends early in a tree that was made to be too deep.
    """
    with contextlib.suppress(RecursionError):
        for _, directories, files, descriptor in os.fwalk(directory, follow_symlinks=False):
            yield directories + files, descriptor


def _unusable(project: Project, path: Path, error: OSError) -> ServiceError:
    return ServiceError(
        f"{path} cannot be written: {error.strerror}",
        subject=project.id,
        hint="See to it that the directory is yours and the disk is neither full nor read-only.",
    )


def _default_acl(uid: int) -> bytes:
    """Return a default ACL that adds one user with all rights, as Linux keeps it (``linux/posix_acl_xattr.h``)."""
    undefined, version = 0xFFFFFFFF, 2
    user_obj, user, group_obj, mask, other = 0x01, 0x02, 0x04, 0x10, 0x20
    entries = (
        (user_obj, 7, undefined),
        (user, 7, uid),
        (group_obj, 5, undefined),
        (mask, 7, undefined),
        (other, 5, undefined),
    )
    return struct.pack("<I", version) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
