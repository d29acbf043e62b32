"""Each refusal of each engine stands for one error of ours, and nothing foreign comes out."""

from __future__ import annotations

import errno
import ssl
from collections.abc import Iterator
from pathlib import Path

import docker.errors
import pytest
import requests.exceptions
import urllib3.exceptions

from oubliette_core.errors import (
    ContainerNotFoundError,
    ContainerNotRunningError,
    ImageBuildError,
    ImageNotFoundError,
    InUseError,
    InvalidSpecError,
    NameConflictError,
    OperationTimeoutError,
    OublietteError,
    RuntimeLostError,
    RuntimeOperationError,
    RuntimeUnavailableError,
    StartFailedError,
    UnsupportedError,
)
from oubliette_core.models import BuildSpec
from oubliette_docker import _build
from oubliette_docker._endpoint import Endpoint
from oubliette_docker._errors import EngineError, one_line, pull_error, translate, translated, unreachable

REFUSALS = [
    # Containers
    ("inspect", 404, "No such container: box", ContainerNotFoundError),
    ("start", 404, 'no container with name or ID "box" found: no such container', ContainerNotFoundError),
    ("copy_in", 404, "No such container: box", ContainerNotFoundError),
    ("exec", 409, "Container 0123 is not running", ContainerNotRunningError),
    ("exec", 409, "Container 0123 is paused, unpause the container before exec", ContainerNotRunningError),
    (
        "exec",
        500,
        "can only create exec sessions on running containers: container state improper",
        ContainerNotRunningError,
    ),
    (
        "create",
        409,
        'Conflict. The container name "/box" is already in use by container "0123". You have to remove (or rename)',
        NameConflictError,
    ),
    (
        "create",
        500,
        'creating container storage: the container name "box" is already in use by 0123. You have to remove that',
        NameConflictError,
    ),
    ("create", 404, "No such image: box:latest", ImageNotFoundError),
    ("create", 404, "box:latest: image not known", ImageNotFoundError),
    (
        "create",
        404,
        "image with reference box:latest was found but does not match the specified platform: wanted linux/arm64",
        ImageNotFoundError,
    ),
    (
        "create",
        404,
        "image with reference box:latest was found but does not provide the specified platform (linux/arm64)",
        ImageNotFoundError,
    ),
    ("create", 400, 'invalid mount config for type "bind": bind source path does not exist: /a b', InvalidSpecError),
    ("create", 500, "statfs /a b: no such file or directory", InvalidSpecError),
    ("start", 400, 'invalid mount config for type "bind": bind source path does not exist: /a b', StartFailedError),
    ("create", 400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", InvalidSpecError),
    ("create", 404, "network nowhere not found", InvalidSpecError),
    ("create", 500, "Cannot mkdir: /etc/passwd is not a directory", InvalidSpecError),
    ("create", 500, "unable to find network with name or ID nowhere: network not found", InvalidSpecError),
    ("start", 404, "network nowhere not found", StartFailedError),
    ("start", 400, 'exec: "nope": executable file not found in $PATH: unknown', StartFailedError),
    ("start", 400, 'exec: "/no/such": stat /no/such: no such file or directory: unknown', StartFailedError),
    ("start", 500, "unable to find user nobody1: no matching entries in passwd file", StartFailedError),
    (
        "remove",
        409,
        "You cannot remove a running container 0123. Stop the container before attempting removal or force remove",
        InUseError,
    ),
    (
        "remove",
        409,
        'cannot remove container "/box": container is running: stop the container before removing or force remove',
        InUseError,
    ),
    (
        "remove",
        500,
        "cannot remove container 0123 as it is running - running or paused containers cannot be removed without force",
        InUseError,
    ),
    ("remove", 409, "You cannot remove a paused container 0123. Unpause and then stop the container", InUseError),
    # Images
    ("inspect_image", 404, "no such image: box: No such image: box", ImageNotFoundError),
    ("inspect_image", 404, "failed to find image box: box: No such image", ImageNotFoundError),
    ("remove_image", 404, "box: image not known", ImageNotFoundError),
    ("save_images", 404, "reference does not exist", ImageNotFoundError),
    (
        "remove_image",
        409,
        'conflict: unable to remove repository reference "box" (must force) - container 01 is using its referenced',
        InUseError,
    ),
    (
        "remove_image",
        409,
        "conflict: unable to delete 0123 (cannot be forced) - image is being used by running container 01",
        InUseError,
    ),
    ("remove_image", 409, "image used by 0123: image is in use by a container", InUseError),
    # Copies
    ("copy_out", 404, "Could not find the file /nope in container box", InvalidSpecError),
    ("copy_in", 404, "No such container:path: box:/nope", InvalidSpecError),
    ("copy_in", 400, "extraction point is not a directory", InvalidSpecError),
    ("copy_in", 403, "container rootfs is marked read-only", InvalidSpecError),
    ("copy_in", 500, "Error processing tar file(exit status 1): archive/tar: invalid tar header", InvalidSpecError),
    ("copy_in", 500, "unexpected EOF", InvalidSpecError),
    # Anything
    ("logs", 501, "configured logging driver does not support reading", UnsupportedError),
    ("top", 404, "page not found", UnsupportedError),
    ("list_containers", 503, "Docker Desktop is starting", RuntimeUnavailableError),
    ("stop", 500, "write /var/lib/docker: no space left on device", RuntimeOperationError),
    ("stop", 403, "authorization denied by plugin", RuntimeOperationError),
    ("stop", 500, "something that nobody has seen before", RuntimeOperationError),
]


@pytest.mark.parametrize(("operation", "status", "said", "expected"), REFUSALS)
def test_a_refusal_stands_for_one_error(operation: str, status: int, said: str, expected: type[OublietteError]) -> None:
    """The words are those of Docker 20.10 to 28 and Podman 4 to 5, which disagree about the status."""
    error = translate(EngineError(said, status=status), operation, "box")

    assert expected is type(error)


def test_an_engines_words_are_safe_to_print() -> None:
    """A registry that sends escape sequences must not write on somebody's terminal."""
    assert "a [31mred b" == one_line("a\x1b[31mred\r\n\tb\x07\x9b")
    assert 10 == len(one_line("x" * 50, 10))


@pytest.mark.parametrize(
    "said", ["bind source path does not exist: /a b", "invalid mount: statfs /a b: no such file or directory"]
)
def test_a_missing_bind_source_is_named(said: str) -> None:
    """The path is what the user has to look at, spaces and all."""
    error = translate(EngineError(said, status=400), "create", "box")

    assert isinstance(error, InvalidSpecError)
    assert ("/a b", True) == (error.value, error.message.startswith("/a b does not exist"))


def test_every_error_has_its_runtime_and_subject() -> None:
    """Front ends say what it was about without reading the text."""
    with pytest.raises(ContainerNotFoundError) as refused, translated("inspect", "box"):
        raise EngineError("No such container: box", status=404)
    with pytest.raises(RuntimeLostError) as lost, translated("inspect", "box"):
        raise RuntimeLostError("gone")
    with pytest.raises(OperationTimeoutError) as late, translated("inspect", "box"):
        raise OperationTimeoutError("late", operation="GET /containers/box/json", timeout=30)

    assert [("docker", "box")] * 3 == [(e.value.runtime, e.value.subject) for e in (refused, lost, late)]
    assert ("inspect", 30) == (late.value.operation, late.value.timeout)
    assert isinstance(refused.value.__cause__, EngineError)


PULLS = [
    # Docker 20.10 answers 500 to everything that fails before the first layer.
    ("unauthorized", 500, "resolving", "unauthorized", False),
    ("unauthorized: authentication required", 500, "resolving", "unauthorized", False),
    ("denied", 500, "resolving", "unauthorized", False),
    ('Get "http://r/v2/": no basic auth credentials', 500, "resolving", "unauthorized", False),
    ("pull access denied for a/b, repository does not exist or may require 'docker login'", 404, "resolving",
     "unauthorized", False),
    ("unexpected status from HEAD request to http://r/v2/x/manifests/latest: 403 Forbidden", 500, "resolving",
     "unauthorized", False),
    ("manifest unknown", 500, "resolving", "not_found", False),
    ("manifest for r/x:nope not found: manifest unknown: manifest unknown", 404, "resolving", "not_found", False),
    ("failed to resolve reference: r/x:nope: not found", 404, "resolving", "not_found", False),
    ("unknown blob", 200, "downloading", "not_found", False),
    ("initializing source docker://r/x:nope: reading manifest nope in r/x: manifest unknown", 200, "downloading",
     "not_found", False),
    ("toomanyrequests: You have reached your pull rate limit.", 500, "resolving", "rate_limited", True),
    ("toomanyrequests: slow down", 200, "downloading", "rate_limited", True),
    ("unexpected status code 429 Too Many Requests", 500, "resolving", "rate_limited", True),
    ("received unexpected HTTP status: 500 Internal Server Error", 500, "resolving", "unreachable", True),
    ("received unexpected HTTP status: 503 Service Unavailable", 200, "downloading", "unreachable", True),
    ('Head "http://r/v2/x/manifests/latest": EOF', 500, "resolving", "unreachable", True),
    ("error unmarshalling content: invalid character '<' looking for beginning of value", 500, "resolving",
     "unreachable", True),
    ('Get "http://127.0.0.1:9/v2/": dial tcp 127.0.0.1:9: connect: connection refused', 500, "resolving",
     "unreachable", True),
    ('Get "https://no.invalid/v2/": dial tcp: lookup no.invalid on 1.1.1.1:53: no such host', 500, "resolving",
     "unreachable", True),
    ("net/http: request canceled while waiting for connection (Client.Timeout exceeded)", 500, "resolving",
     "unreachable", True),
    ("http: server gave HTTP response to HTTPS client", 500, "resolving", "unreachable", False),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", 500, "resolving",
     "unreachable", False),
    ("x509: certificate has expired or is not yet valid: current time 2001-01-01 is before 2026-01-01", 500,
     "resolving", "clock", False),
    ("no matching manifest for linux/amd64 in the manifest list entries", 200, "downloading", "no_platform", False),
    ("no image found in image index for architecture arm64, variant v8, OS linux", 200, "downloading",
     "no_platform", False),
    ("filesystem layer verification failed for digest sha256:01", 200, "downloading", "corrupt", False),
    ("unexpected commit digest sha256:01, expected sha256:02: failed precondition", 200, "downloading", "corrupt",
     False),
    ("unexpected EOF", 200, "downloading", "corrupt", True),
    ("error pulling image configuration: download failed after attempts=6: unexpected EOF", 200, "downloading",
     "corrupt", True),
    ("expected HTTP 206 from byte range request", 200, "downloading", "corrupt", True),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", 200, "downloading", "no_space", False),
    ("something new", 404, "resolving", "not_found", False),
    ("something new", 500, "resolving", "other", False),
]  # fmt: skip


@pytest.mark.parametrize(("said", "status", "phase", "reason", "retryable"), PULLS)
def test_a_failed_pull_has_its_reason(said: str, status: int, phase: str, reason: str, retryable: bool) -> None:
    """Whether to try again is decided by what the registry said, which engines put into words only."""
    error = pull_error(said, "r/x:latest", phase, status=status)

    assert (reason, retryable) == (error.reason, error.retryable)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("toomanyrequests: retry-after: 1.5s, allowed: 44000/minute", 1.5),
        ("toomanyrequests: retry-after: 235.4µs", 235.4e-6),
        ("429 Too Many Requests, Retry-After: 7", 7.0),
        ("toomanyrequests: retry after 2m", 120.0),
        ("toomanyrequests: You have reached your pull rate limit.", None),
    ],
)
def test_how_long_to_wait_is_passed_on(said: str, seconds: float | None) -> None:
    """Where a registry asked for patience, we have it."""
    wait = pull_error(said, "x", "resolving").retry_after

    assert seconds == (pytest.approx(wait) if wait is not None else None)


def test_the_platform_that_was_asked_for_is_named() -> None:
    """Engines name it in different ways, or not at all."""
    said = "no image found in manifest list for architecture s390x"

    assert "for linux/s390x: no image" in pull_error(said, "x", "resolving", platform="linux/s390x").message


def test_a_refused_login_says_which_one_it_was() -> None:
    """Whoever has three logins wants to know which of them failed."""
    hint = pull_error("denied", "r/x", "resolving", login="the login for r in /home/me/.docker/config.json").hint

    assert "/home/me/.docker/config.json" in hint


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file"), "not running"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "not running"),
        (PermissionError(errno.EACCES, "Permission denied"), "not allowed"),
        (TimeoutError("timed out"), "does not respond"),
        (ssl.SSLCertVerificationError(1, "certificate verify failed"), "cannot be trusted"),
        (OSError(errno.EHOSTUNREACH, "No route to {host}"), "No route to {host}"),
    ],
)
def test_an_engine_that_cannot_be_reached_says_why(error: OSError, words: str) -> None:
    """Each cause needs something else to be done."""
    assert words in unreachable(Endpoint(url="unix:///x", origin="DOCKER_HOST"), error).message


# -- docker-py and what is below it -----------------------------------------------------------------------------------


def _family(root: type[BaseException]) -> Iterator[type[BaseException]]:
    yield root
    for child in root.__subclasses__():
        yield from _family(child)


def _foreign() -> list[type[BaseException]]:
    roots = (
        docker.errors.DockerException,
        docker.errors.StreamParseError,
        requests.exceptions.RequestException,
        urllib3.exceptions.HTTPError,
    )
    return sorted({error for root in roots for error in _family(root)}, key=lambda error: error.__qualname__)


@pytest.mark.parametrize("foreign", _foreign(), ids=lambda error: error.__qualname__)
def test_nothing_that_docker_py_raises_comes_out(
    foreign: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docker-py packs build contexts here; all that it and requests define is walked."""
    bare = type("Bare", (foreign,), {"__init__": lambda _self: None, "__str__": lambda _self: "damaged"})

    def fail(*_: object, **__: object) -> None:
        raise bare

    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.setattr("docker.utils.build.tar", fail)
    with pytest.raises(ImageBuildError):
        _build._context(BuildSpec(context=tmp_path, tag="x:latest"))


def test_the_walk_sees_docker_pys_own_errors() -> None:
    """A walk over nothing would prove nothing."""
    assert {"APIError", "ImageNotFound", "StreamParseError", "ReadTimeout", "ProtocolError"} <= {
        error.__qualname__ for error in _foreign()
    }
