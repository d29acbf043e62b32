"""HTTP for registries, over urllib3: each request can be ended at any moment, from another thread.

urllib3 and not `oras`: that one retries for minutes without a way to stop, sets no deadline for a read, has one token
for all repositories, gives manifests parsed and not as the bytes that a digest is of, and cannot resume.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3 import exceptions as http_errors

from oubliette_embedded.images._failures import Failure, one_line
from oubliette_embedded.images._work import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oubliette_core.models import Cancel

__all__ = ["BrokenConnection", "Response", "Transport", "is_loopback"]

Response = urllib3.BaseHTTPResponse
CONNECT_TIMEOUT = 10.0
"""Seconds for a connection and its TLS handshake. What waits for them cannot be woken, and is left behind."""
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_AGENT = "oubliette-embedded"
_PROXY = "See whether the proxy is right: HTTPS_PROXY, HTTP_PROXY, NO_PROXY."
_REACH = "See whether this machine reaches the registry."


class BrokenConnection(Exception):  # noqa: N818 - becomes a failure unless it can be resumed
    """The connection ended, or could not be made; the failure is what to say if nothing can be done about it."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.why)
        self.failure = failure


class Transport:
    """Connections for one pull.

    :param stop: ends everything, at once.
    :param silence: seconds after which whoever waits gives up; a single connection gets a little more.
    """

    def __init__(self, stop: Cancel, silence: float) -> None:
        self._stop = stop
        self._timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT, read=silence + CONNECT_TIMEOUT)
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._managers: dict[tuple[str, bool], urllib3.PoolManager] = {}
        self._forget = stop.on_cancel(self._shut_down)

    def close(self) -> None:
        """Close all connections."""
        self._forget()
        self._shut_down()  # urllib3 leaves them to the garbage collector
        for manager in self._managers.values():
            manager.clear()

    @contextlib.contextmanager
    def request(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Iterator[Response]:
        """Give the response to a request; redirects are followed, and get no login meant for somebody else.

        :raises BrokenConnection: no response could be had. :raises Failure: the registry leads nowhere.
        """
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        for _ in range(_MOST_REDIRECTS + 1):
            response = self._one(method, url, headers, body)
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or not location:
                    yield response
                    return
                url, headers = _redirected(url, location, headers)
            finally:
                self._release(response)
        raise Failure(f"{urlsplit(url).netloc} redirects again and again", "unreachable", retryable=True)

    def _one(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Response:
        if self._stop.cancelled:
            raise Stopped
        with self.translated(url):
            return self._manager(url).request(
                method,
                url,
                headers=headers,
                body=body,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )

    @contextlib.contextmanager
    def translated(self, url: str) -> Iterator[None]:
        """Turn what urllib3 raises into `BrokenConnection`, or into `Stopped` when it was us who ended it."""
        try:
            yield
        except (http_errors.HTTPError, OSError, ValueError) as error:
            # A file of ours that cannot be written is no matter of the connection.
            if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, ConnectionError, TimeoutError)):
                raise
            if self._stop.cancelled:
                raise Stopped from error
            raise BrokenConnection(_failure(error, url)) from error

    @staticmethod
    def _release(response: Response) -> None:
        # What was not read to the end is not worth reading: the connection goes.
        if response.length_remaining == 0:
            response.drain_conn()
            response.release_conn()
        else:
            response.close()

    # -- Connections --------------------------------------------------------------------------------------------------

    def _manager(self, url: str) -> urllib3.PoolManager:
        proxy, secure = _proxy_for(url), url.startswith("https://")
        with self._lock:
            if (proxy, secure) not in self._managers:
                # The authorities take longer to load than a registry on this machine takes to answer.
                tls = {"ssl_context": _tls()} if secure or proxy.startswith("https://") else {}
                options: dict[str, Any] = {"num_pools": 16, "maxsize": 8, **tls}
                manager = urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
                manager.pool_classes_by_scheme = self._pool_classes()
                self._managers[proxy, secure] = manager
            return self._managers[proxy, secure]

    def _pool_classes(self) -> dict[str, type[urllib3.HTTPConnectionPool]]:
        """Return pools whose connections are known here once they are made."""
        known = self._known

        class Plain(urllib3.connection.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                known(self.sock)

        class Secure(urllib3.connection.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                known(self.sock)

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secure

        return {"http": PlainPool, "https": SecurePool}

    def _known(self, made: socket.socket) -> None:
        with self._lock:
            self._sockets = {one for one in self._sockets if one.fileno() >= 0} | {made}
        if self._stop.cancelled:
            self._shut_down()

    def _shut_down(self) -> None:
        """Wake every thread that waits for a registry."""
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which takes it apart under the thread that reads.
                socket.socket.shutdown(one, socket.SHUT_RDWR)


def is_loopback(host: str) -> bool:
    """Tell whether a host (with port or without) is this machine, where Docker allows plain HTTP."""
    name = re.sub(r":\d+$", "", host).strip("[]")
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _redirected(url: str, location: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    target = urljoin(url, location)
    old, new = urlsplit(url), urlsplit(target)
    if new.scheme not in ("http", "https") or (old.scheme == "https" and new.scheme == "http"):
        raise Failure(f"{old.netloc} redirects to {one_line(target, 200)}, which is not safe", "unreachable")
    same = (old.scheme, old.netloc) == (new.scheme, new.netloc)
    kept = {name: value for name, value in headers.items() if same or name.lower() != "authorization"}
    return target, kept


def _proxy_for(url: str) -> str:
    parts = urlsplit(url)
    if is_loopback(parts.netloc) or proxy_bypass(parts.hostname or ""):
        return ""
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    return proxy if proxy.startswith(("http://", "https://")) else ""


def _tls() -> ssl.SSLContext:
    """Return what certificates are checked with: this machine's authorities, or Mozilla's if it has none."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    # The authorities in a directory are looked at one by one when they are needed.
    if not context.cert_store_stats()["x509_ca"] and not (paths.capath and any(os.scandir(paths.capath))):
        import certifi  # noqa: PLC0415 - few machines need it

        context.load_verify_locations(certifi.where())
    return context


# -- Failures ---------------------------------------------------------------------------------------------------------

_NOT_YET_VALID = 9
_EXPIRED = 10
_CLOCK = "Compare the clock of this machine with the real time."


def _failure(error: Exception, url: str) -> Failure:
    """Return what it means that there was no response."""
    host = urlsplit(url).netloc.rpartition("@")[2]
    certificate = _cause(error, ssl.SSLCertVerificationError)
    if certificate is not None:
        code = getattr(certificate, "verify_code", 0)
        why = f"the certificate of {host} is not valid: {getattr(certificate, 'verify_message', certificate)}"
        if code == _NOT_YET_VALID:
            return Failure(why, "clock", hint=_CLOCK)
        hint = "See whether this machine trusts the registry's authority (SSL_CERT_FILE)."
        return Failure(why, "unreachable", hint=f"{_CLOCK} {hint}" if code == _EXPIRED else hint)
    if isinstance(error, http_errors.ProxyError):
        return Failure(f"the proxy on the way to {host} does not work", "unreachable", retryable=True, hint=_PROXY)
    if _cause(error, socket.gaierror) is not None or isinstance(error, http_errors.NameResolutionError):
        return Failure(f"{host} has no known address", "unreachable", retryable=True, hint=_REACH)
    if isinstance(error, (http_errors.TimeoutError, TimeoutError)):
        return Failure(f"{host} does not answer", "unreachable", retryable=True, hint=_REACH)
    cause = _cause(error, OSError)
    words = getattr(cause, "strerror", None) or str(cause or error)
    return Failure(
        f"the connection to {host} failed: {one_line(str(words))}", "unreachable", retryable=True, hint=_REACH
    )


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """Look for an error among those that led to this one."""
    seen: list[BaseException] = []
    left: list[object] = [error]
    while left:
        one = left.pop()
        if isinstance(one, BaseException) and one not in seen:
            if isinstance(one, kind):
                return one
            seen.append(one)
            left += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
    return None
