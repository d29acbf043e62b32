"""Downloads from registries, on loopback addresses only."""

import json
import socket
import time
from collections.abc import Callable, Iterator

from tests.apple.emulator.failures import Failure
from tests.apple.emulator.http import Answer, BrokenAnswerError, request
from tests.apple.emulator.references import Reference
from tests.apple.emulator.settings import Settings
from tests.apple.emulator.store import INDEXES, MANIFESTS, Descriptor, Store, matches

_ATTEMPTS = 4
_REASONS = {
    401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 429: "Too Many Requests",
    500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable",
}  # fmt: skip

Progress = Callable[[int, int, int, int], None]
"""Blobs done, blobs in all, bytes done, bytes in all."""


class Registry:
    """One registry, as `reference` names it.

    :param scheme: ``http``, ``https`` or ``auto``.
    """

    def __init__(self, settings: Settings, reference: Reference, scheme: str) -> None:
        self._settings = settings
        self._reference = reference
        self._address = settings.hosts.get(reference.domain, reference.domain)
        self._mapped = reference.domain in settings.hosts
        name = self._address.rpartition(":")[0] or self._address
        if name != "localhost" and not name.startswith("127."):
            raise Failure("invalidState", f"failed to resolve either repository hostname {reference.host}")
        if scheme == "https" and not self._mapped:
            raise Failure(
                "unknown", f"NIOSSL.NIOSSLError: handshake with {reference.host} failed: WRONG_VERSION_NUMBER"
            )
        self._url = f"{'https' if self._mapped else 'http'}://{reference.host}"

    def head(self) -> Descriptor:
        """Return what the reference means now."""
        accept = ", ".join((*MANIFESTS, *INDEXES, "*/*"))
        path = f"/v2/{self._reference.path}/manifests/{self._reference.digest or self._reference.tag}"
        answer = self._get("HEAD", path, accept)
        answer.close()
        for name in ("docker-content-digest", "content-type", "content-length"):
            if name not in answer.headers:
                raise Failure("invalidArgument", f"missing required header {name.title()}")
        return {
            "digest": answer.headers["docker-content-digest"],
            "mediaType": answer.headers["content-type"].partition(";")[0],
            "size": int(answer.headers["content-length"]),
        }

    def blob(self, descriptor: Descriptor) -> Iterator[bytes]:
        """Return the content of a manifest or of a blob."""
        manifest = descriptor["mediaType"] in (*MANIFESTS, *INDEXES)
        kind = "manifests" if manifest else "blobs"
        path = f"/v2/{self._reference.path}/{kind}/{descriptor['digest']}"
        return self._get("GET", path, descriptor["mediaType"]).chunks()

    def _get(self, method: str, path: str, accept: str) -> Answer:
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(self._settings.retry)
            try:
                answer = self._once(method, path, accept)
            except OSError as error:
                refused = error
                continue
            if answer.status < 500 or attempt == _ATTEMPTS - 1:
                return self._checked(answer, path)
            answer.close()
        raise Failure("unknown", f"NIOPosix.NIOConnectionError(host: {self._reference.host}): {refused}")

    def _once(self, method: str, path: str, accept: str) -> Answer:
        name, _, port = self._address.partition(":")
        sock = socket.create_connection((name, int(port or 80)))
        return request(sock, method, path, host=self._address, headers={"Accept": accept})

    def _checked(self, answer: Answer, path: str) -> Answer:
        if answer.status == 200:
            return answer
        answer.close()
        reason = "Unknown"
        if answer.status in (401, 403):
            reason = f"access denied or wrong credentials, no credentials found for host {self._reference.host}"
        status = f"{answer.status} {_REASONS.get(answer.status, 'Unknown')}"
        raise Failure("unknown", f"HTTP request to {self._url}{path} failed with response: {status}. Reason: {reason}")


class Download:
    """One image on its way into the store."""

    def __init__(self, registry: Registry, store: Store, progress: Progress) -> None:
        self._registry = registry
        self._store = store
        self._progress = progress
        self._blobs = [0, 0]
        self._bytes = [0, 0]

    def run(self, root: Descriptor, wanted: dict[str, str] | None) -> Descriptor:
        """Fetch what is missing, for one platform or for all; return the descriptor of the index."""
        waiting = [root]
        while waiting:
            self._blobs[1] += len(waiting)
            self._bytes[1] += sum(item["size"] for item in waiting)
            for item in waiting:
                self._fetch(item)
            waiting = self._children(waiting, wanted)
        index = self._store.wrap(root)
        offered = self._store.offered(index["digest"])
        if root["mediaType"] in MANIFESTS and wanted and not matches(offered[0]["platform"], wanted):
            raise Failure("unsupported", f"image {root['digest']} does not support required platforms")
        return index

    def _children(self, parents: list[Descriptor], wanted: dict[str, str] | None) -> list[Descriptor]:
        found: dict[str, Descriptor] = {}
        for parent in parents:
            if parent["mediaType"] not in (*INDEXES, *MANIFESTS):
                continue
            try:
                content = json.loads(self._store.content(parent["digest"]))
                inner = (
                    content["manifests"] if parent["mediaType"] in INDEXES else [content["config"], *content["layers"]]
                )
            except (ValueError, KeyError, TypeError):
                text = "The data couldn\u2019t be read because it isn\u2019t in the correct format."
                raise Failure(
                    "internalError", f"cannot fetch content with digest {parent['digest']}", Failure("unknown", text)
                ) from None
            kept = [
                item for item in inner if not wanted or not item.get("platform") or matches(item["platform"], wanted)
            ]
            found.update({item["digest"]: item for item in kept})
        return list(found.values())

    def _fetch(self, item: Descriptor) -> None:
        if self._store.has(item["digest"]):
            self._bytes[0] += item["size"]
        else:
            try:
                found = self._store.take(self._counted(self._registry.blob(item)), item["digest"])
            except BrokenAnswerError:
                raise Failure("unknown", "HTTPClientError.remoteConnectionClosed") from None
            if found != item["digest"]:
                raise Failure("internalError", f"digest mismatch expected {item['digest']}, got {found}")
        self._blobs[0] += 1
        self._progress(*self._blobs, *self._bytes)

    def _counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self._bytes[0] += len(chunk)
            self._progress(*self._blobs, *self._bytes)
            yield chunk
