"""Archives of images, from what an engine saved: an OCI image layout with the names that we give.

Engines differ in what they save: Docker before version 25 a format of its own, without digests; an image that was
pulled by digest without a name. The archive here is an OCI image layout in a tar file (image-layout.md of the OCI
image specification), with Docker's own table of contents beside it, so that every engine loads it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import tarfile
from typing import IO, TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import RuntimeOperationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

__all__ = ["LayoutWriter"]

_CHUNK = 1024 * 1024
_LARGEST_DOCUMENT = 16 * 1024 * 1024
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYERS = {
    b"\x1f\x8b": "application/vnd.oci.image.layer.v1.tar+gzip",
    b"\x28\xb5": "application/vnd.oci.image.layer.v1.tar+zstd",
}
_PLAIN_LAYER = "application/vnd.oci.image.layer.v1.tar"


@attrs.frozen
class _Blob:
    """Content in an archive that is read."""

    digest: str
    size: int
    open: Callable[[], IO[bytes]]


class LayoutWriter:
    """Writes one archive of images. What several images share is in it once.

    :param out: the open tar file. :param stop: raises when the work is to end.
    """

    def __init__(self, out: tarfile.TarFile, stop: Callable[[], None]) -> None:
        self._out, self._stop = out, stop
        self._written: set[str] = set()
        self._index: list[dict[str, Any]] = []
        self._docker: list[dict[str, Any]] = []

    def add(self, saved: Path, names: Sequence[str]) -> None:
        """Take over the one image of an archive that an engine saved, under these names.

        :raises RuntimeOperationError: the archive is damaged, or of no known format.
        """
        try:
            with tarfile.open(saved) as archive:
                if "index.json" in archive.getnames():
                    self._take_layout(archive, names)
                else:
                    self._take_docker(archive, names)
        except (tarfile.TarError, EOFError, ValueError, LookupError, TypeError) as error:
            raise RuntimeOperationError(
                f"what the engine saved of {', '.join(names)} cannot be read: {error}", subject=names[0]
            ) from error

    def close(self) -> None:
        """Write the tables of contents."""
        self._document("oci-layout", {"imageLayoutVersion": "1.0.0"})
        media = "application/vnd.oci.image.index.v1+json"
        self._document("index.json", {"schemaVersion": 2, "mediaType": media, "manifests": self._index})
        if self._docker:
            self._document("manifest.json", self._docker)

    # -- From an OCI layout -------------------------------------------------------------------------------------------

    def _take_layout(self, archive: tarfile.TarFile, names: Sequence[str]) -> None:
        for member in archive.getmembers():
            parts = member.name.removeprefix("./").split("/")
            if member.isfile() and len(parts) == 3 and parts[0] == "blobs":
                blob = _blob(archive, member.name)
                # Only sha256 is computed; an engine that names content otherwise is taken at its word.
                if parts[1] == "sha256" and blob.digest != f"sha256:{parts[2]}":
                    raise ValueError(f"{member.name} is damaged")
                self._blob(blob, f"{parts[1]}:{parts[2]}")
        found = {one["digest"]: one for one in _document(archive, "index.json")["manifests"]}
        for descriptor in found.values():
            self._list(descriptor, names)
        if "manifest.json" in archive.getnames():
            entries = {entry["Config"]: entry for entry in _document(archive, "manifest.json")}
            self._docker += [{**entry, "RepoTags": list(names)} for entry in entries.values()]

    # -- From Docker's own format -------------------------------------------------------------------------------------

    def _take_docker(self, archive: tarfile.TarFile, names: Sequence[str]) -> None:
        entries = {entry["Config"]: entry for entry in _document(archive, "manifest.json")}
        for entry in entries.values():
            config = _blob(archive, entry["Config"])
            layers = [_blob(archive, name) for name in entry["Layers"]]
            for blob in (config, *layers):
                self._blob(blob, blob.digest)
            manifest = {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, "digest": config.digest, "size": config.size},
                "layers": [
                    {"mediaType": _layer_type(layer), "digest": layer.digest, "size": layer.size} for layer in layers
                ],
            }
            settings = json.load(config.open())
            platform = {"os": settings["os"], "architecture": settings["architecture"]}
            if settings.get("variant"):
                platform["variant"] = settings["variant"]
            data = json.dumps(manifest).encode()
            written = _Blob(
                f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), functools.partial(io.BytesIO, data)
            )
            self._blob(written, written.digest)
            descriptor = {"mediaType": _MANIFEST, "digest": written.digest, "size": written.size, "platform": platform}
            self._list(descriptor, names)
            paths = [_path(layer.digest) for layer in layers]
            self._docker.append({"Config": _path(config.digest), "RepoTags": list(names), "Layers": paths})

    # -- Writing ------------------------------------------------------------------------------------------------------

    def _list(self, descriptor: dict[str, Any], names: Iterable[str]) -> None:
        """List an image in the index, once under each name."""
        for name in names:
            # The first is what engines go by, the second what the specification has.
            named = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
            self._index.append({**descriptor, "annotations": {**descriptor.get("annotations", {}), **named}})

    def _blob(self, blob: _Blob, digest: str) -> None:
        if digest in self._written:
            return
        self._written.add(digest)
        entry = tarfile.TarInfo(_path(digest))
        entry.size = blob.size
        with blob.open() as content:
            self._out.addfile(entry, _Reading(content, self._stop))

    def _document(self, name: str, content: object) -> None:
        data = json.dumps(content).encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(data)
        self._out.addfile(entry, io.BytesIO(data))


class _Reading:
    """A file that looks at each read whether to go on."""

    def __init__(self, file: IO[bytes], stop: Callable[[], None]) -> None:
        self._file, self._stop = file, stop

    def read(self, size: int = -1) -> bytes:
        self._stop()
        return self._file.read(size)


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    # Follows links, which Docker writes for layers that two images share.
    file = archive.extractfile(name)
    if file is None:
        raise LookupError(f"{name} is not a file")
    return file


def _blob(archive: tarfile.TarFile, name: str) -> _Blob:
    size, summed = 0, hashlib.sha256()
    with _open(archive, name) as file:
        while chunk := file.read(_CHUNK):
            size += len(chunk)
            summed.update(chunk)
    return _Blob(f"sha256:{summed.hexdigest()}", size, lambda: _open(archive, name))


def _layer_type(layer: _Blob) -> str:
    with layer.open() as file:
        return _LAYERS.get(file.read(2), _PLAIN_LAYER)


def _document(archive: tarfile.TarFile, name: str) -> Any:
    with _open(archive, name) as file:
        return json.loads(file.read(_LARGEST_DOCUMENT))
