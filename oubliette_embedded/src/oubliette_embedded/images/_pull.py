"""A pull: from a reference to an image that is in the store, verified and unpacked."""

from __future__ import annotations

import functools
import shutil
from typing import TYPE_CHECKING

import attrs

from oubliette_embedded.images._documents import (
    LARGEST_DOCUMENT,
    Descriptor,
    ImageDocument,
    Index,
    Manifest,
    digest_of,
    parse_image,
    parse_manifest,
)
from oubliette_embedded.images._download import ensure_blob
from oubliette_embedded.images._failures import Failure, corrupt
from oubliette_embedded.images._index import Record, key_of
from oubliette_embedded.images._layers import short
from oubliette_embedded.images._platforms import choose, matches, own_platform
from oubliette_embedded.images._transport import BrokenConnection
from oubliette_embedded.images._work import in_parallel

if TYPE_CHECKING:
    from oubliette_core.reference import Reference
    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._layers import Layers
    from oubliette_embedded.images._registry import Repository
    from oubliette_embedded.images._work import Work

__all__ = ["Pull", "check_platform", "image_record"]

_AT_A_TIME = 4
"""Layers that are downloaded and unpacked at the same time."""
_DEEPEST_INDEX = 4


@attrs.frozen
class _Found:
    target: str
    digest: str
    data: bytes
    manifest: Manifest


@attrs.frozen
class Pull:
    """One pull."""

    disk: Disk
    layers: Layers
    repository: Repository
    work: Work

    def run(self, reference: Reference, platform: str | None, known: Record | None) -> Record:
        """Have an image in the store.

        :param reference: normalised. :param known: what is here under it by now, for this platform.
        :return: what is to be written into the list of images. :raises Failure: why it could not be pulled.
        """
        self.work.tell("", "resolving")
        key = key_of(str(reference))
        try:
            if known is not None and self._is_current(reference, known):
                for digest in dict.fromkeys(known.layers):
                    self.work.tell(short(digest), "exists")
                return attrs.evolve(known, reference=key)
            found = self._resolve(reference.digest or reference.tag, platform)
            config = self._config(found.manifest.config, len(found.manifest.layers))
            check_platform(config.platform, platform)
            self.disk.write(self.disk.blob(found.digest), found.data)
            self._check_room(found.manifest)
            # An image may have the same layer more than once.
            layers = {
                (layer.digest, diff_id): functools.partial(self._layer, layer, diff_id)
                for layer, diff_id in zip(found.manifest.layers, config.diff_ids, strict=True)
            }
            in_parallel(self.work, list(layers.values()), _AT_A_TIME)
        except BrokenConnection as broken:
            raise broken.failure from broken
        return image_record(key, found.target, found.digest, found.manifest, config)

    def _is_current(self, reference: Reference, known: Record) -> bool:
        """Tell whether what is here is complete, and is what the registry has. A digest says so itself."""
        blobs, layers = map(self.disk.has_blob, known.blobs), map(self.layers.find, known.diff_ids)
        if not (all(blobs) and all(layers) and self.disk.read_blob(known.id)):
            return False
        return bool(reference.digest) or self.repository.digest(reference.tag) == known.target

    def _resolve(self, start: str, platform: str | None) -> _Found:
        digest, data = self.repository.manifest(start)
        target, document = digest, parse_manifest(data)
        for _ in range(_DEEPEST_INDEX):
            if isinstance(document, Manifest):
                return _Found(target, digest, data, document)
            member = _member(document, platform)
            digest, data = self.repository.manifest(member.digest, member.size)
            document = parse_manifest(data)
        raise corrupt("its index leads to an index, and so on")

    def _config(self, blob: Descriptor, layers: int) -> ImageDocument:
        """Return the configuration of an image, and have it in the store."""
        known = self.disk.read_blob(blob.digest)
        if known is not None:
            return parse_image(known, layers)
        data = self.repository.small_blob(blob.digest, LARGEST_DOCUMENT)
        if digest_of(data, blob.digest) != blob.digest:
            raise corrupt(f"its configuration has digest {digest_of(data, blob.digest)}, and not {blob.digest}")
        document = parse_image(data, layers)
        self.disk.write(self.disk.blob(blob.digest), data)
        return document

    def _check_room(self, manifest: Manifest) -> None:
        """Refuse early what cannot fit, before it fills the disk."""
        missing = {one.digest: one.size for one in manifest.layers if not self.disk.has_blob(one.digest, one.size)}
        size, free = sum(missing.values()), shutil.disk_usage(self.disk.root).free
        if size > free:
            raise Failure(
                f"its layers have {size:,} bytes, and {free:,} are free below {self.disk.root}",
                "no_space",
                hint="Free space, or remove images that are no longer used: oubliette image list",
            )

    def _layer(self, layer: Descriptor, diff_id: str) -> None:
        name = short(layer.digest)
        fresh = ensure_blob(self.disk, self.repository, layer, self.work)
        if not fresh and self.layers.find(diff_id) is not None:
            self.work.tell(name, "exists", layer.size, layer.size)
            return
        try:
            self.layers.ensure(diff_id, layer, self.work)
        except Failure:
            # The blob was damaged, and is gone now? Then it can be had again.
            if fresh or self.disk.has_blob(layer.digest):
                raise
            ensure_blob(self.disk, self.repository, layer, self.work)
            self.layers.ensure(diff_id, layer, self.work)
        self.work.tell(name, "done", layer.size, layer.size)


def _member(index: Index, platform: str | None) -> Descriptor:
    """Return the manifest for a platform. Attestations are for none."""
    candidates = [one for one in index.manifests if not one.platform.startswith("unknown")]
    chosen = choose(candidates, lambda one: one.platform, platform)
    if chosen is None:
        offered = ", ".join(sorted({one.platform for one in candidates if one.platform})) or "no platform"
        raise Failure(
            f"it is for {offered}, and not for {platform or own_platform()}",
            "no_platform",
            hint="Ask for a platform that the image has, or build one for this machine.",
        )
    return chosen


def image_record(reference: str, target: str, digest: str, manifest: Manifest, config: ImageDocument) -> Record:
    """Return what the list of images has to say about an image."""
    return Record(
        reference=reference,
        platform=config.platform,
        target=target,
        manifest=digest,
        id=manifest.config.digest,
        layers=tuple(layer.digest for layer in manifest.layers),
        sizes=tuple(layer.size for layer in manifest.layers),
        diff_ids=config.diff_ids,
    )


def check_platform(found: str, wanted: str | None) -> None:
    """Refuse an image for another platform. :raises Failure: ``no_platform``."""
    fits = matches(wanted, found) if wanted else choose([found], lambda one: one, None) is not None
    if not fits:
        hint = f"To have it all the same, ask for platform {found}."
        raise Failure(f"it is for {found}, and not for {wanted or own_platform()}", "no_platform", hint=hint)
