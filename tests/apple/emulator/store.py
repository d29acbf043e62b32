"""Images: an OCI content store, with an index for each reference."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

INDEX = "application/vnd.oci.image.index.v1+json"
INDEXES = (INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFESTS = (MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
_INDIRECT = {"com.apple.containerization.index.indirect": "true"}

Descriptor = dict[str, Any]


def native_platform() -> dict[str, str]:
    """The platform that containers of this machine have."""
    machine = os.uname().machine
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    return {"os": "linux", "architecture": names.get(machine, machine)}


def platform_of(text: str) -> dict[str, str]:
    """Read ``os/architecture[/variant]``."""
    names = ("os", "architecture", "variant")
    return dict(zip(names, text.split("/"), strict=False))


def platform_text(platform: dict[str, str]) -> str:
    """Print a platform."""
    return "/".join(platform[key] for key in ("os", "architecture", "variant") if platform.get(key))


def matches(platform: dict[str, str], wanted: dict[str, str]) -> bool:
    """Whether an image for `platform` serves where `wanted` was asked for."""
    if any(platform.get(key) != wanted.get(key) for key in ("os", "architecture")):
        return False
    variants = {platform.get("variant") or "", wanted.get("variant") or ""}
    return len(variants) == 1 or "" in variants


class Store:
    """Blobs by digest, in a folder.

    :param folder: of the emulator.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "blobs"
        self._folder.mkdir(exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self._folder / digest.rpartition(":")[2]

    def has(self, digest: str) -> bool:
        """Whether a blob is there."""
        return self.path(digest).exists()

    def content(self, digest: str) -> bytes:
        """The content of a blob."""
        return self.path(digest).read_bytes()

    def json(self, digest: str) -> dict[str, Any]:
        """The content of a blob that is a document."""
        return json.loads(self.content(digest))  # type: ignore[no-any-return]

    def add(self, content: bytes) -> str:
        """Keep a blob and return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.take([content], digest)
        return digest

    def take(self, chunks: Iterable[bytes], digest: str) -> str:
        """Keep a blob that comes in pieces, if it has this digest; return the digest that it has."""
        partial = self._folder / f".{os.getpid()}-{os.urandom(4).hex()}"
        hashed = hashlib.sha256()
        try:
            with partial.open("wb") as file:
                for chunk in chunks:
                    hashed.update(chunk)
                    file.write(chunk)
            found = f"sha256:{hashed.hexdigest()}"
            if found == digest:
                partial.replace(self.path(digest))
            return found
        finally:
            partial.unlink(missing_ok=True)

    def wrap(self, descriptor: Descriptor) -> Descriptor:
        """Return the index of an image; one is made around the manifest of an image for one platform."""
        if descriptor["mediaType"] in INDEXES:
            return {key: descriptor[key] for key in ("digest", "mediaType", "size")}
        config = self.json(self.json(descriptor["digest"])["config"]["digest"])
        inner = {key: descriptor[key] for key in ("digest", "mediaType", "size")}
        inner["platform"] = {key: config[key] for key in ("architecture", "os", "variant") if config.get(key)}
        content = json.dumps(
            {"schemaVersion": 2, "mediaType": INDEX, "manifests": [inner], "annotations": _INDIRECT}, sort_keys=True
        ).encode()
        return {"digest": self.add(content), "mediaType": INDEX, "size": len(content)}

    def offered(self, index: str) -> list[Descriptor]:
        """The manifests that an index lists, with their platforms."""
        return [item for item in self.json(index)["manifests"] if item.get("platform")]

    def complete(self, manifest: str) -> bool:
        """Whether a manifest is here with everything it names."""
        if not self.has(manifest):
            return False
        content = self.json(manifest)
        return all(self.has(item["digest"]) for item in (content["config"], *content["layers"]))

    def variants(self, index: str) -> Iterator[dict[str, Any]]:
        """The images of an index that are here, as inspect prints them."""
        for item in self.offered(index):
            if not self.complete(item["digest"]):
                continue
            manifest = self.json(item["digest"])
            config = self.json(manifest["config"]["digest"])
            size = item["size"] + manifest["config"]["size"] + sum(layer["size"] for layer in manifest["layers"])
            yield {
                "digest": item["digest"],
                "size": size,
                "platform": item["platform"],
                "config": {
                    key: config[key]
                    for key in ("architecture", "os", "created", "config", "rootfs", "history")
                    if key in config
                },
            }

    def variant(self, index: str, wanted: dict[str, str]) -> dict[str, Any] | None:
        """The image of an index for a platform, if it is here."""
        return next((item for item in self.variants(index) if matches(item["platform"], wanted)), None)
