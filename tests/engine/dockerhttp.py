"""The few requests that the engine's own management makes to the Docker API and to registries."""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def docker_connection(docker_host: str, timeout: float = 10) -> http.client.HTTPConnection:
    """Give a connection to the engine at `docker_host` (unix:// or tcp://, with TLS as the docker CLI would).

    Raises `ValueError` for a host of another kind.
    """
    url = urlsplit(docker_host)
    if url.scheme == "unix":
        return _UnixConnection(url.path, timeout)
    if url.scheme in ("tcp", "http", "https") and url.hostname:
        if url.scheme == "https" or os.environ.get("DOCKER_TLS_VERIFY"):
            return http.client.HTTPSConnection(url.hostname, url.port or 2376, timeout=timeout, context=_client_tls())
        return http.client.HTTPConnection(url.hostname, url.port or 2375, timeout=timeout)
    raise ValueError(f"{docker_host!r} is neither a unix:// nor a tcp:// address of a Docker Engine")


def _client_tls() -> ssl.SSLContext:
    certificates = Path(os.environ.get("DOCKER_CERT_PATH") or Path.home() / ".docker")
    context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    return context


def docker_json(docker_host: str, path: str, timeout: float = 10) -> Any:
    """Give the decoded answer of the engine to `GET path`.

    Raises `OSError` when it does not answer, or answers with anything but 200.
    """
    status, body = docker_request(docker_host, "GET", path, timeout=timeout)
    if status != http.client.OK:
        raise OSError(f"GET {path} answered {status}: {body[:200]!r}")
    return json.loads(body)


def docker_request(
    docker_host: str,
    method: str,
    path: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout: float = 60,
) -> tuple[int, bytes]:
    """Send one request to the engine, `body` as JSON, and give the status and the whole answer.

    Raises `OSError` when it does not answer.
    """
    connection = docker_connection(docker_host, timeout)
    try:
        content = None if body is None else json.dumps(body)
        kind = {} if content is None else {"Content-Type": "application/json"}
        connection.request(method, path, content, {**kind, **(headers or {})})
        response = connection.getresponse()
        return response.status, response.read()
    except http.client.HTTPException as error:
        raise OSError(f"no HTTP answer to {method} {path}: {error!r}") from error
    finally:
        connection.close()


def registry_answers(address: str, timeout: float = 5) -> bool:
    """Tell whether a registry of API version 2 serves plain HTTP at `address` (host:port)."""
    connection = http.client.HTTPConnection(address, timeout=timeout)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
