"""`ImageManager`: makes sure that the images of container types are here."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import (
    ImageNotFoundError,
    OublietteError,
    UnknownContainerTypeError,
)
from oubliette_core.images.attempts import Patience, cancelled, persist
from oubliette_core.images.flight import Flights
from oubliette_core.images.lockfile import Lock, LockedImage, digest_of, read_lock, write_lock
from oubliette_core.images.names import Wanted, wanted_by_reference, wanted_by_type
from oubliette_core.images.outcome import ImageAction, ImageOutcome
from oubliette_core.images.record import Record, Turns
from oubliette_core.models import Cancel, ContainerType, ImageInfo, ProgressEvent, PullPolicy
from oubliette_core.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from oubliette_core.models import ProgressCallback
    from oubliette_core.runtime import Runtime

__all__ = ["ImageManager"]

_PARALLEL = 4
"""Pulls at a time: more only share the same line, and engines download several layers of each at once."""


_NONE: Mapping[str, str] = MappingProxyType({})


class ImageManager:
    """The images of the configured container types.

    :param runtime: where images are kept. :param types: the container types by name, or in their order.
    :param locks_dir: directory for lock files; processes that share it pull an image once.
    :param dev_mode: images are built here and never pulled: policy ``never`` for every type.
    :param mirrors: ``registry[/path]`` to pull from, by the registry that an image names.
    :param lock_file: holds each type to a digest while it is there; looked at anew with each call.
    :param patience: how long to keep trying.

    It may be used from several threads. It reads no environment and prints nothing.
    """

    def __init__(
        self,
        runtime: Runtime,
        types: Mapping[str, ContainerType] | Iterable[ContainerType],
        *,
        locks_dir: Path,
        dev_mode: bool = False,
        mirrors: Mapping[str, str] = _NONE,
        lock_file: Path | None = None,
        patience: Patience | None = None,
    ) -> None:
        listed = types.values() if hasattr(types, "values") else types
        self._runtime = runtime
        self._types: dict[str, ContainerType] = {each.name: each for each in listed}
        self._dev_mode = dev_mode
        self._mirrors = mirrors
        self._lock_file = lock_file
        self._patience = patience or Patience()
        self._turns = Turns(locks_dir)
        self._flights: Flights[ImageOutcome] = Flights()

    # -- Types ----------------------------------------------------------------------------------------------------

    @property
    def valid_types(self) -> tuple[str, ...]:
        """The configured container types, in the order of the configuration."""
        return tuple(self._types)

    def is_valid_type(self, name: str) -> bool:
        """Tell whether a container type is configured."""
        return name in self._types

    def get_image_name(self, name: str) -> str:
        """Return what the image of a container type is pulled by.

        That is the reference as configured with a tag, on the mirror of its registry if there is one, with its digest
        when it is locked.

        :raises UnknownContainerTypeError: the type is not configured.
        """
        return self._wanted(name).image

    def get_policy(self, name: str) -> PullPolicy:
        """Return when the image of a container type is pulled; in dev mode that is never.

        :raises UnknownContainerTypeError: the type is not configured.
        """
        return self._wanted(name).policy

    def find_local(self, name: str) -> ImageInfo | None:
        """Return the local image of a container type, None when it is not here. Uses no network.

        :raises UnknownContainerTypeError: the type is not configured.
        """
        return self._local(self._wanted(name))

    def runnable(self, name: str) -> ContainerType:
        """Return a container type with the name that its image is known by locally, to make a container of.

        :raises UnknownContainerTypeError: the type is not configured.
        :raises ConfigError: there is a lock, and the type is not in it as configured.
        """
        wanted = self._wanted(name)
        if wanted.problem is not None:
            raise wanted.problem
        found = self._find(wanted)
        return attrs.evolve(self._types[name], image=found[0] if found is not None else wanted.image)

    # -- Images ---------------------------------------------------------------------------------------------------

    def ensure_image_exists(
        self, name: str, *, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> ImageOutcome:
        """Have the image of a container type here, as its policy says.

        :raises UnknownContainerTypeError: the type is not configured.
        :raises ConfigError: the lock cannot be used, or the type is not in it as configured.
        :raises ImageNotFoundError: it is not here, and the policy is to never pull it.
        :raises ImagePullError: it could not be pulled, or ``cancel`` came first; what was here before still is.
        :raises RuntimeOperationError: whether it is here could not be told; nothing was pulled.
        """
        wanted = self._wanted(name)
        return self._get(wanted, refresh=wanted.policy is PullPolicy.ALWAYS, progress=progress, cancel=cancel)

    def pull(
        self,
        name: str,
        *,
        platform: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> ImageOutcome:
        """Have what the registry has now, whether or not an image is here. A policy of ``never`` holds here too.

        :param name: a container type, or an image reference with a slash, a tag or a digest in it.
        :param platform: for a reference: ``os/architecture[/variant]``.
        :raises UnknownContainerTypeError: it is neither. Other errors are those of `ensure_image_exists`.
        """
        wanted = self._wanted(name) if self.is_valid_type(name) else self._by_reference(name, platform)
        return self._get(wanted, refresh=True, progress=progress, cancel=cancel)

    def ensure_all_images(
        self,
        names: Iterable[str] | None = None,
        *,
        refresh: bool = False,
        progress: ProgressCallback | None = None,
        cancel: Cancel | None = None,
    ) -> tuple[ImageOutcome, ...]:
        """Do for several container types what `ensure_image_exists` does, several at a time.

        It goes on after a failure: each outcome is reported, in the order of the types.

        :param names: container types; None for all. :param refresh: do what `pull` does instead.
        :raises UnknownContainerTypeError: one of them is not configured; nothing was done.
        """
        wanted = [self._wanted(name) for name in (self.valid_types if names is None else names)]
        return self._get_all(wanted, refresh=refresh, progress=progress, cancel=cancel)

    def _get_all(
        self, wanted: Sequence[Wanted], *, refresh: bool, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> tuple[ImageOutcome, ...]:
        if not wanted:
            return ()
        stop = Cancel()
        forget = cancel.on_cancel(stop.cancel) if cancel is not None else None

        def get(each: Wanted) -> ImageOutcome:
            return self._try(each, refresh=refresh or each.policy is PullPolicy.ALWAYS, progress=progress, cancel=stop)

        try:
            with ThreadPoolExecutor(min(_PARALLEL, len(wanted)), "oubliette-images") as pool:
                try:
                    return tuple(pool.map(get, wanted))
                except BaseException:
                    # An interrupt: leaving the block waits for the threads, which this ends.
                    stop.cancel()
                    raise
        finally:
            if forget is not None:
                forget()

    def _try(self, wanted: Wanted, *, refresh: bool, progress: ProgressCallback | None, cancel: Cancel) -> ImageOutcome:
        began = time.monotonic()
        try:
            return self._get(wanted, refresh=refresh, progress=progress, cancel=cancel)
        except OublietteError as error:
            return ImageOutcome(
                type=wanted.type,
                image=wanted.image,
                platform=wanted.platform,
                action=ImageAction.FAILED,
                error=error,
                duration=time.monotonic() - began,
            )

    # -- Without a registry ---------------------------------------------------------------------------------------

    def save(self, archive: Path, names: Iterable[str] | None = None, *, cancel: Cancel | None = None) -> Path:
        """Write the local images of container types into an archive (an OCI image layout) that `load` takes.

        In it they have their configured names, whatever mirror or digest they were pulled by.

        :param names: container types; None for all.
        :raises ImageNotFoundError: one of them is not here; nothing was written.
        :raises UnsupportedError: the runtime cannot save images.
        """
        known: dict[str, list[str]] = {}
        for wanted in [self._wanted(name) for name in (self.valid_types if names is None else names)]:
            found = self._find(wanted)
            if found is None:
                raise self._missing(wanted, "Pull it first: oubliette image pull")
            name = str(attrs.evolve(Reference.parse(wanted.configured), digest=""))
            known.setdefault(found[0], []).append(str(Reference.parse(name).with_default_tag()))
        from oubliette_core.images.offline import write_archive  # noqa: PLC0415 - nothing else needs archives

        write_archive(self._runtime, [(one, tuple(dict.fromkeys(its))) for one, its in known.items()], archive, cancel)
        return archive

    def load(
        self, archive: Path, *, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> tuple[ImageInfo, ...]:
        """Load all images of an archive, without the network: see `RuntimeSpec.load_images`."""
        return self._runtime.load_images(archive, progress=progress, cancel=cancel)

    def lock(
        self, *, update: bool = False, progress: ProgressCallback | None = None, cancel: Cancel | None = None
    ) -> tuple[ImageOutcome, ...]:
        """Hold each container type to the digest of its image: write it into the lock file.

        Types that are never pulled are left out, and those that are no longer configured leave the lock.

        :param update: hold them to what the registry has now; otherwise what is locked stays, and the others are
            held to the image that is here, pulled where it is missing.
        :returns: the images that were looked at. The lock is written only if all of them are ``ok``.
        :raises ConfigError: the lock cannot be read or written.
        """
        if self._lock_file is None:
            raise ValueError("this image manager has no lock file")
        lock = read_lock(self._lock_file)
        pulled = [each for each in self._types.values() if each.pull is not PullPolicy.NEVER]
        kept = {each.name: lock.find(each) for each in pulled} if lock is not None and not update else {}
        entries = {name: entry for name, entry in kept.items() if entry is not None}
        wanted = [self._wanted(each.name, unlocked=True) for each in pulled if each.name not in entries]
        outcomes = tuple(
            map(self._with_digest, self._get_all(wanted, refresh=update, progress=progress, cancel=cancel))
        )
        if all(outcome.ok for outcome in outcomes):
            for each, outcome in zip(wanted, outcomes, strict=True):
                entries[each.type] = _locked(each, outcome)
            write_lock(self._lock_file, Lock(images={each.name: entries[each.name] for each in pulled}))
        return outcomes

    def _with_digest(self, outcome: ImageOutcome) -> ImageOutcome:
        """Return the outcome, as a failure if the image has no digest to be held to."""
        if outcome.info is None or digest_of(outcome.info, outcome.image):
            return outcome
        error = ImageNotFoundError(
            f"image {outcome.image} was built or loaded here: it has no digest of a registry",
            runtime=self._runtime.name,
            subject=outcome.image,
            hint="Pull it: oubliette image lock --update. Or say that it is never pulled: pull: never",
        )
        return attrs.evolve(outcome, action=ImageAction.FAILED, info=None, error=error)

    # -- What is wanted -------------------------------------------------------------------------------------------

    def _wanted(self, name: str, *, unlocked: bool = False) -> Wanted:
        found = self._types.get(name)
        if found is None:
            raise self._unknown(name)
        file = None if unlocked else self._lock_file
        lock = read_lock(file) if file is not None and not self._dev_mode else None
        return wanted_by_type(found, dev_mode=self._dev_mode, mirrors=self._mirrors, lock=lock, lock_file=file)

    def _by_reference(self, name: str, platform: str | None) -> Wanted:
        # A single word is far more often a misspelt type than an image of Docker Hub's library.
        if not {"/", ":", "@"} & set(name):
            raise self._unknown(name)
        return wanted_by_reference(name, platform, dev_mode=self._dev_mode, mirrors=self._mirrors)

    def _unknown(self, name: str) -> UnknownContainerTypeError:
        listed = ", ".join(self._types) or "none"
        return UnknownContainerTypeError(
            f"there is no container type {name!r}; configured: {listed}",
            subject=name,
            valid_types=self.valid_types,
            hint="Choose one of them, or add it under containers in the configuration.",
        )

    def _local(self, wanted: Wanted) -> ImageInfo | None:
        """Look for the local image; what goes wrong with that is not taken for an absence."""
        found = self._find(wanted)
        return found[1] if found is not None else None

    def _find(self, wanted: Wanted) -> tuple[str, ImageInfo] | None:
        """Return the local image with the name that it was found by: one engine call for each that it may have."""
        runtime = self._runtime
        for name in wanted.local:
            if "inspect_image" in runtime.missing_hooks:
                if runtime.exists(name, platform=wanted.platform):
                    return name, ImageInfo(id="", references=(name,))
                continue
            try:
                return name, runtime.inspect_image(name, platform=wanted.platform)
            except ImageNotFoundError:
                continue
        return None

    # -- Getting it -----------------------------------------------------------------------------------------------

    def _get(
        self, wanted: Wanted, *, refresh: bool, progress: ProgressCallback | None, cancel: Cancel | None
    ) -> ImageOutcome:
        began = time.monotonic()
        if wanted.problem is not None:
            raise wanted.problem
        if not refresh or wanted.policy is PullPolicy.NEVER:
            info = self._local(wanted)
            if info is not None:
                return self._finished(wanted, _present(wanted, info), began)
            if wanted.policy is PullPolicy.NEVER:
                raise self._missing(wanted)
        name = str(Reference.parse(wanted.image).normalised())
        key = f"{self._runtime.name}\n{name}\n{wanted.platform or ''}"
        outcome = self._flights.fly(
            # Who only needs the image to be here takes any pull; who refreshes needs one that asks the registry.
            [(key, True)] if refresh else [(key, False), (key, True)],
            lambda report, stop: self._fetch(wanted, key, refresh=refresh, progress=report, cancel=stop),
            progress=progress,
            cancel=cancel,
            cancelled=lambda: cancelled(wanted.image),
        )
        return self._finished(wanted, outcome, began)

    def _finished(self, wanted: Wanted, outcome: ImageOutcome, began: float) -> ImageOutcome:
        return attrs.evolve(outcome, type=wanted.type, image=wanted.image, duration=time.monotonic() - began)

    def _missing(self, wanted: Wanted, hint: str = "") -> ImageNotFoundError:
        hint = hint or "Build it, or load it with: oubliette image load. Its policy is never to pull it."
        if self._dev_mode:
            hint = "Build it: ./build.sh. In dev mode (OUBLIETTE_DEV=1) nothing is pulled."
        what = f" of container type {wanted.type}" if wanted.type else ""
        return ImageNotFoundError(
            f"image {wanted.image}{what} is not here", runtime=self._runtime.name, subject=wanted.image, hint=hint
        )

    def _fetch(
        self, wanted: Wanted, key: str, *, refresh: bool, progress: ProgressCallback, cancel: Cancel
    ) -> ImageOutcome:
        """Do the work of a flight: wait for the other processes, then pull, or share what one of them got."""

        def waiting() -> None:
            detail = "another process is pulling it"
            progress(ProgressEvent(image=wanted.image, phase="waiting", detail=detail))

        with self._turns.take(key, subject=wanted.image, waiting=waiting, cancel=cancel) as news:
            if news is not None and news.error is not None:
                raise news.error
            before = self._local(wanted)
            if before is not None and (news is not None or not refresh):
                progress(ProgressEvent(image=wanted.image, phase="done"))
                return _present(wanted, before) if news is None else _shared(wanted, before, news)
            return self._pull(wanted, key, before, progress, cancel)

    def _pull(
        self, wanted: Wanted, key: str, before: ImageInfo | None, progress: ProgressCallback, cancel: Cancel
    ) -> ImageOutcome:
        def pull() -> ImageInfo:
            return self._runtime.pull(wanted.image, platform=wanted.platform, progress=progress, cancel=cancel)

        def retrying(seconds: float, error: BaseException) -> None:
            detail = f"{error}; next attempt in {seconds:.0f} s"
            progress(ProgressEvent(image=wanted.image, phase="retrying", detail=detail))

        previous = before.id if before is not None else ""
        try:
            info = persist(pull, self._patience, retrying=retrying, cancel=cancel, subject=wanted.image)
        except OublietteError as error:
            # A cancel is nobody else's affair: the next process in the queue pulls.
            if not cancel.cancelled:
                self._turns.publish(key, Record(previous_id=previous, error=error))
            raise
        record = Record(unchanged=before is not None and info.id == previous, previous_id=previous)
        self._turns.publish(key, record)
        return _shared(wanted, info, record)


def _present(wanted: Wanted, info: ImageInfo) -> ImageOutcome:
    return ImageOutcome(image=wanted.image, platform=wanted.platform, action=ImageAction.PRESENT, info=info)


def _shared(wanted: Wanted, info: ImageInfo, record: Record) -> ImageOutcome:
    return ImageOutcome(
        image=wanted.image,
        platform=wanted.platform,
        action=ImageAction.UNCHANGED if record.unchanged else ImageAction.PULLED,
        info=info,
        previous_id=record.previous_id,
    )


def _locked(wanted: Wanted, outcome: ImageOutcome) -> LockedImage:
    digest = digest_of(outcome.info, outcome.image) if outcome.info is not None else ""
    return LockedImage(image=wanted.configured, platform=wanted.platform, digest=digest, id=outcome.id)
