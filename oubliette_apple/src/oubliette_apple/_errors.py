"""What the texts of ``container`` mean.

The command has two exit codes of its own, 1 and 64, and says everything else in words on standard error. They differ
between versions, nest their causes in quotes that are not escaped, and are searched for what stays the same.
"""

from __future__ import annotations

import re
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
    RuntimeLostError,
    RuntimeOperationError,
    RuntimeUnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "apple"
START_HINT = "Start it: container system start --enable-kernel-install"
_RESTART_HINT = "Restart it: container system stop && container system start --enable-kernel-install"
_KERNEL_HINT = "Install one: container system kernel set --recommended"

SERVICE_DOWN = re.compile(r"XPC connection error: Connection invalid|apiserver is not running|Plugins are unavailable")
CONNECTION_LOST = re.compile(r"XPC connection error: Connection interrupted")
BUSY = re.compile(r"XPC timeout for request to|Request timeout")
NOT_FOUND = re.compile(
    r"container with ID .+ not found|get failed: container .+ not found|container not found: |no such container: "
    r"|failed to delete one or more containers"
)
PROGRAM_MISSING = re.compile(r"failed to find target executable")
NEVER_STARTED = re.compile(
    r"failed to (?:get|fetch) (?:container )?logs.*(?:no such file|doesn.t exist)", re.IGNORECASE | re.DOTALL
)


@attrs.frozen
class _Row:
    pattern: re.Pattern[str]
    make: Callable[[str, str], OublietteError]


def _operation(kind: type[RuntimeOperationError], words: str, hint: str = "") -> Callable[[str, str], OublietteError]:
    def make(subject: str, detail: str) -> OublietteError:
        return kind(words.format(subject=subject, detail=detail), runtime=NAME, subject=subject, hint=hint)

    return make


def _invalid(_subject: str, detail: str) -> OublietteError:
    return InvalidSpecError(detail)


_TABLE = (
    _Row(SERVICE_DOWN, _operation(RuntimeUnavailableError, "Apple's container service is not running", START_HINT)),
    _Row(
        CONNECTION_LOST,
        _operation(
            RuntimeLostError, "the connection to Apple's container service broke during {subject}", _RESTART_HINT
        ),
    ),
    _Row(BUSY, _operation(RuntimeLostError, "Apple's container service did not answer for {subject}", _RESTART_HINT)),
    _Row(NOT_FOUND, _operation(ContainerNotFoundError, "there is no container {subject}")),
    _Row(
        re.compile(r"container already exists: |container with id .+ already exists|hostname\(s\) already exist"),
        _operation(NameConflictError, "another container is called {subject}"),
    ),
    _Row(
        re.compile(
            r"is running and can not be deleted|container is running\"?$|is not yet stopped and can not be deleted",
            re.MULTILINE,
        ),
        _operation(InUseError, "container {subject} is running"),
    ),
    _Row(
        re.compile(r"container .+ is not running|no (?:runtime|sandbox) client exists"),
        _operation(ContainerNotRunningError, "container {subject} is not running"),
    ),
    _Row(
        re.compile(
            r"image not found: |image with reference |notFound: \"images?: |failed to delete one or more images"
        ),
        _operation(ImageNotFoundError, "image {subject} is not present"),
    ),
    _Row(
        re.compile(r"default kernel not configured|kernel not configured for architecture"),
        _operation(RuntimeUnavailableError, "Apple's container has no Linux kernel installed", _KERNEL_HINT),
    ),
    _Row(
        re.compile(r"typeMismatch\(|keyNotFound\(|failed to decode api"),
        _operation(
            RuntimeOperationError, "the container command and its service are of different versions", _RESTART_HINT
        ),
    ),
    _Row(
        re.compile(
            r"minimum memory amount|is not a valid container ID|invalid entity name|path '.+' does not exist"
            r"|path '.+' is not a directory|network .+ not found|command/entrypoint not specified|invalid label format"
            r"|mount source path .+ does not exist"
        ),
        _invalid,
    ),
    _Row(
        re.compile(r"^Error: platform ", re.MULTILINE), _operation(ImageNotFoundError, "image for {subject}: {detail}")
    ),
)


def translate(text: str, *, operation: str, subject: str) -> OublietteError:
    """Return the error that ``text``, from standard error, stands for."""
    for row in _TABLE:
        if row.pattern.search(text):
            return row.make(subject, detail(text))
    words = detail(text) or "the command failed without a word"
    return RuntimeOperationError(f"{operation} of {subject} failed: {words}", runtime=NAME, subject=subject)


def is_down(text: str) -> bool:
    """Tell whether ``text`` says that the service is not running."""
    return bool(SERVICE_DOWN.search(text))


def late(operation: str, subject: str, timeout: float) -> OperationTimeoutError:
    """Return the error of a call that did not end in time."""
    return OperationTimeoutError(
        f"container {operation} did not end within {timeout:g} s" + (f" for {subject}" if subject else ""),
        operation=operation,
        timeout=timeout,
        runtime=NAME,
        subject=subject,
        hint="Apple's service may hang. Look at it: container system status; restart it: container system stop",
    )


def in_use(container: str) -> InUseError:
    """Return the error of a running container that was to be removed without force."""
    return InUseError(f"container {container} is running", runtime=NAME, subject=container)


_PULL: tuple[tuple[re.Pattern[str], PullFailure, bool], ...] = (
    (re.compile(r"failed with response: 40[13] "), "unauthorized", False),
    (re.compile(r"failed with response: 404 |manifest unknown|notFound: "), "not_found", False),
    (re.compile(r"failed with response: 429 |toomanyrequests", re.IGNORECASE), "rate_limited", True),
    (re.compile(r"failed with response: 5\d\d "), "unreachable", True),
    (
        re.compile(
            r"does not support required platforms|unsupported platform|^Error: (?:unsupported: )?\"?platform ",
            re.MULTILINE,
        ),
        "no_platform",
        False,
    ),
    (re.compile(r"No space left on device", re.IGNORECASE), "no_space", False),
    (re.compile(r"current time.* is before|not yet valid", re.IGNORECASE), "clock", False),
    (
        re.compile(r"digest|checksum|verification failed|unexpected end|corrupt|truncated", re.IGNORECASE),
        "corrupt",
        True,
    ),
    (
        re.compile(
            r"failed to resolve|Connection refused|Connection reset|connection closed|timed out|network", re.IGNORECASE
        ),
        "unreachable",
        True,
    ),
)


def translate_pull(text: str, image: str) -> OublietteError:
    """Return the error of a failed pull; a service that is down is not a failed pull."""
    for pattern in (SERVICE_DOWN, CONNECTION_LOST, BUSY):
        if pattern.search(text):
            return translate(text, operation="pull", subject=image)
    for pattern, reason, retryable in _PULL:
        if pattern.search(text):
            return pull_error(image, reason, detail(text), retryable=retryable)
    return pull_error(image, "other", detail(text) or "the command failed without a word")


_PULL_HINTS: dict[PullFailure, str] = {
    "unauthorized": "Log in: container registry login HOST",
    "not_found": "Check the reference; the registry has no such image or tag.",
    "rate_limited": "Log in to the registry, or try again in some minutes.",
    "unreachable": "Check the registry's name and the network.",
    "no_platform": "Choose another platform, or an image that is built for this one.",
    "no_space": "Make room: container image prune, container system df",
    "clock": "Set the clock of this machine.",
}


def pull_error(image: str, reason: PullFailure, detail: str, *, retryable: bool = False) -> ImagePullError:
    """Return the error of a pull that failed for ``reason``."""
    return ImagePullError(
        f"pulling {image} failed: {detail}",
        reason=reason,
        retryable=retryable,
        runtime=NAME,
        subject=image,
        hint=_PULL_HINTS.get(reason, ""),
    )


def detail(text: str) -> str:
    """Return the error's own words in one line, without the advice that follows every lost connection."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Ensure container system")]
    start = next((number for number, line in enumerate(lines) if line.startswith("Error: ")), max(0, len(lines) - 1))
    words = " ".join(" ".join(lines[start:]).removeprefix("Error: ").split())
    return words if len(words) <= 300 else f"{words[:297]}..."
