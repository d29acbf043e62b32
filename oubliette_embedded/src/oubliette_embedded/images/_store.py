"""The store of images: what the runtime asks about images, it asks here."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import (
    ImageNotFoundError,
    InUseError,
    InvalidSpecError,
    OperationCancelledError,
    RuntimeOperationError,
)
from oubliette_core.models import Cancel, ImageInfo, ProgressCallback, ProgressEvent
from oubliette_core.reference import Reference
from oubliette_embedded.images._collect import collect, given_up
from oubliette_embedded.images._disk import Disk
from oubliette_embedded.images._documents import Descriptor, ImageDocument, parse_image
from oubliette_embedded.images._failures import RUNTIME, damaged_here, reported
from oubliette_embedded.images._index import (
    Record,
    find,
    key_of,
    read_images,
    read_use,
    read_uses,
    remove_use,
    write_images,
    write_use,
)
from oubliette_embedded.images._layers import Layers
from oubliette_embedded.images._model import Limits, StoredImage
from oubliette_embedded.images._work import SILENCE, Work, carry_out

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from oubliette_core.logins import DockerLogins
    from oubliette_embedded.images._layers import Layer

__all__ = ["ImageStore"]

_HUB = "docker.io/"
_HUB_LIBRARY = "docker.io/library/"


class ImageStore:
    """The images of one user of this machine, shared by all processes.

    :param root: where they are kept; made on first use, for nobody else to read.
    :param plain_registries: registries (``host:port``) that are asked without TLS, besides those on this machine.
    :param logins: how to log in to registries; by default what the docker CLI has.
    :param limits: what a layer may hold. :param silence: seconds without any event after which a pull has stalled.
    """

    def __init__(
        self,
        root: Path,
        *,
        plain_registries: Iterable[str] = (),
        logins: DockerLogins | None = None,
        limits: Limits | None = None,
        silence: float = SILENCE,
    ) -> None:
        self._disk = Disk(root)
        self._limits = limits or Limits()
        self._layers = Layers(self._disk, self._limits)
        self._plain = frozenset(plain_registries)
        self._logins = logins
        self._silence = silence

    # -- Looking ------------------------------------------------------------------------------------------------------

    def exists(self, image: str, platform: str | None) -> bool:
        """See `RuntimeSpec.exists`."""
        return find(read_images(self._disk), image, platform) is not None

    def inspect(self, image: str, platform: str | None) -> ImageInfo:
        """See `RuntimeSpec.inspect_image`."""
        records = read_images(self._disk)
        return self._describe(self._find(records, image, platform), records)

    def _find(self, records: list[Record], image: str, platform: str | None) -> Record:
        record = find(records, image, platform)
        if record is not None:
            return record
        other = find(records, image, None)
        if other is not None:
            raise _not_found(f"image {image} is here for {other.platform}, and not for {platform}", image)
        raise _not_found(f"there is no image {image} here", image)

    def _describe(self, record: Record, records: Iterable[Record]) -> ImageInfo:
        document = self._document(record)
        same = [one for one in records if one.id == record.id] or [record]
        named = [one for one in same if one.reference]
        tags = {_familiar(one.reference) for one in named if "@" not in one.reference}
        digests = {f"{_familiar(one.name)}@{one.target}" for one in named if one.target}
        found = [self._layers.find(diff_id) for diff_id in dict.fromkeys(record.diff_ids)]
        return ImageInfo(
            id=record.id,
            references=tuple(sorted(tags)),
            digests=tuple(sorted(digests)),
            size=sum(layer.size for layer in found if layer is not None),
            platform=record.platform,
            created_at=document.created_at,
            labels=document.config.labels,
        )

    def _document(self, record: Record) -> ImageDocument:
        with reported(f"image {record.reference or record.id} cannot be used", record.reference or record.id):
            data = self._disk.read_blob(record.id)
            if data is None:
                raise damaged_here("its configuration")
            return parse_image(data, len(record.layers))

    # -- Pulling ------------------------------------------------------------------------------------------------------

    def pull(
        self,
        image: str,
        platform: str | None,
        *,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
        timeout: float | None = None,
    ) -> ImageInfo:
        """See `RuntimeSpec.pull`."""
        reference = Reference.parse(image).normalised()
        with reported(f"image {image} could not be pulled", image), self._disk.shared():
            record = carry_out(
                lambda work: self._pull(image, reference, platform, work),
                image=image,
                operation="pull",
                progress=progress,
                cancel=cancel,
                timeout=timeout,
                silence=self._silence,
            )
            info = self._add([record])[0]
            if progress is not None:
                progress(ProgressEvent(image=image, phase="done"))
        self._collect()
        return info

    def _pull(self, image: str, reference: Reference, platform: str | None, work: Work) -> Record:
        # Not needed by any other command, and slow to import.
        from oubliette_core.logins import DockerLogins  # noqa: PLC0415
        from oubliette_embedded.images._pull import Pull  # noqa: PLC0415
        from oubliette_embedded.images._registry import Repository  # noqa: PLC0415
        from oubliette_embedded.images._transport import Transport  # noqa: PLC0415

        # Once more: this thread may be left behind.
        with self._disk.shared(), contextlib.closing(Transport(work.stop, self._silence)) as transport:
            known = find(read_images(self._disk), str(reference), platform)
            repository = Repository(
                reference,
                transport,
                lambda: (self._logins or DockerLogins()).find(reference.registry, image, work.stop),
                self._plain,
            )
            return Pull(self._disk, self._layers, repository, work).run(reference, platform, known)

    def _add(self, added: list[Record]) -> list[ImageInfo]:
        """Write images into the list, in the place of those that have their reference and platform by now."""
        with self._disk.shared(), self._disk.index(change=True):
            records = read_images(self._disk)
            added = [_with_target(record, records) for record in added]
            places = {_place(record) for record in added}
            replaced = [record for record in records if _place(record) in places]
            kept = [record for record in records if _place(record) not in places]
            write_images(self._disk, [*kept, *added])
            for record in replaced:
                given_up(self._disk, record)
        return [self._describe(record, [*kept, *added]) for record in added]

    # -- Archives -----------------------------------------------------------------------------------------------------

    def load(
        self, archive: Path, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> tuple[ImageInfo, ...]:
        """See `RuntimeSpec.load_images`."""
        from oubliette_embedded.images._archives import load  # noqa: PLC0415 - as for a pull

        def work_on(work: Work) -> list[Record]:
            with self._disk.shared():  # this thread may be left behind
                return load(self._disk, self._layers, archive, self._limits, work)

        with reported(f"archive {archive} could not be loaded", str(archive)), self._disk.shared():
            records = carry_out(
                work_on,
                image=str(archive),
                operation="load_images",
                progress=progress,
                cancel=cancel,
                silence=self._silence,
            )
            infos = self._add(records)
            if progress is not None:
                progress(ProgressEvent(image=str(archive), phase="done"))
        self._collect()
        return tuple(infos)

    def save(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None = None) -> Path:
        """See `RuntimeSpec.save_images`."""
        from oubliette_embedded.images._saving import save  # noqa: PLC0415 - as for a pull

        def check() -> None:
            if cancel is not None and cancel.cancelled:
                raise OperationCancelledError("saving was cancelled", runtime=RUNTIME, subject=str(archive))

        with self._disk.shared():
            records = read_images(self._disk)
            found = [self._find(records, image, None) for image in images]
            names = ["" if "@" in record.reference else _familiar(record.reference) for record in found]
            check()
            try:
                save(self._disk, list(zip(names, found, strict=True)), archive, check)
            except OSError as error:
                raise RuntimeOperationError(
                    f"{archive} cannot be written: {error.strerror or error}", runtime=RUNTIME, subject=str(archive)
                ) from error
        return archive

    # -- Using --------------------------------------------------------------------------------------------------------

    def use(self, image: str, platform: str | None, user: str) -> StoredImage:
        """Give an image for a container, and keep it from being removed until `release`; never uses the network.

        :param user: id of the container.
        :raises ImageNotFoundError: it is not here, or not for this platform. :raises ImagePullError: it is damaged.
        :raises InvalidSpecError: there is nothing in it.
        """
        with self._disk.shared():
            with self._disk.index(change=False):
                record = self._find(read_images(self._disk), image, platform)
                write_use(self._disk, user, record)
            try:
                return self._ready(record)
            except BaseException:
                remove_use(self._disk, user)
                raise

    def used(self, user: str) -> StoredImage:
        """Give the image that a container was made from. :raises ImageNotFoundError: no image is noted for it."""
        with self._disk.shared():
            record = read_use(self._disk, user)
            if record is None:
                raise _not_found(f"no image is noted for container {user}", user)
            return self._ready(record)

    def release(self, user: str) -> None:
        """Let the image of a container go. Idempotent."""
        with self._disk.shared(), self._disk.index(change=True):
            record = read_use(self._disk, user)
            remove_use(self._disk, user)
            if record is not None and not any(one.id == record.id for one in read_images(self._disk)):
                given_up(self._disk, record)
        self._collect()

    def _ready(self, record: Record) -> StoredImage:
        document = self._document(record)
        if not record.layers:
            name = record.reference or record.id
            raise InvalidSpecError(f"image {name} has no layers, so there is nothing in it to be run", value=name)
        work = Work()
        found: list[tuple[str, Layer]] = []
        with reported(f"image {record.reference or record.id} cannot be used", record.reference or record.id):
            for digest, size, diff_id in zip(record.layers, record.sizes, record.diff_ids, strict=True):
                blob = Descriptor(media_type="", digest=digest, size=size)
                found.append((diff_id, self._layers.ensure(diff_id, blob, work)))
            layers = self._layers.stack(found, work)
        return StoredImage(
            id=record.id,
            reference=record.reference,
            layers=layers,
            config=document.config,
            platform=record.platform,
        )

    # -- Removing -----------------------------------------------------------------------------------------------------

    def remove(self, image: str) -> bool:
        """See `RuntimeSpec.remove_image`; by an id, all references to it are removed."""
        if not self.exists(image, None):
            return False
        key = key_of(image)
        with self._disk.shared(), self._disk.index(change=True):
            records = read_images(self._disk)
            gone = [record for record in records if find([record], key, None)]
            kept = [record for record in records if record not in gone]
            used = {record.id for record in read_uses(self._disk)}
            lost = {record.id for record in gone} - {record.id for record in kept}
            if used & lost:
                raise InUseError(
                    f"image {image} is in use",
                    runtime=RUNTIME,
                    subject=image,
                    hint="Remove the containers made from it first.",
                )
            write_images(self._disk, kept)
            for record in gone:
                given_up(self._disk, record)
        self._collect()
        return bool(gone)

    def _collect(self) -> None:
        # What could not be removed now is removed the next time.
        with contextlib.suppress(OSError):
            collect(self._disk)


def _with_target(record: Record, known: Iterable[Record]) -> Record:
    """Keep what is known of where an image came from when it is loaded once more."""
    same = (one for one in known if (_place(one), one.manifest) == (_place(record), record.manifest))
    return record if record.target else attrs.evolve(record, target=next((one.target for one in same), ""))


def _place(record: Record) -> tuple[str, str]:
    return record.reference or record.id, record.platform


def _familiar(reference: str) -> str:
    """Return a reference as people write it: Docker Hub is not named."""
    return reference.removeprefix(_HUB_LIBRARY).removeprefix(_HUB)


def _not_found(message: str, image: str) -> ImageNotFoundError:
    return ImageNotFoundError(message, runtime=RUNTIME, subject=image, hint="Pull it, or load it from an archive.")
