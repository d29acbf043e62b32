"""Images into an archive and out of it: what ``docker save`` writes, and OCI image layouts."""

from __future__ import annotations

import json
import tarfile
import zlib
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ImagePullError
from oubliette_core.testing.fake.images import FakeImage
from oubliette_core.testing.images import Image, Layer, digest_of

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ArchivedImage", "read_archive"]


@attrs.frozen
class ArchivedImage:
    """An image of an archive, and the names that it has there."""

    image: FakeImage
    names: tuple[str, ...]


def read_archive(path: Path) -> list[ArchivedImage]:
    """Read the images of an archive.

    :raises ImagePullError: ``corrupt``: it cannot be read, or something in it is not what it says.
    """
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
            if "manifest.json" in names:
                return [_docker(archive, entry) for entry in json.loads(_member(archive, "manifest.json"))]
            index = json.loads(_member(archive, "index.json"))
            return [_oci(archive, entry) for entry in index["manifests"]]
    except (tarfile.TarError, OSError, EOFError, ValueError, LookupError, TypeError, zlib.error) as error:
        raise ImagePullError(
            f"{path} is not an archive of images: {error}",
            reason="corrupt",
            runtime="fake",
            subject=str(path),
            hint="Save it again.",
        ) from error


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    content = archive.extractfile(name)
    if content is None:
        raise LookupError(f"{name} is not a file")
    return content.read()


def _docker(archive: tarfile.TarFile, entry: dict[str, Any]) -> ArchivedImage:
    layers = [_member(archive, name) for name in entry["Layers"]]
    return ArchivedImage(_image(_member(archive, entry["Config"]), layers), tuple(entry.get("RepoTags") or ()))


def _oci(archive: tarfile.TarFile, entry: dict[str, Any]) -> ArchivedImage:
    def blob(digest: str) -> bytes:
        return _member(archive, f"blobs/{digest.replace(':', '/')}")

    manifest = json.loads(blob(entry["digest"]))
    image = _image(blob(manifest["config"]["digest"]), [blob(layer["digest"]) for layer in manifest["layers"]])
    notes = entry.get("annotations") or {}
    name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
    return ArchivedImage(image, (name,) if name else ())


def _image(config: bytes, layers: list[bytes]) -> FakeImage:
    settings = json.loads(config)
    made = [_layer(data) for data in layers]
    if [layer.diff_id for layer in made] != settings["rootfs"]["diff_ids"]:
        raise ValueError("its layers are not those of its configuration")
    named = (settings["os"], settings["architecture"], settings.get("variant"))
    return FakeImage.of(Image(config=config, layers=tuple(made), platform="/".join(filter(None, named))))


def _layer(data: bytes) -> Layer:
    if data[:2] == b"\x1f\x8b":
        return Layer(data, digest_of(zlib.decompress(data, wbits=47)))
    return Layer.from_tar(data, compression=1)
