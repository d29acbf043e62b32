"""Pulling: what happens between the fake engine and a registry, in memory or at a loopback address.

A registry at a loopback address with a port is asked over HTTP, as engines do (OCI distribution specification,
"Pulling manifests" and "Pulling blobs"): that is how the conformance kit and tests with real registries work.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import time
import urllib.parse
import zlib
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import ImagePullError, OperationTimeoutError
from oubliette_core.models import ProgressEvent
from oubliette_core.reference import Reference
from oubliette_core.testing.fake.images import FakeImage, pull_error
from oubliette_core.testing.images import Image, Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_core.errors import PullFailure
    from oubliette_core.models import Cancel, ImageInfo, ProgressCallback
    from oubliette_core.testing.fake.engine import FakeEngine

__all__ = ["Download"]

_LOOPBACK = ("127.", "localhost", "[::1]")
_BLOCK = 32 * 1024
_MOST_REDIRECTS = 3
_INDEXES = ("application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.oci.image.index.v1+json")
_MANIFESTS = ("application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json")
_REASONS: dict[int, PullFailure] = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "rate_limited"}


class Download:
    """One pull under way: see `RuntimeSpec.pull`.

    :param cut: events after which the connection to the engine breaks.
    """

    def __init__(
        self,
        engine: FakeEngine,
        reference: str,
        platform: str | None,
        *,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
        cut: int | None,
    ) -> None:
        self._engine = engine
        self._reference = reference
        self._platform = platform or engine.images.platform
        self._progress = progress
        self._cancel = cancel
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._cut = cut
        self._events = 0

    def run(self) -> ImageInfo:
        """Download, and keep the image when all of it is there."""
        registry = Reference.parse(self._reference).registry
        if registry.startswith(_LOOPBACK) and not self._engine.registry.knows(self._reference):
            image = self._from_address(registry)
        else:
            image = self._from_memory()
        self._check()
        info = self._engine.images.add(self._reference, image, digest=True)
        self._event("done", detail=f"Digest: {image.digest}")
        return info

    # -- From memory ----------------------------------------------------------------------------------------------

    def _from_memory(self) -> FakeImage:
        self._engine.registry.request(self._reference)
        self._event("resolving")
        image = self._engine.registry.find(self._reference, self._platform)
        self._hold()
        present = self._engine.images.layers()
        for index, size in enumerate(image.shown):
            layer = image.layer_name(index)
            if layer in present:
                self._event("exists", layer)
                continue
            for current in (0, size // 2, size):
                self._event("downloading", layer, current, size)
            self._event("extracting", layer, size, size)
            self._event("done", layer)
        return image

    def _hold(self) -> None:
        """Wait where the registry stalls."""
        gate = self._engine.registry.gate(self._reference)
        if gate is not None and not gate.wait(cancel=self._cancel, timeout=self._patience()):
            self._check()
            raise self._silence()
        self._check()

    # -- Over HTTP ------------------------------------------------------------------------------------------------

    def _from_address(self, address: str) -> FakeImage:
        parsed = Reference.parse(self._reference).with_default_tag()
        self._event("resolving")
        try:
            return self._image(address, parsed.repository, parsed.digest or parsed.tag)
        except (OSError, http.client.HTTPException) as error:
            self._check()
            if isinstance(error, TimeoutError):
                raise self._silence() from error
            raise pull_error(self._reference, "unreachable", _line(error), retryable=True) from error
        except (ValueError, LookupError, TypeError) as error:
            raise pull_error(self._reference, "other", f"the registry's answer makes no sense: {error}") from error

    def _image(self, address: str, repository: str, name: str) -> FakeImage:
        path = f"/v2/{repository}/manifests"
        body = self._get(address, f"{path}/{name}")
        manifest, digest = json.loads(body), digest_of(body)
        if manifest.get("mediaType") in _INDEXES or "manifests" in manifest:
            body = self._get(address, f"{path}/{self._choose(manifest)}")
            manifest = json.loads(body)
        blobs = f"/v2/{repository}/blobs"
        config = self._blob(address, blobs, manifest["config"])
        present = {layer.digest: layer for image in self._engine.images.all() for layer in image.image.layers}
        layers = [self._layer(address, blobs, each, present) for each in manifest["layers"]]
        image = Image(
            config=config,
            layers=tuple(layers),
            platform=_platform(json.loads(config)),
            format="oci" if ".oci." in manifest["mediaType"] else "docker",
        )
        if image.platform != self._platform:
            raise self._no_platform([image.platform])
        return FakeImage.of(image, digest=digest)

    def _choose(self, index: dict[str, Any]) -> str:
        offered = {_platform(entry["platform"]): entry["digest"] for entry in index["manifests"]}
        if self._platform not in offered:
            raise self._no_platform(sorted(offered))
        return str(offered[self._platform])

    def _no_platform(self, offered: list[str]) -> ImagePullError:
        listed = ", ".join(offered)
        return pull_error(
            self._reference,
            "no_platform",
            f"it is not offered for {self._platform}, only for {listed}",
            hint=f"Choose: {listed}",
        )

    def _layer(self, address: str, blobs: str, descriptor: dict[str, Any], present: dict[str, Layer]) -> Layer:
        digest, size = descriptor["digest"], descriptor["size"]
        name = digest.partition(":")[2][:12]
        if digest in present:
            self._event("exists", name)
            return present[digest]
        self._event("downloading", name, 0, size)
        data = self._blob(address, blobs, descriptor, name)
        self._event("extracting", name, size, size)
        try:
            diff_id = digest_of(zlib.decompress(data, wbits=47))
        except zlib.error as error:
            raise pull_error(self._reference, "corrupt", f"layer {name} cannot be unpacked", retryable=True) from error
        self._event("done", name)
        return Layer(data, diff_id)

    def _blob(self, address: str, blobs: str, descriptor: dict[str, Any], layer: str = "") -> bytes:
        data = bytearray()
        for block in self._read(address, f"{blobs}/{descriptor['digest']}"):
            data += block
            if layer:
                self._event("downloading", layer, min(len(data), descriptor["size"]), descriptor["size"])
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != descriptor["digest"]:
            raise pull_error(
                self._reference, "corrupt", f"{descriptor['digest']} is not what was downloaded", retryable=True
            )
        return bytes(data)

    def _get(self, address: str, path: str) -> bytes:
        return b"".join(self._read(address, path))

    def _read(self, address: str, path: str) -> Iterator[bytes]:
        """Yield the body of an answer; follows redirects, raises for everything that is no success."""
        for _ in range(_MOST_REDIRECTS):
            connection = http.client.HTTPConnection(address, timeout=self._patience())
            with contextlib.closing(connection), self._interruptible(connection):
                connection.request("GET", path, headers={"Accept": ", ".join((*_MANIFESTS, *_INDEXES))})
                answer = connection.getresponse()
                if answer.status in (301, 302, 303, 307, 308):
                    target = urllib.parse.urlsplit(answer.getheader("Location", ""))
                    address, path = target.netloc or address, f"{target.path}?{target.query}"
                    continue
                if answer.status != 200:
                    raise self._refused(answer)
                yield from self._blocks(answer)
                return
        raise pull_error(self._reference, "other", "the registry redirects in a circle")

    def _blocks(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        left = answer.length
        while block := answer.read1(_BLOCK):
            left = None if left is None else left - len(block)
            self._check()
            yield block
        if left:
            raise http.client.IncompleteRead(b"", left)

    @contextlib.contextmanager
    def _interruptible(self, connection: http.client.HTTPConnection) -> Iterator[None]:
        """Have a cancel, or the end of the engine, end the reading at once."""

        def hang_up() -> None:
            # The thread that reads may be about to close it.
            with contextlib.suppress(OSError):
                if connection.sock is not None:
                    connection.sock.shutdown(socket.SHUT_RDWR)

        self._check()
        connection.connect()
        unwatch = self._engine.board.watch(hang_up)
        forget = self._cancel.on_cancel(hang_up) if self._cancel is not None else None
        try:
            yield
        finally:
            unwatch()
            if forget is not None:
                forget()

    def _refused(self, answer: http.client.HTTPResponse) -> ImagePullError:
        reason = _REASONS.get(answer.status, "unreachable" if answer.status >= 500 else "other")
        error = pull_error(
            self._reference,
            reason,
            f"the registry answered {answer.status} {answer.reason}",
            retryable=reason in ("rate_limited", "unreachable"),
        )
        asked = answer.getheader("Retry-After", "")
        error.retry_after = float(asked) if asked.isdigit() else None
        return error

    # -- Steps ----------------------------------------------------------------------------------------------------

    def _event(self, phase: str, layer: str = "", current: int = 0, total: int | None = None, detail: str = "") -> None:
        """Report a step, if nothing stands against it."""
        if phase != "done" or layer:
            self._pause()
            self._check()
        if self._cut is not None and self._events >= self._cut:
            raise self._engine.board.lost(self._reference)
        self._events += 1
        if self._progress is not None:
            self._progress(
                ProgressEvent(
                    image=self._reference, layer=layer, phase=phase, current=current, total=total, detail=detail
                )
            )

    def _pause(self) -> None:
        """Let time pass where that was scripted."""
        delay = self._engine.registry.delay(self._reference)
        if delay:
            self._engine.board.wait(lambda: False, cancel=self._cancel, timeout=delay)

    def _check(self) -> None:
        """Raise when the pull was cancelled, is too late, or the engine has gone."""
        if self._engine.board.gone:
            raise self._engine.board.lost(self._reference)
        if self._cancel is not None and self._cancel.cancelled:
            raise ImagePullError(
                f"the pull of {self._reference} was cancelled",
                reason="cancelled",
                runtime=self._engine.name,
                subject=self._reference,
            )
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise self._late()

    def _patience(self) -> float:
        """Return the seconds that may pass without anything happening."""
        left = self._engine.stall
        if self._deadline is not None:
            left = min(left, self._deadline - time.monotonic())
        return max(0.001, left)

    def _silence(self) -> ImagePullError:
        return pull_error(
            self._reference, "stalled", f"nothing came for {self._engine.stall:g} s", retryable=True, hint="Try again."
        )

    def _late(self) -> OperationTimeoutError:
        return OperationTimeoutError(
            f"pulling {self._reference} took longer than {self._timeout:g} s",
            operation="pull",
            timeout=self._timeout or 0.0,
            runtime=self._engine.name,
            subject=self._reference,
        )


def _platform(fields: dict[str, str]) -> str:
    named = (fields.get("os"), fields.get("architecture"), fields.get("variant"))
    return "/".join(part for part in named if part)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
