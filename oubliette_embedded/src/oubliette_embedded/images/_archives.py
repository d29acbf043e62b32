"""Archives that images are loaded from: OCI image layouts (a directory or a tar file) and what ``docker save`` writes.

An archive is never unpacked: what its tables of contents name is read from it, and verified like what a registry sends.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol

import attrs

from oubliette_core.errors import InvalidReferenceError
from oubliette_embedded.images._disk import file_name, finish_file, sync_directory
from oubliette_embedded.images._documents import (
    LARGEST_DOCUMENT,
    Descriptor,
    ImageDocument,
    Index,
    Manifest,
    check_digest,
    digest_of,
    new_hash,
    parse_image,
    parse_json,
    parse_manifest,
)
from oubliette_embedded.images._failures import Failure, corrupt, one_line
from oubliette_embedded.images._index import Record, key_of
from oubliette_embedded.images._layers import Layers, short
from oubliette_embedded.images._pull import image_record
from oubliette_embedded.images._tar import DAMAGE, decompressed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._model import Limits
    from oubliette_embedded.images._work import Work

__all__ = ["load"]

_CHUNK = 1024 * 1024
_MOST_FILES = 100_000
_MOST_IMAGES = 1000
_DEEPEST_INDEX = 4
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class _Place(Protocol):
    """Where an archive's files are."""

    def has(self, name: str) -> bool:
        """Tell whether there is a file."""

    def open(self, name: str) -> contextlib.AbstractContextManager[IO[bytes]]:
        """Open a file. :raises Failure: ``corrupt``: there is none."""


@attrs.frozen
class _Image:
    """An image of an archive: its names, its documents, and the files that its layers are in."""

    names: tuple[str, ...]
    data: bytes
    manifest: Manifest
    config_data: bytes
    config: ImageDocument
    files: tuple[str, ...]


def load(disk: Disk, layers: Layers, archive: Path, limits: Limits, work: Work) -> list[Record]:
    """Have the images of an archive in the store.

    :return: what is to be written into the list of images. :raises Failure: ``corrupt``, ``no_space`` and others.
    """
    try:
        with _opened(archive, disk, limits, work) as place:
            images = list(_images(place))
            if not images:
                raise corrupt("it contains no image")
            if len(images) > _MOST_IMAGES:
                raise corrupt(f"it contains more than {_MOST_IMAGES} images")
            records = [record for image in images for record in _take(disk, layers, place, image, work)]
    except DAMAGE as error:
        raise corrupt(f"it cannot be read: {one_line(str(error)) or type(error).__name__}") from error
    return list({(record.reference or record.id, record.platform): record for record in records}.values())


def _take(disk: Disk, layers: Layers, place: _Place, image: _Image, work: Work) -> list[Record]:
    for layer, diff_id, file in zip(image.manifest.layers, image.config.diff_ids, image.files, strict=True):
        name = short(layer.digest)
        with disk.one(layer.digest, lambda name=name: work.tell(name, "waiting")):  # type: ignore[misc]
            if not disk.has_blob(layer.digest, layer.size):
                _copy(disk, place, file, layer, work)
        layers.ensure(diff_id, layer, work)
        work.tell(name, "done", layer.size, layer.size)
    manifest_digest = digest_of(image.data)
    disk.write(disk.blob(image.manifest.config.digest), image.config_data)
    disk.write(disk.blob(manifest_digest), image.data)
    return [image_record(name, "", manifest_digest, image.manifest, image.config) for name in image.names or ("",)]


def _copy(disk: Disk, place: _Place, file: str, layer: Descriptor, work: Work) -> None:
    partial, summed, done = disk.partial / file_name(layer.digest), new_hash(layer.digest), 0
    try:
        with place.open(file) as source, partial.open("wb") as target:
            while chunk := source.read(_CHUNK):
                done += len(chunk)
                if done > layer.size:
                    raise corrupt(f"{one_line(file)} in it is larger than it has to be")
                summed.update(chunk)
                target.write(chunk)
                work.tell(short(layer.digest), "verifying", done, layer.size)
            finish_file(target)
        if summed.hexdigest() != layer.digest.partition(":")[2]:
            raise corrupt(f"{one_line(file)} in it does not have digest {layer.digest}")
        partial.replace(disk.blob(layer.digest))
        sync_directory(disk.blob(layer.digest).parent)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


# -- Tables of contents -----------------------------------------------------------------------------------------------


def _images(place: _Place) -> Iterator[_Image]:
    """Yield the images of an archive, whichever table of contents it has; Docker's own names count in both."""
    docker = _document(place, "manifest.json") if place.has("manifest.json") else []
    if not isinstance(docker, list):
        raise corrupt("its manifest.json is of no known form")
    if place.has("index.json"):
        index = parse_manifest(_read(place, "index.json"))
        if not isinstance(index, Index):
            raise corrupt("its index.json is no index")
        tags = {str(entry.get("Config")): _tags(entry) for entry in docker if isinstance(entry, dict)}
        for descriptor in index.manifests:
            names = _names(descriptor.annotations)
            yield from _from_layout(place, descriptor, names, tags, _DEEPEST_INDEX)
        return
    for entry in docker:
        yield _from_docker(place, entry)


def _from_layout(
    place: _Place, descriptor: Descriptor, names: tuple[str, ...], tags: Mapping[str, tuple[str, ...]], depth: int
) -> Iterator[_Image]:
    """Yield the images that a descriptor leads to: through an index all that the archive has, for every platform."""
    data = _blob(place, descriptor)
    document = parse_manifest(data)
    if isinstance(document, Index):
        if not depth:
            raise corrupt("its index leads to an index, and so on")
        for member in document.manifests:
            if place.has(_path(member.digest)) and not member.platform.startswith("unknown"):
                yield from _from_layout(place, member, names, tags, depth - 1)
        return
    files = tuple(_path(layer.digest) for layer in document.layers)
    if not all(place.has(file) for file in files):
        raise corrupt("it lacks a layer that it names")
    config_path = _path(document.config.digest)
    config_data = _blob(place, document.config)
    config = parse_image(config_data, len(document.layers))
    yield _Image(names or tags.get(config_path, ()), data, document, config_data, config, files)


def _from_docker(place: _Place, entry: Any) -> _Image:
    """Return an image of Docker's own format, with a manifest made for it."""
    if not isinstance(entry, dict) or not isinstance(entry.get("Layers"), list):
        raise corrupt("its manifest.json is of no known form")
    files = tuple(str(one) for one in entry["Layers"])
    config_data = _read(place, str(entry.get("Config")))
    config = parse_image(config_data, len(files))
    descriptors = [_measured(place, file) for file in files]
    settings = {"mediaType": _CONFIG, "digest": digest_of(config_data), "size": len(config_data)}
    manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": settings, "layers": descriptors}
    data = json.dumps(manifest, sort_keys=True).encode()
    parsed = parse_manifest(data)
    if not isinstance(parsed, Manifest):
        raise corrupt("its manifest.json is of no known form")
    return _Image(_tags(entry), data, parsed, config_data, config, files)


def _measured(place: _Place, file: str) -> dict[str, Any]:
    summed, size = hashlib.sha256(), 0
    with place.open(file) as source:
        while chunk := source.read(_CHUNK):
            summed.update(chunk)
            size += len(chunk)
    return {"mediaType": _LAYER, "digest": f"sha256:{summed.hexdigest()}", "size": size}


def _tags(entry: Mapping[str, Any]) -> tuple[str, ...]:
    tags = entry.get("RepoTags") or []
    if not isinstance(tags, list):
        raise corrupt("its manifest.json is of no known form")
    return tuple(_name(str(tag)) for tag in tags)


def _names(annotations: Mapping[str, str]) -> tuple[str, ...]:
    """Return the name that an entry of an index has; the specification's annotation may be a mere tag."""
    full, tag = (annotations.get(key, "") for key in _NAMES)
    name = full or (tag if "/" in tag or ":" in tag else "")
    return (_name(name),) if name else ()


def _name(text: str) -> str:
    try:
        return key_of(text)
    except InvalidReferenceError as error:
        raise corrupt(f"a name in it is no image reference: {one_line(repr(text), 100)}") from error


# -- Files ------------------------------------------------------------------------------------------------------------


def _path(digest: str) -> str:
    return f"blobs/{check_digest(digest).replace(':', '/')}"


def _blob(place: _Place, descriptor: Descriptor) -> bytes:
    data = _read(place, _path(descriptor.digest))
    if len(data) != descriptor.size or digest_of(data, descriptor.digest) != descriptor.digest:
        raise corrupt(f"{_path(descriptor.digest)} in it is damaged")
    return data


def _document(place: _Place, name: str) -> Any:
    return parse_json(_read(place, name), name)


def _read(place: _Place, name: str) -> bytes:
    with place.open(name) as file:
        data = file.read(LARGEST_DOCUMENT + 1)
    if len(data) > LARGEST_DOCUMENT:
        raise corrupt(f"{one_line(name)} in it is too large")
    return data


@contextlib.contextmanager
def _opened(archive: Path, disk: Disk, limits: Limits, work: Work) -> Iterator[_Place]:
    if archive.is_dir():
        yield _Folder(archive)
        return
    with contextlib.ExitStack() as stack:
        try:
            file: IO[bytes] = stack.enter_context(archive.open("rb"))
        except OSError as error:
            raise Failure(f"it cannot be read: {error.strerror}", "corrupt", hint="Check the path.") from error
        inside = decompressed(file)
        if inside is not file:
            file = stack.enter_context(tempfile.TemporaryFile(dir=disk.partial))
            _spool(inside, file, limits.allowed(archive.stat().st_size), work)
        yield _Tar(stack.enter_context(tarfile.open(fileobj=_Bounded(file), mode="r:")), work)  # type: ignore[call-overload]


def _spool(source: IO[bytes], target: IO[bytes], allowed: int, work: Work) -> None:
    """Take the compression off: what is in an archive is not read in order."""
    done = 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > allowed:
            raise corrupt(f"it unpacks to more than {allowed:,} bytes, which is taken for an attack")
        target.write(chunk)
        work.moved()
    target.seek(0)


class _Bounded:
    """A file that gives no more at once than anybody here asks for; a hostile header may ask for all memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= LARGEST_DOCUMENT + _CHUNK:
            raise corrupt("a file in it has a header that is too large")
        return self._file.read(size)


class _Folder:
    """An OCI image layout in a directory. Its files are plain files below it."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        if name.startswith("/") or ".." in name.split("/"):
            raise corrupt(f"{one_line(name)} is outside of it")
        try:
            descriptor = os.open(self._root / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise corrupt(f"{one_line(name)} in it cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise corrupt(f"{one_line(name)} in it is no plain file")
            yield file


class _Tar:
    """A tar file. Links in it lead to its own members only; older Docker writes some."""

    def __init__(self, tar: tarfile.TarFile, work: Work) -> None:
        self._tar = tar
        self._members: dict[str, tarfile.TarInfo] = {}
        for number, member in enumerate(tar):
            work.moved()
            if number > _MOST_FILES:
                raise corrupt(f"it holds more than {_MOST_FILES:,} files")
            self._members[member.name.removeprefix("./")] = member

    def has(self, name: str) -> bool:
        return name in self._members

    @contextlib.contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        member = self._members.get(name)
        file = None if member is None or member.issparse() else self._tar.extractfile(member)
        if file is None:
            raise corrupt(f"it has no file {one_line(name)}")
        with file:
            yield file
