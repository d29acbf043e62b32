"""A registry in this process that serves, accepts pushes, counts what it is asked, and fails on demand.

    with FaultRegistry() as registry:
        reference = registry.add(busybox_image(), "team/tool", "v1")
        stall = registry.fail("team/tool", Stalled())
        ...                                     # pull `reference` in another thread
        stall.stalled.wait(10)
        assert 1 == registry.count("layer")

It speaks the OCI distribution specification (pull, push, range requests, tags) with basic or bearer-token
authentication, over plain HTTP on the loopback interface, and keeps everything in memory. `faults` has what can go
wrong. `python -m oubliette_core.testing.registry PORT` serves one until it is terminated.
"""

from __future__ import annotations

import base64
import dataclasses
import secrets
import signal
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from oubliette_core.testing._registry_http import Request, Server, Store
from oubliette_core.testing.faults import Fault

if TYPE_CHECKING:
    from types import TracebackType

    from oubliette_core.testing.images import Image, Index

__all__ = ["BasicAuth", "FaultRegistry", "Request", "TokenAuth"]

FaultT = TypeVar("FaultT", bound=Fault)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class BasicAuth:
    """Every request needs this user name and password."""

    username: str
    password: str


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TokenAuth:
    """Every request needs a bearer token, as on Docker Hub; without a user name anybody is given one."""

    username: str = ""
    password: str = ""


class FaultRegistry:
    """The registry. It serves from construction to `close`, on a free port unless one is given."""

    def __init__(self, port: int = 0, *, auth: BasicAuth | TokenAuth | None = None) -> None:
        self.auth = auth
        self.store = Store()
        self._tokens: set[str] = set()
        self._faults: dict[str, list[Fault]] = {}
        self._all_faults: list[Fault] = []
        self._requests: list[Request] = []
        self._news = threading.Condition()
        self._server = Server(("127.0.0.1", port), self)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fault-registry")
        self._thread.start()

    def __enter__(self) -> FaultRegistry:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all that waits, drop all connections and end all threads."""
        for fault in self._all_faults:
            fault.release()
        self._server.shutdown()
        self._thread.join()
        self._server.close()

    def add(self, image: Image | Index, repository: str, tag: str = "latest") -> str:
        """Serve an image without anybody pushing it; an existing tag is moved. Gives the reference to pull."""
        for blob in image.blobs().values():
            self.store.put_blob(blob)
        for member in image.images():
            self.store.put_manifest(repository, member.digest, member.manifest, member.media_type)
        self.store.put_manifest(repository, tag, image.manifest, image.media_type)
        return f"{self.address}/{repository}:{tag}"

    def fail(self, repository: str, fault: FaultT) -> FaultT:
        """From now on answer in `repository` as `fault` says. Of several faults the first that applies is used."""
        self._faults.setdefault(repository, []).append(fault)
        self._all_faults.append(fault)
        return fault

    def heal(self, repository: str) -> None:
        """Answer well again in `repository`, and let go on what waits."""
        for fault in self._faults.pop(repository, []):
            fault.release()

    def requests(
        self, kind: str | None = None, *, repository: str | None = None, method: str | None = None
    ) -> list[Request]:
        """Give the requests so far, oldest first, of one kind, repository or method if named."""
        with self._news:
            return self._matching(kind, repository, method)

    def count(self, kind: str | None = None, *, repository: str | None = None, method: str | None = None) -> int:
        """Give the number of requests so far."""
        return len(self.requests(kind, repository=repository, method=method))

    def wait_for(
        self,
        kind: str,
        count: int = 1,
        *,
        repository: str | None = None,
        method: str | None = None,
        timeout: float = 30,
    ) -> None:
        """Wait until `count` requests have come in all. Raises `TimeoutError` after `timeout` seconds."""
        with self._news:
            if not self._news.wait_for(lambda: len(self._matching(kind, repository, method)) >= count, timeout):
                seen = self._matching(kind, repository, method)
                raise TimeoutError(f"{len(seen)} of {count} {kind} requests came within {timeout} s")

    def _matching(self, kind: str | None, repository: str | None, method: str | None) -> list[Request]:
        wanted = {"kind": kind, "repository": repository, "method": method}
        return [
            request
            for request in self._requests
            if all(value is None or getattr(request, name) == value for name, value in wanted.items())
        ]

    def note(self, request: Request) -> None:
        """Record a request and wake who waits for it."""
        with self._news:
            self._requests.append(request)
            self._news.notify_all()

    def fault_for(self, request: Request) -> Fault | None:
        """Give the fault that a request for content meets, if any."""
        if request.method not in ("GET", "HEAD"):
            return None
        faults = self._faults.get(request.repository, [])
        return next((fault for fault in faults if fault.claim(request.kind)), None)

    def give_token(self) -> str:
        """Give a new bearer token."""
        token = secrets.token_hex(16)
        self._tokens.add(token)
        return token

    def admits(self, authorization: str, *, for_token: bool) -> bool:
        """Tell whether an Authorization header opens this registry, or its token service."""
        if self.auth is None:
            return True
        scheme, _, value = authorization.partition(" ")
        if isinstance(self.auth, TokenAuth) and not for_token:
            return scheme == "Bearer" and value in self._tokens
        login = f"{self.auth.username}:{self.auth.password}".encode()
        return login == b":" or (scheme == "Basic" and value == base64.b64encode(login).decode("ascii"))

    def challenge(self, request: Request) -> str:
        """Give the WWW-Authenticate header that tells a client how to come in."""
        if isinstance(self.auth, BasicAuth):
            return 'Basic realm="fault registry"'
        scope = f',scope="repository:{request.repository}:pull,push"' if request.repository else ""
        return f'Bearer realm="{self.url}/token",service="{self.address}"{scope}'


def main() -> None:
    """Serve a registry without faults on the port that the command line names, until terminated."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before there are threads, which inherit it
    with FaultRegistry(int(sys.argv[1])):
        signal.sigwait(ends)


if __name__ == "__main__":
    main()
