"""Runtimes that are wrong about images."""

from __future__ import annotations

import attrs

from oubliette_core.errors import (
    ImageNotFoundError,
    ImagePullError,
)
from oubliette_core.hookspecs import hookimpl
from oubliette_core.models import (
    Cancel,
    ImageInfo,
    ProgressCallback,
    ProgressEvent,
)
from tests.conformance.saboteurs.base import Saboteur


@attrs.frozen(kw_only=True)
class Wanted:
    """The arguments of a pull."""

    image: str
    platform: str | None
    progress: ProgressCallback | None
    cancel: Cancel | None
    timeout: float | None


class _WrongPull(Saboteur):
    """Does something wrong in `download`."""

    @hookimpl
    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        return self.download(Wanted(image=image, platform=platform, progress=progress, cancel=cancel, timeout=timeout))

    def download(self, wanted: Wanted) -> ImageInfo:
        """Pull as it should be done."""
        return super().pull(wanted.image, wanted.platform, wanted.progress, wanted.cancel, wanted.timeout)


class PlatformBlindExists(Saboteur):
    """Takes an image of any platform for the one that is asked for."""

    caught_by = ("images.exists.own-platform", "images.exists.platform")

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        return super().exists(image, None)


class PlatformBlindPull(_WrongPull):
    """Pulls the engine's own platform, whichever is asked for."""

    caught_by = ("images.pull.other-platform",)

    def download(self, wanted: Wanted) -> ImageInfo:
        return super().download(attrs.evolve(wanted, platform=None))


class SwallowsPullErrors(_WrongPull):
    """Reports a refresh that failed as done, because there is an image."""

    caught_by = ("images.pull.keeps-old-image", "images.pull.refused-keeps-old-image")

    def download(self, wanted: Wanted) -> ImageInfo:
        try:
            return super().download(wanted)
        except ImagePullError:
            try:
                return self.inspect_image(wanted.image, wanted.platform)
            except ImageNotFoundError:
                pass
            raise


class SwallowsStreamErrors(_WrongPull):
    """Does not look at what goes wrong once a download has begun."""

    caught_by = ("images.pull.error-in-stream", "images.pull.corrupt-layer")

    def download(self, wanted: Wanted) -> ImageInfo:
        begun: list[ProgressEvent] = []
        try:
            return super().download(attrs.evolve(wanted, progress=begun.append))
        except ImagePullError:
            if begun:
                return ImageInfo(id=f"sha256:{'0' * 64}", size=1)
            raise


class DropsOldImage(_WrongPull):
    """Removes the old image before the new one is there."""

    caught_by = ("images.pull.keeps-old-image",)

    def download(self, wanted: Wanted) -> ImageInfo:
        super().remove_image(wanted.image)
        return super().download(wanted)


class RetriesAtOnce(_WrongPull):
    """Asks a registry that is overloaded again and again."""

    caught_by = ("images.pull.rate-limited",)

    def download(self, wanted: Wanted) -> ImageInfo:
        for _ in range(3):
            try:
                return super().download(wanted)
            except ImagePullError as error:
                if not error.retryable:
                    raise
        return super().download(wanted)


class OneReason(_WrongPull):
    """Has one reason for all that goes wrong."""

    caught_by = ("images.pull.no-repository", "images.pull.unauthorized", "images.pull.corrupt-layer")

    def download(self, wanted: Wanted) -> ImageInfo:
        try:
            return super().download(wanted)
        except ImagePullError as error:
            raise ImagePullError(str(error), runtime=error.runtime, subject=error.subject) from error


class IgnoresCancel(_WrongPull):
    """Pulls to the end, whoever cancels."""

    caught_by = ("images.cancel.before",)

    def download(self, wanted: Wanted) -> ImageInfo:
        return super().download(attrs.evolve(wanted, cancel=None))


class TwoEnds(_WrongPull):
    """Says twice that a pull is done."""

    caught_by = ("images.progress.one-end",)

    def download(self, wanted: Wanted) -> ImageInfo:
        info = super().download(wanted)
        if wanted.progress is not None:
            wanted.progress(ProgressEvent(image=wanted.image, phase="done"))
        return info


class BackwardProgress(_WrongPull):
    """Counts a layer down."""

    caught_by = ("images.progress.monotone",)

    def download(self, wanted: Wanted) -> ImageInfo:
        def backwards(event: ProgressEvent) -> None:
            if wanted.progress is not None:
                wanted.progress(attrs.evolve(event, current=(event.total or 0) - event.current))

        return super().download(attrs.evolve(wanted, progress=backwards))


class ExistsAsks(Saboteur):
    """Asks the registry whether an image is here."""

    caught_by = ("images.exists.no-network",)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        found = super().exists(image, platform)
        if not found:
            try:
                super().pull(image, platform, None, None, 10.0)
                super().remove_image(image)
            except ImagePullError:
                pass
        return found


class GuessesTags(Saboteur):
    """Takes another tag of the same repository for the one that is asked for."""

    caught_by = ("images.exists.whole-name",)

    @hookimpl
    def exists(self, image: str, platform: str | None) -> bool:
        name = image.rpartition(":")[0]
        return super().exists(image, platform) or any(
            reference.rpartition(":")[0] == name
            for container_image in self.engine.images.all()
            for reference in self.engine.images.describe(container_image).references
        )
