"""The store's directories and files: everything appears whole or not at all, also when the power fails.

All of it is readable by its owner alone::

    store.lock            shared by whoever adds or uses, alone for whoever removes what nothing uses
    index.lock            around each look at or change of the two below
    images.json           the images by reference and platform
    uses/USER.json        the image that a container was made from
    blobs/ALGORITHM/HEX   manifests, configurations and compressed layers, by digest
    partial/              what is not complete yet
    layers/ALGORITHM-HEX.json   an unpacked layer by the digest of its archive, and where it is
    l/NAME                its directory
    locks/                one file for each blob or layer that somebody works on
    trash/                what is being removed
    dirty                 there may be something to remove

Paths of layers are short, because the options of a mount have to fit into a page.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from typing import IO, TYPE_CHECKING, Any

from oubliette_core.errors import RuntimeOperationError
from oubliette_embedded.images._documents import digest_of, new_hash
from oubliette_embedded.images._failures import RUNTIME
from oubliette_embedded.images._locks import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["Disk", "file_name", "read_json", "sync_directory", "sync_file_system"]

_CHUNK = 1024 * 1024
_DIRECTORIES = ("blobs", "blobs/sha256", "blobs/sha512", "l", "layers", "locks", "partial", "trash", "uses")


class Disk:
    """The directory of the images of one user, shared by all processes. Made on first use."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images, self.dirty = root / "images.json", root / "dirty"
        self.uses, self.layers, self.trees = root / "uses", root / "layers", root / "l"
        self.blobs, self.partial, self.trash = root / "blobs", root / "partial", root / "trash"
        self.locks = root / "locks"
        self._made = False

    def make(self) -> None:
        """Make the directories, readable by nobody else. :raises RuntimeOperationError: they are somebody else's."""
        if self._made and self.trash.is_dir():
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = self.root.stat()
        if status.st_uid != os.geteuid():
            raise RuntimeOperationError(
                f"the directory of the images, {self.root}, belongs to somebody else",
                runtime=RUNTIME,
                subject=str(self.root),
                hint="Remove it, or set XDG_DATA_HOME to a directory of your own.",
            )
        if status.st_mode & 0o077:
            self.root.chmod(0o700)
        for name in _DIRECTORIES:
            (self.root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self._made = True

    # -- Locks --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """Add or use: meanwhile nothing is removed."""
        self.make()
        with hold(self.root / "store.lock", shared=True):
            yield

    @property
    def alone(self) -> Path:
        """The lock of who removes what nothing uses."""
        return self.root / "store.lock"

    @contextlib.contextmanager
    def index(self, *, change: bool) -> Iterator[None]:
        """Look at images and uses, or change them. Adding a use is no change: others may do so at the same time."""
        with hold(self.root / "index.lock", shared=not change):
            yield

    @contextlib.contextmanager
    def one(self, digest: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Work on a blob or on a layer; others wait and share what comes of it."""
        path = self.locks / file_name(digest)
        with hold(path, waiting=waiting):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    # -- Files --------------------------------------------------------------------------------------------------------

    def blob(self, digest: str) -> Path:
        """Return where a blob is, or would be."""
        algorithm, _, value = digest.partition(":")
        return self.blobs / algorithm / value

    def has_blob(self, digest: str, size: int | None = None) -> bool:
        """Tell whether a blob is here, and has this size."""
        try:
            found = self.blob(digest).stat().st_size
        except FileNotFoundError:
            return False
        return size is None or found == size

    def read_blob(self, digest: str) -> bytes | None:
        """Return a small blob; None if it is not here, or was damaged."""
        try:
            data = self.blob(digest).read_bytes()
        except FileNotFoundError:
            return None
        return data if digest_of(data, digest) == digest else None

    def drop_damaged(self, digest: str) -> bool:
        """Remove a blob that is not what its name says, so that it can be had again; tells whether it was so."""
        summed = new_hash(digest)
        with self.blob(digest).open("rb") as file:
            while chunk := file.read(_CHUNK):
                summed.update(chunk)
        if summed.hexdigest() == digest.partition(":")[2]:
            return False
        self.blob(digest).unlink()
        return True

    def write(self, path: Path, data: bytes) -> None:
        """Have a file with this content, now and after a power failure, or the one that was there before."""
        temporary = self.partial / f"{path.name}.{secrets.token_hex(6)}"
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(data)
                finish_file(file)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)

    def add(self, path: Path, data: bytes) -> None:
        """Have a new file with this content, now and after a power failure; one in between may leave it incomplete.

        Sooner done than `write`, where that does no harm. :raises FileExistsError: there is one.
        """
        with open(path, "xb", opener=_private) as file:
            file.write(data)
            finish_file(file)
        sync_directory(path.parent)

    def write_json(self, path: Path, content: object) -> None:
        """Write a document. See `write`."""
        self.write(path, json.dumps(content).encode())

    def new_tree(self) -> Path:
        """Make an empty directory with a short name for a layer."""
        while True:
            path = self.trees / secrets.token_hex(3)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
                return path

    def discard(self, path: Path) -> Path | None:
        """Take a file or a directory out of the store at once; to be removed at leisure."""
        gone = self.trash / secrets.token_hex(8)
        with contextlib.suppress(FileNotFoundError):
            path.rename(gone)
            return gone
        return None


def file_name(digest: str) -> str:
    """Return a digest as the name of a file."""
    return digest.replace(":", "-")


def read_json(path: Path) -> Any:
    """Return a document; None where there is none, or none that is whole."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def finish_file(file: IO[bytes]) -> None:
    """Have the content of an open file on the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Have the names in a directory on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file_system(path: Path) -> None:
    """Have all that was written to the file system of a directory on the disk: one call for thousands of files."""
    import ctypes  # noqa: PLC0415 - only who adds something needs it

    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()
        elif syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
