"""Archives in the form that ``container image load`` takes.

That is an OCI layout. What ``docker save`` of older engines and many build tools write is not, and is rewritten.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHUNK = 1 << 20
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_NAME = "org.opencontainers.image.ref.name"
_COMPRESSED = {b"\x1f\x8b": "+gzip", b"\x28\xb5": "+zstd"}

Descriptor = dict[str, Any]


@contextlib.contextmanager
def as_layout(archive: Path) -> Iterator[Path]:
    """Yield a file that holds the images of ``archive`` as an OCI layout: itself, or a temporary one.

    :raises ValueError: it is no archive of images, or not a whole one.
    """
    try:
        with tarfile.open(archive) as source:
            names = source.getnames()
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if "oci-layout" in names:
        yield archive
        return
    if "manifest.json" not in names:
        raise ValueError("there are no images in it")
    with tempfile.TemporaryDirectory(prefix="oubliette-load-") as folder:
        target = Path(folder) / "layout.tar"
        try:
            _rewrite(archive, target)
        except (tarfile.TarError, EOFError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"it is not what docker save writes: {error}") from error
        yield target


def _rewrite(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as source, tarfile.open(target, "w") as layout:
        writer = _Writer(source, layout)
        entries = []
        for image in json.loads(writer.content("manifest.json")):
            manifest = writer.manifest(image["Config"], image["Layers"])
            entries += [{**manifest, "annotations": {_NAME: tag}} for tag in image.get("RepoTags") or ()]
        if not entries:
            raise ValueError("its images have no names")
        writer.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        writer.add("index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())


class _Writer:
    def __init__(self, source: tarfile.TarFile, layout: tarfile.TarFile) -> None:
        self._source = source
        self._layout = layout
        self._written: set[str] = set()

    def content(self, name: str) -> bytes:
        with self._file(name) as file:
            content: bytes = file.read()
        return content

    def _file(self, name: str) -> Any:
        file = self._source.extractfile(name)
        if file is None:
            raise KeyError(name)
        return file

    def add(self, name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        self._layout.addfile(entry, io.BytesIO(content))

    def manifest(self, config: str, layers: list[str]) -> Descriptor:
        written = [self._layer(name) for name in layers]
        text = self.content(config)
        found = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": self._blob(text, _CONFIG), "layers": written}
        # Readers ask for the platform of what they find in an index.
        known = json.loads(text)
        platform = {key: known[key] for key in ("architecture", "os", "variant") if known.get(key)}
        return {**self._blob(json.dumps(found).encode(), _MANIFEST), "platform": platform}

    def _blob(self, content: bytes, kind: str) -> Descriptor:
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self._written:
            self._written.add(digest)
            self.add(f"blobs/sha256/{digest}", content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    def _layer(self, name: str) -> Descriptor:
        hashed, size, kind = hashlib.sha256(), 0, _LAYER
        with self._file(name) as file:
            while chunk := file.read(_CHUNK):
                kind = kind if size else _LAYER + _COMPRESSED.get(chunk[:2], "")
                hashed.update(chunk)
                size += len(chunk)
        digest = hashed.hexdigest()
        if digest not in self._written:
            self._written.add(digest)
            entry = tarfile.TarInfo(f"blobs/sha256/{digest}")
            entry.size = size
            with self._file(name) as file:
                self._layout.addfile(entry, file)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": size}
