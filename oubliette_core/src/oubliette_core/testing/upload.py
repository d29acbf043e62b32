"""Uploading images to a registry, without an engine.

Requests follow the OCI distribution specification, over plain HTTP: this is for registries on the loopback interface.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from oubliette_core.testing.images import Image, Index

__all__ = ["PushError", "push"]


class PushError(Exception):
    """A registry refused an upload; the message has its answer."""


def push(
    image: Image | Index,
    registry: str,
    repository: str,
    tag: str = "latest",
    *,
    credentials: tuple[str, str] | None = None,
) -> str:
    """Upload an image or an index over plain HTTP and tag it; an existing tag is moved. Gives the digest.

    `registry` is `host:port`, `credentials` a user name and a password for basic authentication.
    Raises `PushError` when the registry refuses, `OSError` when it cannot be reached.
    """
    headers = {}
    if credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(":".join(credentials).encode()).decode("ascii")
    connection = http.client.HTTPConnection(registry, timeout=60)
    try:
        upload = _Upload(connection, f"/v2/{repository}", headers)
        for digest, blob in image.blobs().items():
            upload.blob(digest, blob)
        for member in image.images():
            upload.manifest(member.digest, member.manifest, member.media_type)
        upload.manifest(tag, image.manifest, image.media_type)
    finally:
        connection.close()
    return image.digest


@dataclasses.dataclass(frozen=True, slots=True)
class _Upload:
    connection: http.client.HTTPConnection
    base: str
    headers: dict[str, str]

    def blob(self, digest: str, data: bytes) -> None:
        if self._ask("HEAD", f"{self.base}/blobs/{digest}", expected=(200, 404)).status == 200:
            return
        started = self._ask("POST", f"{self.base}/blobs/uploads/", expected=(202,))
        place = urlsplit(started.headers["Location"])  # absolute with some registries, a path with others
        query = f"{place.query}&" if place.query else ""
        target = f"{place.path}?{query}digest={digest}"
        self._ask("PUT", target, data, "application/octet-stream", expected=(201,))

    def manifest(self, reference: str, data: bytes, media_type: str) -> None:
        self._ask("PUT", f"{self.base}/manifests/{reference}", data, media_type, expected=(201,))

    def _ask(
        self, method: str, target: str, body: bytes = b"", media_type: str = "", *, expected: tuple[int, ...]
    ) -> http.client.HTTPResponse:
        headers = {**self.headers, **({"Content-Type": media_type} if media_type else {})}
        self.connection.request(method, target, body or None, headers)
        response = self.connection.getresponse()
        answer = response.read()
        if response.status not in expected:
            raise PushError(f"{method} {target} was answered {response.status}: {answer[:200]!r}")
        return response
