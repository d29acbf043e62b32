"""Images: look at them, pull them, remove them."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import (
    ImageNotFoundError,
    ImagePullError,
    InUseError,
    OperationCancelledError,
    OperationTimeoutError,
)
from oubliette_core.reference import Reference
from oubliette_docker._errors import RUNTIME, EngineError, pull_error, translated
from oubliette_docker._progress import PullReport, engine_messages
from oubliette_docker._specs import image_info, matches_platform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core.errors import PullFailure
    from oubliette_core.models import Cancel, ImageInfo, ProgressCallback
    from oubliette_docker._connection import Connection
    from oubliette_docker._credentials import Credentials

__all__ = ["Images", "engine_reference"]

SILENCE = 120.0
"""Seconds without any event after which a pull has stalled. The engine's own retrying is an event."""


def engine_reference(image: str) -> str:
    """Return a reference as every engine takes it: with a digest, the tag is left out; Podman refuses both."""
    if image.startswith("sha256:"):
        return image
    reference = Reference.parse(image)
    return f"{reference.name}@{reference.digest}" if reference.digest else str(reference)


class Images:
    """The images of one engine.

    :param credentials: the logins to registries. :param silence: see `SILENCE`.
    """

    def __init__(self, connection: Connection, credentials: Credentials, silence: float = SILENCE) -> None:
        self._connection, self._credentials, self._silence = connection, credentials, silence
        self._platform: str | None = None

    def exists(self, image: str, platform: str | None) -> bool:
        """See `RuntimeSpec.exists`."""
        try:
            self.inspect(image, platform)
        except ImageNotFoundError:
            return False
        return True

    def inspect(self, image: str, platform: str | None, cancel: Cancel | None = None) -> ImageInfo:
        """See `RuntimeSpec.inspect_image`."""
        info = image_info(self._raw(image, cancel))
        if platform is not None and not matches_platform(platform, info.platform):
            raise ImageNotFoundError(
                f"image {image} is here for {info.platform}, and not for {platform}",
                runtime=RUNTIME,
                subject=image,
                hint="Pull it for the platform that is wanted.",
            )
        return info

    def command(self, image: str) -> tuple[str, ...]:
        """Return the CMD of a local image."""
        return tuple((self._raw(image).get("Config") or {}).get("Cmd") or ())

    def _raw(self, image: str, cancel: Cancel | None = None) -> Mapping[str, Any]:
        with translated("inspect_image", image):
            path = f"/images/{engine_reference(image)}/json"
            raw: Mapping[str, Any] = self._connection.request("GET", path, cancel=cancel).json()
            return raw

    def remove(self, image: str) -> bool:
        """See `RuntimeSpec.remove_image`."""
        try:
            with translated("remove_image", image):
                self._connection.request("DELETE", f"/images/{engine_reference(image)}")
        except ImageNotFoundError:
            return False
        return True

    def own_platform(self) -> str:
        """Return the platform of the engine's machine."""
        if self._platform is None:
            version = self._connection.request("GET", "/version").json()
            self._platform = f"{version.get('Os') or 'linux'}/{version.get('Arch') or ''}"
        return self._platform

    # -- Pull ---------------------------------------------------------------------------------------------------------

    def pull(
        self,
        image: str,
        platform: str | None,
        *,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """See `RuntimeSpec.pull`."""
        with translated("pull", image):
            report = PullReport(image, progress)
            report.begin()
            try:
                before = self._present(image, cancel)
                self._download(report, image, platform, cancel=cancel, timeout=timeout)
            except OperationCancelledError as error:
                raise _failed(image, "its pull was cancelled", "cancelled") from error
            except ImagePullError as error:
                # Docker 26 complains of the platform only after it has given the image its name.
                if error.reason == "no_platform":
                    self._restore(image, before, self._present(image))
                raise
            after = self._proven(image, report)
            self._check_platform(image, platform, before, after)
            report.done()
            return after

    def _download(
        self, report: PullReport, image: str, platform: str | None, *, cancel: Cancel | None, timeout: float | None
    ) -> None:
        began = time.monotonic()
        login = self._credentials.for_image(image, cancel)
        reference = Reference.parse(image).with_default_tag()
        query = {"fromImage": reference.name, "tag": reference.digest or reference.tag}
        if platform is not None:
            query["platform"] = platform
        try:
            with self._connection.stream(
                "POST",
                "/images/create",
                query=query,
                headers=login.headers,
                timeout=self._silence,
                idle_timeout=self._silence,
                total=timeout,
                cancel=cancel,
            ) as chunks:
                for message in engine_messages(chunks):
                    report.take(message)
        except EngineError as error:
            raise pull_error(
                error.message, image, "resolving", status=error.status, platform=platform, login=login.source
            ) from error
        except OperationTimeoutError as error:
            if timeout is not None and time.monotonic() - began >= timeout:
                raise
            stalled = _failed(image, f"nothing came for {self._silence:g} s", "stalled", retryable=True)
            stalled.hint = "See whether the engine's machine reaches the registry."
            raise stalled from error
        if report.failure:
            raise pull_error(report.failure, image, "downloading", platform=platform, login=login.source)

    def _proven(self, image: str, report: PullReport) -> ImageInfo:
        """Return the image, if the engine has confirmed the download and the reference resolves to what it named."""
        if not (report.confirmed or report.last_id):
            raise _failed(image, "the engine stopped before it said that the image is complete", retryable=True)
        info = self._present(image)
        if info is None:
            raise _failed(image, "the engine said that it is complete, and does not have it", retryable=True)
        if report.digest:
            proven = any(digest.endswith(f"@{report.digest}") for digest in info.digests)
        else:
            proven = info.id.removeprefix("sha256:").startswith(report.last_id)
        if not proven:
            raise _failed(image, "its name was given to another image in the meantime", retryable=True)
        return info

    def _present(self, image: str, cancel: Cancel | None = None) -> ImageInfo | None:
        try:
            return self.inspect(image, None, cancel)
        except ImageNotFoundError:
            return None

    def _check_platform(self, image: str, platform: str | None, before: ImageInfo | None, after: ImageInfo) -> None:
        """Refuse an image for another platform, which engines take without a word if the registry has no other."""
        wanted = platform or self.own_platform()
        if matches_platform(wanted, after.platform, native=platform is None):
            return
        self._restore(image, before, after)
        error = _failed(image, f"it is for {after.platform}, and not for {wanted}", "no_platform")
        error.hint = f"To run it by emulation, ask for platform {after.platform}."
        raise error

    def _restore(self, image: str, before: ImageInfo | None, after: ImageInfo | None) -> None:
        """Give a name back to what had it before a pull that brought something else."""
        if after is None or (before is not None and before.id == after.id):
            return
        if before is None:
            self.remove(image)
            return
        self._give_name(before, image)
        with contextlib.suppress(InUseError):
            self.remove(after.id)

    def _give_name(self, info: ImageInfo, image: str) -> None:
        reference = Reference.parse(image).with_default_tag()
        if not reference.digest:
            query = {"repo": reference.name, "tag": reference.tag}
            self._connection.request("POST", f"/images/{info.id}/tag", query=query)


def _failed(image: str, why: str, reason: PullFailure = "other", *, retryable: bool = False) -> ImagePullError:
    return ImagePullError(
        f"image {image} could not be pulled: {why}",
        reason=reason,
        retryable=retryable,
        runtime=RUNTIME,
        subject=image,
    )
