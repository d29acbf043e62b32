"""The HTTP side of `FaultRegistry`: routes of the OCI distribution specification, and what they store."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import json
import re
import socket
import socketserver
import sys
import threading
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from oubliette_core.testing.faults import Answer, error_answer

if TYPE_CHECKING:
    from oubliette_core.testing.faults import Fault
    from oubliette_core.testing.registry import FaultRegistry

_ROUTE = re.compile(r"/v2/(?P<repository>.+)/(?P<what>manifests|blobs|tags)/(?P<rest>.*)")
_BLOB_TYPE = "application/octet-stream"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A request that came in. `kind` is ping, token, manifest, config, layer, blob (not known yet), upload or tags."""

    method: str
    kind: str
    repository: str
    reference: str


class Store:
    """Blobs by digest, manifests by repository and tag or digest, uploads by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads: dict[str, bytearray] = {}
        self._kinds: dict[str, str] = {}

    def put_blob(self, data: bytes) -> str:
        digest = _digest(data)
        with self._lock:
            self.blobs[digest] = data
        return digest

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> str:
        digest = _digest(data)
        document = json.loads(data)
        with self._lock:
            self.manifests[repository, reference] = self.manifests[repository, digest] = (media_type, data)
            if "config" in document:
                self._kinds[document["config"]["digest"]] = "config"
            self._kinds.update({layer["digest"]: "layer" for layer in document.get("layers", [])})
        return digest

    def kind_of(self, digest: str) -> str:
        return self._kinds.get(digest, "blob")

    def tags(self, repository: str) -> list[str]:
        with self._lock:
            return sorted(tag for name, tag in self.manifests if name == repository and ":" not in tag)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], registry: FaultRegistry) -> None:
        self.registry = registry
        self._connections: set[socket.socket] = set()
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind, without looking for a name of the address in the DNS."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "localhost", self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report errors of ours; a client that leaves is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def close(self) -> None:
        """Wake the threads that wait for the next request of a client, then join them all."""
        for connection in list(self._connections):
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def setup(self) -> None:
        super().setup()
        self.registry = self.server.registry
        self.store = self.registry.store

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - named by the base class
        """Say nothing: `FaultRegistry.requests` has it all."""

    def do_GET(self) -> None:
        """Answer a request of any method."""
        body = self._read_body()
        request = self._parse()
        self.registry.note(request)
        if not self.registry.admits(self.headers.get("Authorization", ""), for_token=request.kind == "token"):
            challenge = {"WWW-Authenticate": self.registry.challenge(request)}
            answer = error_answer(401, headers=challenge)
        else:
            answer = self._answer(request, body)
            fault = self.registry.fault_for(request)
            if fault:
                self._apply(fault, answer)
                return
        self.send_head(answer)
        self.send_body(answer.body)

    def _apply(self, fault: Fault, answer: Answer) -> None:
        try:
            fault.apply(answer, self)
        except ConnectionError:
            fault.disconnected.set()
            self.hang_up()

    do_HEAD = do_PUT = do_POST = do_PATCH = do_GET  # noqa: N815 - named by the base class

    def _parse(self) -> Request:
        path = urlsplit(self.path).path
        match = _ROUTE.fullmatch(path)
        if match is None:
            kind = {"/v2/": "ping", "/token": "token"}.get(path, "unknown")
            return Request(method=self.command, kind=kind, repository="", reference="")
        rest = match["rest"]
        kind = {"manifests": "manifest", "tags": "tags"}.get(match["what"]) or (
            "upload" if rest.startswith("uploads/") else self.store.kind_of(rest)
        )
        reference = rest.removeprefix("uploads/") if kind == "upload" else rest
        return Request(method=self.command, kind=kind, repository=match["repository"], reference=reference)

    def _answer(self, request: Request, body: bytes) -> Answer:
        if request.kind == "ping":
            return _json_answer({})
        if request.kind == "token":
            token = self.registry.give_token()
            return _json_answer({"token": token, "access_token": token, "expires_in": 300})
        if request.kind == "tags":
            return _json_answer({"name": request.repository, "tags": self.store.tags(request.repository)})
        if request.kind == "upload":
            return self._take_upload(request, body)
        if request.kind == "manifest":
            return self._manifest(request, body)
        blob = self.store.blobs.get(request.reference)
        return error_answer(404) if blob is None else self._blob(request.reference, blob)

    def _manifest(self, request: Request, body: bytes) -> Answer:
        if request.method == "PUT":
            media_type = self.headers.get("Content-Type", "")
            try:
                digest = self.store.put_manifest(request.repository, request.reference, body, media_type)
            except ValueError:
                return error_answer(400, "manifest invalid")
            place = f"/v2/{request.repository}/manifests/{digest}"
            return Answer(status=201, headers={"Location": place, "Docker-Content-Digest": digest})
        found = self.store.manifests.get((request.repository, request.reference))
        if found is None:
            return error_answer(404)
        headers = {"Content-Type": found[0], "Docker-Content-Digest": _digest(found[1])}
        return Answer(headers=headers, body=found[1])

    def _blob(self, digest: str, blob: bytes) -> Answer:
        headers = {"Content-Type": _BLOB_TYPE, "Docker-Content-Digest": digest, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted is None:
            return Answer(headers=headers, body=blob)
        first, last = int(wanted[1]), min(int(wanted[2] or len(blob)), len(blob) - 1)
        if first > last:
            return Answer(status=416, headers={"Content-Range": f"bytes */{len(blob)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(blob)}"
        return Answer(status=206, headers=headers, body=blob[first : last + 1])

    def _take_upload(self, request: Request, body: bytes) -> Answer:
        query = parse_qs(urlsplit(self.path).query)
        upload = request.reference or uuid.uuid4().hex
        if request.method == "POST":
            self.store.uploads[upload] = bytearray()
        data = self.store.uploads.get(upload)
        if data is None:
            return error_answer(404)
        data += body
        place = f"/v2/{request.repository}/blobs/uploads/{upload}"
        if "digest" in query:
            return self._finish_upload(request, upload, query["digest"][0])
        headers = {"Location": place, "Range": f"0-{max(0, len(data) - 1)}", "Docker-Upload-UUID": upload}
        return Answer(status=204 if request.method == "GET" else 202, headers=headers)

    def _finish_upload(self, request: Request, upload: str, expected: str) -> Answer:
        data = bytes(self.store.uploads.pop(upload))
        if _digest(data) != expected:
            return error_answer(400, "provided digest did not match uploaded content")
        digest = self.store.put_blob(data)
        place = f"/v2/{request.repository}/blobs/{digest}"
        return Answer(status=201, headers={"Location": place, "Docker-Content-Digest": digest})

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass  # trailers mean nothing here
        return bytes(body)

    def send_head(self, answer: Answer) -> None:
        """Send status and headers, with the length of the whole body."""
        self.send_response(answer.status)
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    def send_body(self, data: bytes) -> None:
        """Send some bytes of the body; nothing when the request was HEAD."""
        if self.command != "HEAD":
            self.wfile.write(data)

    def hang_up(self) -> None:
        """Close the connection once this request is done."""
        self.close_connection = True


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json_answer(document: object) -> Answer:
    return Answer(headers={"Content-Type": "application/json"}, body=json.dumps(document).encode())
