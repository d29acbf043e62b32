"""Images from and to files."""

from __future__ import annotations

import contextlib
import json
import lzma
import os
import re
import tarfile
import tempfile
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from oubliette_core.errors import (
    ImagePullError,
    OperationCancelledError,
    OperationTimeoutError,
    RuntimeOperationError,
)
from oubliette_docker._errors import RUNTIME, EngineError, translated
from oubliette_docker._images import SILENCE, engine_reference
from oubliette_docker._progress import PullReport, engine_messages
from oubliette_docker._specs import matches_platform

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.errors import PullFailure
    from oubliette_core.models import Cancel, ImageInfo, ProgressCallback
    from oubliette_docker._connection import Connection
    from oubliette_docker._images import Images

__all__ = ["ImageArchives"]

_CHUNK = 1024 * 1024
_LARGEST_DOCUMENT = 16 * 1024 * 1024
_DAMAGE = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, LookupError, TypeError)
"""What reading a damaged archive raises."""
_LOADED = ("Loaded image: ", "Loaded image ID: ")


class ImageArchives:
    """Loads and saves images of one engine."""

    def __init__(self, connection: Connection, images: Images) -> None:
        self._connection, self._images = connection, images

    # -- Load ---------------------------------------------------------------------------------------------------------

    def load(self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None) -> tuple[ImageInfo, ...]:
        """See `RuntimeSpec.load_images`."""
        subject = str(archive)
        report = PullReport(subject, progress)
        with translated("load_images", subject):
            try:
                names = self._load(archive, report, cancel)
            except OperationCancelledError as error:
                raise _failed(subject, "was cancelled", "cancelled") from error
            except OperationTimeoutError as error:
                raise _failed(subject, f"nothing was read for {SILENCE:g} s", "stalled") from error
            except EngineError as error:
                raise _refused(subject, error.message) from error
            except _UnreadableError as error:
                raise _failed(subject, f"is no archive of images: {error}", "corrupt") from error
            if report.failure:
                raise _refused(subject, report.failure)
            if not names:
                raise _failed(subject, "contains no image", "corrupt")
            found = tuple(self._images.inspect(name, None) for name in names)
        report.done()
        return found

    def _load(self, archive: Path, report: PullReport, cancel: Cancel | None) -> list[str]:
        names: list[str] = []
        with contextlib.ExitStack() as stack:
            chunks = stack.enter_context(
                self._connection.stream(
                    "POST",
                    "/images/load",
                    query={"quiet": False},
                    headers={"Content-Type": "application/x-tar"},
                    body=self._readable(archive, stack),
                    timeout=None,
                    idle_timeout=SILENCE,
                    cancel=cancel,
                )
            )
            for message in engine_messages(chunks):
                report.take(message)
                names.extend(_names_in(message))
        return names

    def _readable(self, archive: Path, stack: contextlib.ExitStack) -> Iterator[bytes]:
        """Return the archive as every engine reads it.

        Docker before version 25 wants Docker's own table of contents. An archive that has only OCI's is given one.
        """
        with _reading():
            tar = stack.enter_context(tarfile.open(archive, "r:*"))  # noqa: SIM115 - the stack closes it
            documents = _documents(tar)
            if "manifest.json" in documents or "index.json" not in documents:
                return _chunks(stack.enter_context(archive.open("rb")))
        platform = self._images.own_platform()
        with _reading():
            contents = _docker_manifest(documents, platform)
            inside: Any = tar.fileobj  # what the compression, if any, was taken off
            inside.seek(0)
        return _with_file_first("manifest.json", contents, inside)

    # -- Save ---------------------------------------------------------------------------------------------------------

    def save(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """See `RuntimeSpec.save_images`."""
        for image in images:
            self._images.inspect(image, None)
        names = [engine_reference(image) for image in images]
        with translated("save_images", ", ".join(images)):
            try:
                self._save(names, archive, cancel)
            except OSError as error:
                raise RuntimeOperationError(
                    f"{archive} cannot be written: {error.strerror or error}", runtime=RUNTIME, subject=str(archive)
                ) from error
        return archive

    def _save(self, names: list[str], archive: Path, cancel: Cancel | None) -> None:
        with tempfile.NamedTemporaryFile(dir=archive.parent, prefix=f".{archive.name}.", delete=False) as file:
            try:
                with self._connection.stream(
                    "GET", "/images/get", query={"names": names}, timeout=SILENCE, idle_timeout=SILENCE, cancel=cancel
                ) as chunks:
                    for chunk in chunks:
                        file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(archive)
            except BaseException:
                Path(file.name).unlink()
                raise


class _UnreadableError(Exception):
    """The archive cannot be read; the message says why."""


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        OSError,
        EOFError,
        zlib.error,
        lzma.LZMAError,
        ValueError,
        LookupError,
        TypeError,
    ) as error:
        raise _UnreadableError(str(error) or type(error).__name__) from error


def _refused(subject: str, said: str) -> ImagePullError:
    if re.search("no space left|disk quota", said, re.IGNORECASE):
        error = _failed(subject, said, "no_space")
        error.hint = "Free space on the engine's machine: docker system df"
        return error
    return _failed(subject, f"is refused by the engine: {said}", "corrupt")


def _failed(subject: str, why: str, reason: PullFailure) -> ImagePullError:
    return ImagePullError(f"archive {subject} {why}", reason=reason, runtime=RUNTIME, subject=subject)


def _names_in(message: Mapping[str, Any]) -> Iterator[str]:
    for line in str(message.get("stream") or "").splitlines():
        for beginning in _LOADED:
            if line.startswith(beginning):
                yield from (name.strip() for name in line.removeprefix(beginning).split(","))


def _documents(tar: tarfile.TarFile) -> dict[str, bytes]:
    """Return the small JSON files of an archive that say what is in it."""
    documents = {}
    for member in tar:
        name = member.name.removeprefix("./")
        wanted = name in ("manifest.json", "index.json") or name.startswith("blobs/")
        if member.isfile() and wanted and member.size <= _LARGEST_DOCUMENT:
            file = tar.extractfile(member)
            if file is not None and (head := file.read(1)) in (b"{", b"["):
                documents[name] = head + file.read()
    return documents


def _docker_manifest(documents: Mapping[str, bytes], platform: str) -> bytes:
    """Write Docker's table of contents for the images of an OCI layout that are for this platform."""
    entries = []
    for descriptor in json.loads(documents["index.json"])["manifests"]:
        manifest = _manifest_for(descriptor, documents, platform)
        if manifest is None:
            continue
        name = (descriptor.get("annotations") or {}).get("io.containerd.image.name")
        entries.append(
            {
                "Config": _blob(manifest["config"]["digest"]),
                "RepoTags": [name] if name else None,
                "Layers": [_blob(layer["digest"]) for layer in manifest["layers"]],
            }
        )
    if not entries:
        raise ValueError(f"it has no image for {platform}")
    return json.dumps(entries).encode()


def _manifest_for(
    descriptor: Mapping[str, Any], documents: Mapping[str, bytes], platform: str
) -> Mapping[str, Any] | None:
    """Follow a descriptor of an OCI index to the manifest for a platform, through an index in it where there is one."""
    offered = descriptor.get("platform")
    if offered and not matches_platform(platform, f"{offered.get('os')}/{offered.get('architecture')}"):
        return None
    document: Mapping[str, Any] = json.loads(documents[_blob(descriptor["digest"])])
    if "manifests" not in document:
        return document
    found = (_manifest_for(member, documents, platform) for member in document["manifests"])
    return next((manifest for manifest in found if manifest), None)


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    return f"blobs/{algorithm}/{value}"


def _with_file_first(name: str, content: bytes, rest: IO[bytes]) -> Iterator[bytes]:
    first = tarfile.TarInfo(name)
    first.size = len(content)
    padding = -len(content) % tarfile.BLOCKSIZE
    yield first.tobuf(tarfile.GNU_FORMAT) + content + bytes(padding)
    yield from _chunks(rest)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while True:
        with _reading():
            chunk = file.read(_CHUNK)
        if not chunk:
            return
        yield chunk
