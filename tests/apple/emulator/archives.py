"""Archives of images: OCI layouts for users, and what the engine takes and gives."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from tests.apple.emulator.failures import Failure
from tests.apple.emulator.http import Engine
from tests.apple.emulator.references import parse
from tests.apple.emulator.store import INDEXES, MANIFEST, MANIFESTS, Descriptor, Store, matches

_NAMES = ("com.apple.containerization.image.name", "io.containerd.image.name", "org.opencontainers.image.ref.name")


def read_layout(store: Store, path: Path) -> dict[str, Descriptor]:
    """Take the images of an OCI layout into the store; return their indexes by their references."""
    try:
        with tarfile.open(path) as archive:
            return _read(store, archive)
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError, OSError) as error:
        raise Failure("internalError", f"failed to load image archive: {error}") from None


def _read(store: Store, archive: tarfile.TarFile) -> dict[str, Descriptor]:
    layout = _Layout(store, archive)
    loaded = {}
    for item in json.loads(layout.content("index.json"))["manifests"]:
        name = next(item["annotations"][key] for key in _NAMES if key in item.get("annotations", {}))
        layout.take(item)
        loaded[str(parse(name))] = store.wrap(item)
    return loaded


class _Layout:
    def __init__(self, store: Store, archive: tarfile.TarFile) -> None:
        self._store = store
        self._archive = archive
        self._members = {member.name.removeprefix("./"): member for member in archive.getmembers() if member.isfile()}
        if "oci-layout" not in self._members:
            raise Failure("notFound", "failed to load image archive: oci-layout not found")

    def content(self, name: str) -> bytes:
        file = self._archive.extractfile(self._members[name])
        return file.read() if file else b""

    def take(self, item: Descriptor) -> None:
        """Keep what a descriptor names, with all that it names itself; other platforms may be left out."""
        name = f"blobs/{item['digest'].replace(':', '/')}"
        if name not in self._members and item.get("platform"):
            return
        data = self.content(name)
        if self._store.add(data) != item["digest"]:
            raise Failure("internalError", f"digest mismatch expected {item['digest']}")
        inner: list[Descriptor] = []
        if item["mediaType"] in INDEXES:
            inner = json.loads(data)["manifests"]
        elif item["mediaType"] in MANIFESTS:
            manifest = json.loads(data)
            inner = [manifest["config"], *manifest["layers"]]
        for each in inner:
            self.take(each)


def write_layout(store: Store, images: dict[str, Descriptor], wanted: dict[str, str] | None, file: BinaryIO) -> None:
    """Write images as an OCI layout."""
    with tarfile.open(fileobj=file, mode="w|") as archive:
        entries = [{**index, "annotations": dict.fromkeys(_NAMES, name)} for name, index in images.items()]
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
        written: set[str] = set()
        for index in images.values():
            for digest in _blobs(store, index["digest"], wanted):
                if digest not in written:
                    written.add(digest)
                    _add(archive, f"blobs/{digest.replace(':', '/')}", store.content(digest))


def _blobs(store: Store, index: str, wanted: dict[str, str] | None) -> Iterator[str]:
    yield index
    for item in store.offered(index):
        if store.complete(item["digest"]) and (wanted is None or matches(item["platform"], wanted)):
            manifest = store.json(item["digest"])
            yield item["digest"]
            yield manifest["config"]["digest"]
            yield from (layer["digest"] for layer in manifest["layers"])


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def hand_over(store: Store, engine: Engine, manifest_digest: str, tag: str, *, settings: bool = False) -> None:
    """Give an image to the engine under a name of ours: without its settings, which the emulator applies itself."""
    manifest = store.json(manifest_digest)
    config = store.json(manifest["config"]["digest"])
    bare = {key: config[key] for key in ("architecture", "os", "rootfs", "variant") if key in config}
    names = [f"{number}.tar" for number in range(len(manifest["layers"]))]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(
            archive,
            "config.json",
            json.dumps({**bare, "config": config.get("config", {}) if settings else {}}).encode(),
        )
        for name, layer in zip(names, manifest["layers"], strict=True):
            _add(archive, name, store.content(layer["digest"]))
        _add(
            archive,
            "manifest.json",
            json.dumps([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).encode(),
        )
    answer = engine.open("POST", "/images/load?quiet=1", body=buffer.getvalue()).body()
    if b'"error"' in answer:
        raise Failure("internalError", f"failed to unpack image: {answer.decode('utf-8', 'replace')[:300]}")


def take_over(store: Store, engine: Engine, name: str) -> Descriptor:
    """Take an image that the engine has built into the store."""
    with tarfile.open(fileobj=io.BytesIO(engine.open("GET", f"/images/{name}/get").body())) as archive:

        def content(path: str) -> bytes:
            file = archive.extractfile(path)
            return file.read() if file else b""

        built: dict[str, Any] = json.loads(content("manifest.json"))[0]
        config = content(built["Config"])
        layers = [
            _descriptor(store, content(path), "application/vnd.oci.image.layer.v1.tar") for path in built["Layers"]
        ]
        described = _descriptor(store, config, "application/vnd.oci.image.config.v1+json")
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
    return store.wrap(_descriptor(store, json.dumps(manifest).encode(), MANIFEST))


def _descriptor(store: Store, content: bytes, kind: str) -> Descriptor:
    return {"mediaType": kind, "digest": store.add(content), "size": len(content)}
