"""A repository of a registry (OCI distribution specification), with the ways to log in that Docker knows."""

from __future__ import annotations

import base64
import contextlib
import email.utils
import http
import json
import re
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit
from urllib.request import parse_http_list, parse_keqv_list

from oubliette_embedded.images._documents import (
    INDEX_TYPES,
    LARGEST_DOCUMENT,
    MANIFEST_TYPES,
    check_digest,
    digest_of,
)
from oubliette_embedded.images._failures import Failure, corrupt, one_line
from oubliette_embedded.images._transport import BrokenConnection, is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from oubliette_core.logins import Login
    from oubliette_core.reference import Reference
    from oubliette_embedded.images._transport import Response, Transport

__all__ = ["Repository"]

CHUNK = 256 * 1024
_HUB, _HUB_HOST = "docker.io", "registry-1.docker.io"
_CLIENT = "oubliette"
_LARGEST_ANSWER = 1024 * 1024
_LONGEST_WAIT = 24 * 3600.0
_PORTAL = "Something other than a registry answers: perhaps a proxy or a login page."


class Repository:
    """One repository, asked with the login that there is for its registry.

    :param reference: normalised. :param find_login: gives the login, when the registry asks for one.
    :param plain: registries that are asked without TLS, besides those on this machine.
    """

    def __init__(
        self,
        reference: Reference,
        transport: Transport,
        find_login: Callable[[], Login | None],
        plain: frozenset[str] = frozenset(),
    ) -> None:
        self._name, self._transport, self._find_login = reference.repository, transport, find_login
        self._registry = reference.registry
        self._host = _HUB_HOST if self._registry == _HUB else self._registry
        self._plain = self._registry in plain or is_loopback(self._registry)
        self._scheme = "http" if self._plain else "https"
        self._lock = threading.Lock()
        self._authorization = ""
        self._asked_as = "no login"

    # -- What it has --------------------------------------------------------------------------------------------------

    def digest(self, reference: str) -> str | None:
        """Ask for the digest of what a tag leads to now; None where the registry does not say it so."""
        try:
            with self._ask("HEAD", f"manifests/{reference}", _ACCEPT) as response:
                digest = response.headers.get("Docker-Content-Digest")
                return check_digest(digest) if response.status == http.HTTPStatus.OK and digest else None
        except Failure as failure:
            if failure.reason in ("rate_limited", "unauthorized", "clock"):
                raise
            return None

    def manifest(self, reference: str, size: int | None = None) -> tuple[str, bytes]:
        """Return a manifest or an index, and its digest.

        :param reference: a tag, or the digest that it has to have. :param size: what it has to have in bytes.
        """
        with self._ask("GET", f"manifests/{reference}", _ACCEPT) as response:
            self._check(response, reference)
            data = self._body(response, LARGEST_DOCUMENT)
            said = response.headers.get("Docker-Content-Digest") or ""
        expected = reference if ":" in reference else said if said.startswith(("sha256:", "sha512:")) else ""
        digest = digest_of(data, expected or "sha256:")
        if expected and digest != expected:
            raise _portal(response) if _is_page(data) else corrupt(f"its manifest has digest {digest}, not {expected}")
        if size is not None and len(data) != size:
            raise corrupt(f"its manifest has {len(data)} bytes, and not {size}")
        if _is_page(data):
            raise _portal(response)
        return digest, data

    @contextlib.contextmanager
    def blob(self, digest: str, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Give the content of a blob from some byte on, and from which: registries may begin anew.

        :raises BrokenConnection: the connection could not be made, or ended too early.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._ask("GET", f"blobs/{digest}", headers) as response:
            if response.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                yield 0, iter(())
                return
            self._check(response, digest)
            begins = _first_byte(response) if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
            yield begins, self._chunks(response)

    def small_blob(self, digest: str, most: int) -> bytes:
        """Return a blob of a few bytes; whoever asks has to compare its digest.

        :raises Failure: it has more than ``most`` bytes, among others.
        """
        with self._ask("GET", f"blobs/{digest}", {}) as response:
            self._check(response, digest)
            return self._body(response, most)

    # -- Asking -------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> Iterator[Response]:
        """Give the response to a request, made again with a login if the registry wants one."""
        with contextlib.ExitStack() as stack:
            asked_with = self._authorization
            response = stack.enter_context(self._request(method, path, headers, asked_with))
            if response.status == http.HTTPStatus.UNAUTHORIZED:
                challenge = response.headers.get("WWW-Authenticate", "")
                self._body(response, _LARGEST_ANSWER)
                if authorization := self._log_in(challenge, asked_with):
                    stack.pop_all().close()
                    response = stack.enter_context(self._request(method, path, headers, authorization))
            yield response

    @contextlib.contextmanager
    def _request(self, method: str, path: str, headers: Mapping[str, str], authorization: str) -> Iterator[Response]:
        login = {"Authorization": authorization} if authorization else {}
        with contextlib.ExitStack() as stack:
            try:
                response = stack.enter_context(self._transport.request(method, self._url(path), {**headers, **login}))
            except BrokenConnection:
                if not self._speaks_tls():
                    raise
                response = stack.enter_context(self._transport.request(method, self._url(path), {**headers, **login}))
            yield response

    def _speaks_tls(self) -> bool:
        """Try TLS where plain HTTP was tried first, and got no answer of HTTP."""
        if self._scheme == "https":
            return False
        self._scheme = "https"
        try:
            with self._transport.request("HEAD", f"https://{self._host}/v2/", {}):
                return True
        except BrokenConnection:
            self._scheme = "http"
            return False

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{self._host}/v2/{self._name}/{path}"

    def _check(self, response: Response, what: str) -> None:
        """Refuse what is no success. :raises Failure: by the status."""
        if response.status in (http.HTTPStatus.OK, http.HTTPStatus.PARTIAL_CONTENT):
            return
        raise self._refusal(response, what)

    def _refusal(self, response: Response, what: str) -> Failure:
        status = response.status
        try:
            said = _words(self._body(response, _LARGEST_ANSWER))
        except (BrokenConnection, Failure):
            said = ""
        where = f"{self._registry} answers {status}{f': {said}' if said else ''}"
        if status in (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN):
            hint = f"Check the name, and log in with: docker login {self._registry}"
            return Failure(where, "unauthorized", hint=f"{hint} (The registry was asked with {self._asked_as}.)")
        if status in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.GONE):
            return Failure(f"{where} ({what})", "not_found", hint="Check the name and the tag.")
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            hint = f"Wait, or log in: docker login {self._registry}. Registries allow more to those they know."
            return Failure(where, "rate_limited", retryable=True, retry_after=_retry_after(response), hint=hint)
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR or status == http.HTTPStatus.REQUEST_TIMEOUT:
            return Failure(where, "unreachable", retryable=True, retry_after=_retry_after(response))
        return Failure(where)

    def _body(self, response: Response, most: int) -> bytes:
        data = bytearray()
        for chunk in self._chunks(response):
            data += chunk
            if len(data) > most:
                raise _portal(response) if _is_page(bytes(data[:100])) else corrupt("the registry's answer has no end")
        return bytes(data)

    def _chunks(self, response: Response) -> Iterator[bytes]:
        with self._transport.translated(self._url("")):
            # What is there by now, and no more: a slow registry is no silent one.
            while chunk := response.read1(CHUNK):
                yield chunk

    # -- Logging in ---------------------------------------------------------------------------------------------------

    def _log_in(self, challenge: str, tried: str) -> str:
        """Return what to authorise a request with; empty when there is nothing better than what was tried."""
        with self._lock:
            if self._authorization != tried:
                return self._authorization  # another thread was faster
            scheme, fields = _parse_challenge(challenge)
            login = self._find_login()
            self._asked_as = login.source if login else "no login"
            if scheme == "bearer":
                self._authorization = f"Bearer {self._token(fields, login)}"
            elif scheme == "basic" and login and login.username and not tried:
                self._authorization = _basic(login)
            else:
                return ""
            return self._authorization

    def _token(self, fields: Mapping[str, str], login: Login | None) -> str:
        """Get a token from the service that the registry names (distribution's token and OAuth2 specifications)."""
        realm = self._safe_realm(fields.get("realm", ""))
        scope = fields.get("scope") or f"repository:{self._name}:pull"
        asked = {"service": fields.get("service", ""), "scope": scope}
        if login and login.identity_token:
            form = {**asked, "grant_type": "refresh_token", "refresh_token": login.identity_token, "client_id": _CLIENT}
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            request = self._transport.request("POST", realm, headers, urlencode(form).encode())
        else:
            separator = "&" if "?" in realm else "?"
            headers = {"Authorization": _basic(login)} if login and login.username else {}
            request = self._transport.request("GET", f"{realm}{separator}{urlencode(asked)}", headers)
        with request as response:
            self._check(response, "token")
            try:
                answer = json.loads(self._body(response, _LARGEST_ANSWER))
                token = answer.get("token") or answer.get("access_token")
            except (ValueError, AttributeError, RecursionError):
                token = None
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise Failure(f"{urlsplit(realm).netloc} gives no token", "unreachable", retryable=True, hint=_PORTAL)
        return token

    def _safe_realm(self, realm: str) -> str:
        """Return the address of the token service, if a login may be sent there."""
        parts = urlsplit(realm)
        plain_here = parts.scheme == "http" and self._plain and is_loopback(parts.netloc) == is_loopback(self._registry)
        if parts.scheme == "https" or plain_here:
            return realm
        raise Failure(f"{self._registry} asks to log in at {one_line(realm, 200)!r}, which is not safe", "unauthorized")


_ACCEPT = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}


def _basic(login: Login) -> str:
    return f"Basic {base64.b64encode(f'{login.username}:{login.password}'.encode()).decode('ascii')}"


def _parse_challenge(header: str) -> tuple[str, Mapping[str, str]]:
    """Return the scheme of a WWW-Authenticate header, in lower case, and its fields; Bearer if there are several."""
    found = re.search(r"(?i)\b(bearer)\s+(\w.*)", header) or re.search(r"(?i)\b(basic)\b\s*(.*)", header)
    if found is None:
        return "", {}
    pairs = [item for item in parse_http_list(found[2]) if re.match(r"\w+=", item)]
    try:
        fields = parse_keqv_list(pairs)
    except (ValueError, IndexError):
        fields = {}
    return found[1].lower(), {name.lower(): value for name, value in fields.items()}


def _first_byte(response: Response) -> int:
    match = re.match(r"bytes (\d{1,18})-", response.headers.get("Content-Range", ""))
    if match is None:
        raise Failure("the registry gives a part of it, and does not say which", "unreachable", retryable=True)
    return int(match[1])


def _retry_after(response: Response) -> float | None:
    """Return how long the registry asks to wait, in seconds: it says seconds, or a date."""
    said = response.headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}", said):
        return min(float(said), _LONGEST_WAIT)
    try:
        return max(0.0, min(_LONGEST_WAIT, email.utils.parsedate_to_datetime(said).timestamp() - time.time()))
    except (ValueError, TypeError, OverflowError):
        return None


def _words(body: bytes) -> str:
    """Return what an error document says, on one line; empty if it is none."""
    try:
        errors: Any = json.loads(body)["errors"]
        said = errors[0].get("message") or errors[0].get("code") or ""
        return one_line(str(said))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""


def _is_page(data: bytes) -> bool:
    return data.lstrip()[:1] == b"<"


def _portal(response: Response) -> Failure:
    kind = one_line(response.headers.get("Content-Type", "something"), 80)
    return Failure(f"the registry's answer is no manifest but {kind}", "unreachable", retryable=True, hint=_PORTAL)
