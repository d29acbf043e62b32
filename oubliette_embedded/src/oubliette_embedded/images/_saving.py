"""Writing images into an archive: an OCI image layout in a tar file, with Docker's own table of contents beside it."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from oubliette_embedded.images._documents import MANIFEST_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._index import Record

__all__ = ["save"]

_INDEX = "application/vnd.oci.image.index.v1+json"


def save(disk: Disk, images: Iterable[tuple[str, Record]], archive: Path, check: Callable[[], None]) -> None:
    """Write images, each under a name or without one; the file appears only when it is whole.

    :param check: called often; what it raises ends the writing.
    """
    with tempfile.NamedTemporaryFile(dir=archive.parent, prefix=f".{archive.name}.", delete=False) as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                _Writer(disk, tar, check).write(images)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(archive)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


class _Writer:
    def __init__(self, disk: Disk, tar: tarfile.TarFile, check: Callable[[], None]) -> None:
        self._disk, self._tar, self._check = disk, tar, check
        self._written: set[str] = set()

    def write(self, images: Iterable[tuple[str, Record]]) -> None:
        index, docker = [], []
        self._document("oci-layout", {"imageLayoutVersion": "1.0.0"})
        for name, record in images:
            for digest in (*record.layers, record.id, record.manifest):
                self._blob(digest)
            index.append(self._descriptor(name, record))
            layers = [_path(digest) for digest in record.layers]
            docker.append({"Config": _path(record.id), "RepoTags": [name] if name else None, "Layers": layers})
        self._document("index.json", {"schemaVersion": 2, "mediaType": _INDEX, "manifests": index})
        self._document("manifest.json", docker)

    def _descriptor(self, name: str, record: Record) -> dict[str, Any]:
        data = self._disk.blob(record.manifest).read_bytes()
        kind = json.loads(data).get("mediaType") or MANIFEST_TYPES[0]
        platform = dict(zip(("os", "architecture", "variant"), record.platform.split("/"), strict=False))
        names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name} if name else {}
        return {
            "mediaType": kind,
            "digest": record.manifest,
            "size": len(data),
            **({"platform": platform} if record.platform else {}),
            **({"annotations": names} if names else {}),
        }

    def _blob(self, digest: str) -> None:
        if digest in self._written:
            return
        self._written.add(digest)
        with self._disk.blob(digest).open("rb") as file:
            entry = tarfile.TarInfo(_path(digest))
            entry.size = os.fstat(file.fileno()).st_size
            self._tar.addfile(entry, _Checked(file, self._check))

    def _document(self, name: str, content: object) -> None:
        data = json.dumps(content).encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        self._tar.addfile(entry, io.BytesIO(data))


class _Checked:
    """A file that looks at each read whether to go on."""

    def __init__(self, file: IO[bytes], check: Callable[[], None]) -> None:
        self._file, self._check = file, check

    def read(self, size: int = -1) -> bytes:
        self._check()
        return self._file.read(size)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
