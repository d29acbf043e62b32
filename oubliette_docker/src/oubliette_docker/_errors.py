"""What an engine and the way to it answer, as Oubliette's errors: one table for refusals, one for failed pulls.

Engines disagree about status codes and words (Docker 20.10 answers 500 for everything that a registry refuses, Podman
500 for a name that is taken), so each rule looks at the operation, the status and the message. The first rule that
fits decides: the most specific come first.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import (
    ContainerNotFoundError,
    ContainerNotRunningError,
    ImageNotFoundError,
    ImagePullError,
    InUseError,
    InvalidSpecError,
    NameConflictError,
    OperationTimeoutError,
    OublietteError,
    PullFailure,
    RuntimeOperationError,
    RuntimeUnavailableError,
    StartFailedError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from oubliette_docker._endpoint import Endpoint

__all__ = [
    "RUNTIME",
    "EngineError",
    "missing_source",
    "one_line",
    "pull_error",
    "translate",
    "translated",
    "unreachable",
]

RUNTIME = "docker"


class EngineError(RuntimeOperationError):
    """The engine refused a request. `translated` turns it into the error that it stands for.

    :param status: of the HTTP response.
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, runtime=RUNTIME)
        self.status = status


def one_line(text: str, longest: int = 1000) -> str:
    """Return what somebody else says as one line that is safe to print: a registry's words are not to be trusted."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:longest]


# -- Refusals ---------------------------------------------------------------------------------------------------------

_Factory = Callable[[str, str], OublietteError]
"""Makes an error from the engine's words and the subject."""


def _operation(error: type[RuntimeOperationError], text: str, hint: str = "") -> _Factory:
    """Have an error with ``text``, in which ``{subject}`` and ``{said}`` (the engine's words) may stand."""

    def make(said: str, subject: str) -> OublietteError:
        return error(text.format(subject=subject, said=said), runtime=RUNTIME, subject=subject, hint=hint)

    return make


def _invalid(said: str, subject: str) -> OublietteError:
    return InvalidSpecError(f"the engine refuses this for {subject}: {said}", value=subject)


def missing_source(path: str, subject: str) -> InvalidSpecError:
    """Return the error for a bind mount of something that is not there."""
    return InvalidSpecError(
        f"{path} does not exist on the engine's machine; {subject} was to have it mounted",
        value=path,
        hint="Make the directory first. With a remote engine, it has to be on that machine.",
    )


def _missing_source(said: str, subject: str) -> OublietteError:
    match = re.search(r"does not exist: (/.+)|(?:statfs|stat|lstat) (/.+?): no such", said)
    return missing_source((match[1] or match[2]) if match else "a bind mount's source", subject)


def _no_init(_said: str, subject: str) -> OublietteError:
    return UnsupportedError(
        f"the engine has no init program to run in {subject}",
        capability="init",
        runtime=RUNTIME,
        subject=subject,
        hint="Install catatonit on the engine's machine, or ask for no init.",
    )


def _platform_differs(said: str, subject: str) -> OublietteError:
    return ImageNotFoundError(
        f"image {subject} is present only for another platform: {said}",
        runtime=RUNTIME,
        subject=subject,
        hint="Pull it for the platform that is wanted.",
    )


@attrs.frozen(kw_only=True)
class _Rule:
    """:param on: the operations that it is for; empty for all. :param statuses: empty for all."""

    make: _Factory
    on: frozenset[str] = frozenset()
    statuses: tuple[int, ...] = ()
    text: str = ""

    def fits(self, operation: str, error: EngineError) -> bool:
        return (
            (not self.on or operation in self.on)
            and (not self.statuses or error.status in self.statuses)
            and re.search(self.text, error.message, re.IGNORECASE) is not None
        )


def _on(*operations: str) -> frozenset[str]:
    return frozenset(operations)


_IMAGES = _on("create", "inspect_image", "remove_image", "save_images")
_COPIES = _on("copy_in", "copy_out")
_no_image = _operation(ImageNotFoundError, "there is no image {subject} here", "Pull it, or build it.")
_no_container = _operation(ContainerNotFoundError, "there is no container {subject}")
_not_running = _operation(ContainerNotRunningError, "container {subject} is not running", "Start it first.")
_start_failed = _operation(StartFailedError, "container {subject} could not be started: {said}")

_RULES = (
    _Rule(make=_platform_differs, on=_IMAGES, text="match the specified platform|provide the specified platform"),
    _Rule(
        make=_operation(NameConflictError, "another container is called {subject}"),
        on=_on("create"),
        text="name .* (is already in use|already exists)|already reserved",
    ),
    _Rule(make=_no_init, on=_on("create"), text="init binary not found"),
    _Rule(
        make=_missing_source,
        on=_on("create"),
        text=r"bind source path does not exist|(statfs|stat|lstat) /.+: no such",
    ),
    _Rule(make=_no_image, on=_IMAGES, text="no such image|image not known|failed to find image"),
    _Rule(make=_no_image, on=_IMAGES - {"create"}, statuses=(404,)),
    _Rule(make=_no_container, text="no such container(?!:path)|no container with (name|id)"),
    _Rule(
        make=_operation(InUseError, "container {subject} is running", "Stop it first, or remove it with force."),
        on=_on("remove"),
        text="(cannot remove|remove a) .*(running|paused|restarting)",
    ),
    _Rule(
        make=_operation(InUseError, "image {subject} is in use: {said}", "Remove the containers made from it first."),
        on=_on("remove_image"),
        text="using its referenced image|being used by|in use by|image used by|must be forced|must force",
    ),
    _Rule(make=_not_running, on=_on("exec", "open_exec"), text="container state improper"),
    _Rule(make=_not_running, text=r"is not running|is paused|is restarting, wait"),
    _Rule(make=_invalid, on=_COPIES, statuses=(400, 403, 404)),
    _Rule(make=_invalid, on=_COPIES, text="tar|unexpected EOF|not a directory|no such file|not be found|read-only"),
    _Rule(make=_start_failed, on=_on("start"), statuses=(400, 404, 409, 500)),
    _Rule(make=_invalid, on=_on("create"), statuses=(400, 404)),
    _Rule(make=_invalid, on=_on("create"), text="invalid|unknown|not found|must be|cannot|not a directory"),
    _Rule(
        make=_operation(UnsupportedError, "the engine cannot do this: {said}"),
        text="does not support reading|not implemented|not supported|page not found",
    ),
    _Rule(
        make=_operation(RuntimeUnavailableError, "the engine is not ready: {said}", "Try again in a moment."),
        statuses=(502, 503, 504),
    ),
    _Rule(
        make=_operation(
            RuntimeOperationError,
            "the engine's disk is full: {said}",
            "Free space on the engine's machine: docker system df",
        ),
        text="no space left on device|disk quota exceeded",
    ),
    _Rule(
        make=_operation(RuntimeOperationError, "the engine does not allow this: {said}"),
        statuses=(401, 403),
    ),
    _Rule(make=_operation(RuntimeOperationError, "the engine failed with {subject}: {said}")),
)


def translate(error: EngineError, operation: str, subject: str) -> OublietteError:
    """Return the error that a refusal stands for.

    :param operation: name of the hook. :param subject: id, name or reference that it was about.
    """
    rule = next(rule for rule in _RULES if rule.fits(operation, error))
    return rule.make(error.message, subject)


@contextlib.contextmanager
def translated(operation: str, subject: str) -> Iterator[None]:
    """Let only errors of `oubliette_core.errors` out, each with its runtime and subject."""
    try:
        yield
    except EngineError as error:
        raise translate(error, operation, subject) from error
    except RuntimeOperationError as error:
        error.runtime = error.runtime or RUNTIME
        error.subject = error.subject or subject
        if isinstance(error, OperationTimeoutError):
            error.operation = operation
        raise


# -- Pulls ------------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Failure:
    """:param phase: ``resolving`` before the engine began to answer in lines, ``downloading`` after; empty for both."""

    reason: PullFailure
    text: str
    retryable: bool = False
    phase: str = ""
    hint: str = ""


_LOGIN = "Check the name, and log in with: docker login REGISTRY"
_FAILURES = (
    _Failure(
        reason="no_space",
        text="no space left on device|disk quota exceeded|not enough space",
        hint="Free space on the engine's machine: docker system df",
    ),
    _Failure(
        reason="clock",
        text="not yet valid|current time .* is (before|after)|token .*used before|nbf",
        hint="Compare the clock of the engine's machine with the real time.",
    ),
    _Failure(
        reason="no_platform",
        text="no matching manifest|no image found in (manifest list|image index)|the specified platform"
        "|no match for platform|choosing image instance",
        hint="Ask for a platform that the image has, or build one for this machine.",
    ),
    _Failure(
        reason="rate_limited",
        text=r"toomanyrequests|too many requests|\b429\b|rate limit",
        retryable=True,
        hint="Wait, or log in: docker login. Registries allow more to those they know.",
    ),
    _Failure(
        reason="unreachable",
        text="http response to https client",
        hint="Tell the engine about this registry: insecure-registries in its daemon.json.",
    ),
    _Failure(
        reason="unreachable", text="x509:|certificate signed by|tls: ", hint="The engine does not trust the registry."
    ),
    _Failure(
        reason="unauthorized",
        text=r"unauthorized|authentication required|no basic auth|incorrect username|\bdenied\b|forbidden|\b40[13]\b",
        hint=_LOGIN,
    ),
    _Failure(
        reason="not_found",
        text=r"manifest unknown|manifest for .* not found|name[ _]unknown|blob unknown|unknown blob"
        r"|repository .*not found|requested image not found|\b404\b|: not found",
        hint="Check the name and the tag.",
    ),
    _Failure(
        reason="corrupt",
        text="verification failed|unexpected commit digest|digest mismatch|digest did not match|does not match .*digest"
        "|invalid checksum|invalid tar header|gzip: invalid|flate: corrupt|archive/tar|zstd|magic number",
        hint="What the registry has is damaged. Push the image again.",
    ),
    _Failure(
        reason="corrupt",
        text="unexpected EOF|byte range request|size validation|short read|size mismatch|failed commit on ref|^EOF$",
        phase="downloading",
        retryable=True,
        hint="The registry cut the download short.",
    ),
    _Failure(
        reason="unreachable",
        text="error unmarshalling|invalid character|unsupported media type|error parsing http",
        retryable=True,
        hint="Something other than a registry answers: perhaps a proxy or a login page.",
    ),
    _Failure(
        reason="unreachable",
        text=r"connection (refused|reset)|no such host|timeout|dial tcp|deadline exceeded|unreachable|\bEOF\b"
        r"|server misbehaving|\b50[0-9]\b|unexpected http status|internal server error|service unavailable"
        r"|request canceled|broken pipe|bad gateway|no route",
        retryable=True,
        hint="See whether the engine's machine reaches the registry.",
    ),
)
_SECONDS = {"": 1.0, "µs": 1e-6, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_RETRY_AFTER = re.compile(r"retry[- ]after[:=]?\s*([0-9.]+)\s*(µs|us|ms|s|m|h|)", re.IGNORECASE)


_BY_STATUS: dict[int, PullFailure] = {401: "unauthorized", 403: "unauthorized", 404: "not_found", 429: "rate_limited"}


def pull_error(
    said: str, image: str, phase: str, *, status: int = 200, platform: str | None = None, login: str = ""
) -> ImagePullError:
    """Return the error for a pull that the engine says has failed.

    :param said: the engine's words, which count most: older engines answer 500 whatever the registry said.
    :param phase: ``resolving`` or ``downloading``. :param status: of the engine's answer.
    :param platform: the one that was asked for. :param login: what the registry was asked with, for people.
    """
    failure = next((failure for failure in _FAILURES if _matches(failure, said, phase)), None)
    if failure is None and status in _BY_STATUS:
        failure = next(failure for failure in _FAILURES if failure.reason == _BY_STATUS[status])
    failure = failure or _Failure(reason="other", text="")
    wait = _RETRY_AFTER.search(said)
    asked = f" (The registry was asked with {login}.)" if login and failure.reason == "unauthorized" else ""
    return ImagePullError(
        f"image {image} could not be pulled{f' for {platform}' if platform else ''}: {said}",
        reason=failure.reason,
        retryable=failure.retryable,
        retry_after=float(wait[1]) * _SECONDS[wait[2].lower()] if wait else None,
        runtime=RUNTIME,
        subject=image,
        hint=failure.hint + asked,
    )


def _matches(failure: _Failure, said: str, phase: str) -> bool:
    return failure.phase in ("", phase) and re.search(failure.text, said, re.IGNORECASE) is not None


# -- The way to the engine --------------------------------------------------------------------------------------------


_START = "Start Docker Desktop, Colima or OrbStack." if sys.platform == "darwin" else "sudo systemctl start docker"
_INSTALL = "Install one: https://docs.docker.com/engine/install/"
_JOIN = "Join the docker group and log in again: sudo usermod -aG docker $USER"
_UNREACHABLE: tuple[tuple[type[OSError], str, str], ...] = (
    (ssl.SSLError, "the engine at {where} cannot be trusted: {why}", "Check the certificates (DOCKER_CERT_PATH)."),
    (socket.gaierror, "the engine's host in {where} has no known address", "Check the host name."),
    (FileNotFoundError, "the engine is not running: there is no {where}", _START),
    (PermissionError, "you are not allowed to use the engine at {where}", _JOIN),
    (ConnectionRefusedError, "the engine is not running: nothing listens at {where}", _START),
    (TimeoutError, "the engine at {where} does not respond", "Restart it, or check the way to its machine."),
    (OSError, "the engine at {where} cannot be reached: {why}", ""),
)


def unreachable(endpoint: Endpoint, error: OSError) -> RuntimeUnavailableError:
    """Tell why no connection to the engine could be made, and what to do about it."""
    where = f"{endpoint.url} ({endpoint.origin})" if endpoint.origin else endpoint.url
    why = getattr(error, "verify_message", "") or error.strerror or str(error)
    text, hint = next((text, hint) for kind, text, hint in _UNREACHABLE if isinstance(error, kind))
    if isinstance(error, FileNotFoundError) and endpoint.is_guess and not _is_installed():
        text, hint = "neither Docker nor Podman is installed: there is no {where}", _INSTALL
    return RuntimeUnavailableError(text.format(where=where, why=why), runtime=RUNTIME, subject=endpoint.url, hint=hint)


def _is_installed() -> bool:
    return any(shutil.which(program) for program in ("docker", "dockerd", "podman"))
