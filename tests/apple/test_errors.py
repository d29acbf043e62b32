"""What the command says in any version becomes the same error, with subject, runtime and a hint where there is one."""

import pytest

from oubliette_apple import _errors
from oubliette_core import errors
from tests.apple.conftest import Install
from tests.apple.installed import PROFILES

_XPC = 'interrupted: "XPC connection error: Connection invalid"'
_ADVICE = "\nEnsure container system service has been started with `container system start`."


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"Error: {_XPC}{_ADVICE}", errors.RuntimeUnavailableError),
        (f'Error: interrupted: "{_XPC}{_ADVICE}"', errors.RuntimeUnavailableError),
        (
            "Error: Plugins are unavailable. Start the container system services and retry:",
            errors.RuntimeUnavailableError,
        ),
        ("Error: default kernel not configured for architecture arm64, please", errors.RuntimeUnavailableError),
        ('Error: interrupted: "XPC connection error: Connection interrupted"', errors.RuntimeLostError),
        ("Error: XPC timeout for request to com.apple.container.apiserver/containerCreate", errors.RuntimeLostError),
        ("Error: container not found: box", errors.ContainerNotFoundError),
        ('Error: notFound: "get failed: container box not found"', errors.ContainerNotFoundError),
        ('Error: internalError: "failed to delete one or more containers: ["box"]"', errors.ContainerNotFoundError),
        ("Error: container already exists: box", errors.NameConflictError),
        ('Error: hostname(s) already exist: ["box"]', errors.NameConflictError),
        (
            'Error: internalError: "x" (cause: "invalidState: "container box is running and can not be deleted"")',
            errors.InUseError,
        ),
        ('Error: invalidState: "container is running"', errors.InUseError),
        ("Error: container box is not running", errors.ContainerNotRunningError),
        (
            'Error: internalError: "x" (cause: "invalidState: "no sandbox client exists: y"")',
            errors.ContainerNotRunningError,
        ),
        ("Error: image not found: box", errors.ImageNotFoundError),
        ("Error: platform linux/amd64", errors.ImageNotFoundError),
        ("Error: path '/x' does not exist", errors.InvalidSpecError),
        ("Error: minimum memory amount allowed is 200 MiB (got 0 bytes)", errors.InvalidSpecError),
        ("Error: network nowhere not found", errors.InvalidSpecError),
        ("Error: keyNotFound(CodingKeys)", errors.RuntimeOperationError),
        ("Error: something else", errors.RuntimeOperationError),
        ("", errors.RuntimeOperationError),
    ],
)
def test_translate(text: str, kind: type[errors.OublietteError]) -> None:
    """The most specific match decides; every text is one line for people."""
    error = _errors.translate(text, operation="start", subject="box")

    assert kind is type(error)
    assert "\n" not in str(error)
    if isinstance(error, errors.RuntimeOperationError):
        assert ("apple", "box") == (error.runtime, error.subject)
    if isinstance(error, errors.RuntimeUnavailableError):
        assert error.hint


def _http(status: str) -> str:
    url = "https://registry-1.docker.io/v2/x/manifests/1"
    return f"Error: HTTP request to {url} failed with response: {status}. Reason: Unknown"


@pytest.mark.parametrize(
    ("text", "reason", "retryable"),
    [
        (_http("401 Unauthorized"), "unauthorized", False),
        (_http("403 Forbidden"), "unauthorized", False),
        (_http("404 Not Found"), "not_found", False),
        (_http("429 Too Many Requests"), "rate_limited", True),
        (_http("503 Service Unavailable"), "unreachable", True),
        ("Error: failed to resolve either repository hostname x", "unreachable", True),
        ("Error: image sha256:01 does not support required platforms", "no_platform", False),
        ("Error: platform linux/amd64", "no_platform", False),
        ('Error: internalError: "digest mismatch expected sha256:1, got sha256:2"', "corrupt", True),
        ("Error: No space left on device", "no_space", False),
        ("Error: who knows", "other", False),
    ],
)
def test_translate_pull(text: str, reason: str, *, retryable: bool) -> None:
    """Each class of failure has its reason, and says whether the same pull may succeed later."""
    error = _errors.translate_pull(text, "x:1")

    assert isinstance(error, errors.ImagePullError)
    assert (reason, retryable, "x:1") == (error.reason, error.retryable, error.subject)


def test_a_service_that_is_down_is_no_failed_pull() -> None:
    """It is told apart, because there is something else to be done about it."""
    assert isinstance(_errors.translate_pull(f"Error: {_XPC}{_ADVICE}", "x:1"), errors.RuntimeUnavailableError)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("start nobody", errors.ContainerNotFoundError),
        ("delete nobody", errors.ContainerNotFoundError),
        ("exec nobody true", errors.ContainerNotFoundError),
        ("logs nobody", errors.ContainerNotFoundError),
        ("image inspect nothing:1", errors.ImageNotFoundError),
    ],
)
def test_what_every_version_says(install: Install, profile: str, command: str, kind: type[Exception]) -> None:
    """The words of each version are understood, and a service that is down is not taken for something absent."""
    mac = install(profile)
    up = mac.run(*command.split()).stderr.decode()
    mac.service(up=False)
    down = mac.run(*command.split()).stderr.decode()

    assert kind is type(_errors.translate(up, operation="x", subject="nobody"))
    assert errors.RuntimeUnavailableError is type(_errors.translate(down, operation="x", subject="nobody"))
