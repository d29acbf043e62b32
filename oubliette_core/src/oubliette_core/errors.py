"""Every error that Oubliette raises on purpose.

    OublietteError
    ├── ConfigError
    ├── InvalidValueError
    │   ├── InvalidReferenceError
    │   └── InvalidSpecError
    ├── PluginError
    │   ├── PluginLoadError
    │   ├── DuplicatePluginError
    │   ├── UnknownRuntimeError
    │   └── NoRuntimeAvailableError
    ├── RuntimeOperationError
    │   ├── RuntimeUnavailableError
    │   ├── RuntimeLostError
    │   ├── OperationTimeoutError
    │   ├── OperationCancelledError
    │   ├── UnsupportedError
    │   ├── ContainerNotFoundError
    │   ├── ContainerNotRunningError
    │   ├── StartFailedError
    │   ├── CommandNotFoundError
    │   ├── NameConflictError
    │   ├── InUseError
    │   ├── ImageNotFoundError
    │   ├── ImagePullError
    │   └── ImageBuildError
    └── ServiceError
        ├── UnknownContainerTypeError
        ├── ProjectNotFoundError
        ├── SessionNotFoundError
        ├── AgentError
        ├── TokenNotFoundError
        ├── ActiveSessionsError
        ├── ConflictError
        ├── BusyError
        ├── StoreError
        └── AccessDeniedError

An error's text is one line for people: what happened, to what. ``hint`` says what to do next. Everything a program
needs to decide is an attribute; nobody parses the text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AccessDeniedError",
    "ActiveSessionsError",
    "AgentError",
    "BusyError",
    "CommandNotFoundError",
    "ConfigError",
    "ConflictError",
    "ContainerNotFoundError",
    "ContainerNotRunningError",
    "DuplicatePluginError",
    "ImageBuildError",
    "ImageNotFoundError",
    "ImagePullError",
    "InUseError",
    "InvalidReferenceError",
    "InvalidSpecError",
    "InvalidValueError",
    "NameConflictError",
    "NoRuntimeAvailableError",
    "OperationCancelledError",
    "OperationTimeoutError",
    "OublietteError",
    "PluginError",
    "PluginLoadError",
    "ProjectNotFoundError",
    "PullFailure",
    "RuntimeLostError",
    "RuntimeOperationError",
    "RuntimeUnavailableError",
    "ServiceError",
    "SessionNotFoundError",
    "StartFailedError",
    "StoreError",
    "TokenNotFoundError",
    "UnknownContainerTypeError",
    "UnknownRuntimeError",
    "UnsupportedError",
]

PullFailure = Literal[
    "unauthorized",
    "not_found",
    "rate_limited",
    "unreachable",
    "no_platform",
    "corrupt",
    "no_space",
    "stalled",
    "cancelled",
    "clock",
    "other",
]
"""Why a pull failed, in the order of the architecture's table."""


class OublietteError(Exception):
    """Base of every error that Oubliette raises on purpose.

    :param message: one line for people: what happened, to what.
    :param hint: what to do next; empty when there is nothing to advise.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(OublietteError):
    """The configuration cannot be used.

    :param problems: every problem found, each with its path (``containers.ml.pull: expected one of ...``).
    :param file: the file they were found in, where there is one.
    """

    def __init__(self, message: str, *, problems: Sequence[str] = (), file: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)
        self.file = file


class InvalidValueError(OublietteError):
    """A value given by a caller is not of the form it has to be; nothing was done with it.

    :param value: the offending value, shortened, safe to print.
    """

    def __init__(self, message: str, *, value: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.value = value


class InvalidReferenceError(InvalidValueError):
    """Text that is not an image reference."""


class InvalidSpecError(InvalidValueError):
    """A container, exec or log specification that no runtime could carry out."""


class PluginError(OublietteError):
    """Something about an installed runtime or wrapper, as opposed to what it was asked to do.

    :param runtime: the plugin's entry-point name.
    """

    def __init__(self, message: str, *, runtime: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.runtime = runtime


class PluginLoadError(PluginError):
    """The plugin cannot be imported, constructed or checked."""


class DuplicatePluginError(PluginError):
    """Two installed distributions offer a runtime under one name."""


class UnknownRuntimeError(PluginError):
    """No installed runtime has this name.

    :param known: the names that are installed.
    """

    def __init__(self, message: str, *, runtime: str = "", known: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, runtime=runtime, hint=hint)
        self.known = tuple(known)


class NoRuntimeAvailableError(PluginError):
    """No installed runtime can be used on this machine now.

    :param candidates: ``(name, why it was passed over, what to install or start)`` for each, in the order they were
        tried.
    """

    def __init__(self, message: str, *, candidates: Sequence[tuple[str, str, str]] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.candidates = tuple(candidates)


class RuntimeOperationError(OublietteError):
    """A runtime could not do what it was asked to do.

    :param runtime: name of the runtime.
    :param subject: id, name or image reference of what it was about.
    """

    def __init__(self, message: str, *, runtime: str = "", subject: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.runtime = runtime
        self.subject = subject


class RuntimeUnavailableError(RuntimeOperationError):
    """The engine behind the runtime is not installed, not running or refuses us. Nothing was done."""


class RuntimeLostError(RuntimeOperationError):
    """The engine went away in the middle of a call; whether the call took effect is not known.

    :param stdout: what a command had printed by then.
    :param stderr: the same for its standard error.
    """

    def __init__(
        self,
        message: str,
        *,
        runtime: str = "",
        subject: str = "",
        stdout: bytes = b"",
        stderr: bytes = b"",
        hint: str = "",
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.stdout = stdout
        self.stderr = stderr


class OperationTimeoutError(RuntimeOperationError):
    """An engine call did not end within its deadline.

    :param operation: the call, as the hook is named.
    :param timeout: the deadline in seconds.
    """

    def __init__(
        self,
        message: str,
        *,
        operation: str = "",
        timeout: float = 0.0,
        runtime: str = "",
        subject: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.operation = operation
        self.timeout = timeout


class OperationCancelledError(RuntimeOperationError):
    """The caller cancelled.

    A cancelled pull is an `ImagePullError` with reason ``cancelled``; a cancelled exec is a result.
    """


class UnsupportedError(RuntimeOperationError):
    """The runtime does not declare what was required of it. Nothing was done.

    :param capability: value of the missing `Capability`, or the name of the missing hook.
    """

    def __init__(
        self, message: str, *, capability: str = "", runtime: str = "", subject: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.capability = capability


class ContainerNotFoundError(RuntimeOperationError):
    """There is no container with this id or name."""


class ContainerNotRunningError(RuntimeOperationError):
    """The container exists, and what was asked needs it to be running."""


class StartFailedError(RuntimeOperationError):
    """The container's process could not be started or was gone at once.

    :param exit_code: of the process, where it ran at all.
    :param output: the last it printed, at most 4 KiB.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code: int | None = None,
        output: bytes = b"",
        runtime: str = "",
        subject: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.exit_code = exit_code
        self.output = output


class CommandNotFoundError(RuntimeOperationError):
    """The command of an exec could not be run: absent, not executable, no such user or working directory.

    :param exit_code: 127 for a command that is absent, 126 for everything else, as POSIX shells report it.
    """

    def __init__(
        self, message: str, *, exit_code: int = 127, runtime: str = "", subject: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.exit_code = exit_code


class NameConflictError(RuntimeOperationError):
    """Another container has this name; it was not touched."""


class InUseError(RuntimeOperationError):
    """A running container or an image that a container was made from was to be removed without force."""


class ImageNotFoundError(RuntimeOperationError):
    """The image is not present locally (and nothing was pulled)."""


class ImagePullError(RuntimeOperationError):
    """An image could not be pulled. What was present before still is.

    :param reason: the class of failure.
    :param retryable: True if the same call may succeed a little later.
    :param retry_after: seconds the registry asked to wait, where it did.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: PullFailure = "other",
        retryable: bool = False,
        retry_after: float | None = None,
        runtime: str = "",
        subject: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.reason: PullFailure = reason
        self.retryable = retryable
        self.retry_after = retry_after


class ImageBuildError(RuntimeOperationError):
    """An image could not be built.

    :param output: the last the build printed, at most 16 KiB.
    """

    def __init__(self, message: str, *, output: str = "", runtime: str = "", subject: str = "", hint: str = "") -> None:
        super().__init__(message, runtime=runtime, subject=subject, hint=hint)
        self.output = output


class ServiceError(OublietteError):
    """A request that Oubliette's own records or rules refuse.

    :param subject: id or name of what it was about.
    """

    def __init__(self, message: str, *, subject: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.subject = subject


class UnknownContainerTypeError(ServiceError):
    """The container type is not in the configuration.

    :param valid_types: the types that are, in the order of the configuration.
    """

    def __init__(self, message: str, *, subject: str = "", valid_types: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.valid_types = tuple(valid_types)


class ProjectNotFoundError(ServiceError):
    """There is no project with this id, unique prefix or name."""


class SessionNotFoundError(ServiceError):
    """There is no agent session with this id."""


class AgentError(ServiceError):
    """An agent could not be started, ended in the middle of its work, or does not speak the protocol as it should.

    :param output: the last that it printed as errors.
    """

    def __init__(self, message: str, *, output: str = "", subject: str = "", hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.output = output


class TokenNotFoundError(ServiceError):
    """There is no access token with this id or name."""


class ActiveSessionsError(ServiceError):
    """The operation would end agent sessions or background commands that are at work; nothing was touched.

    :param sessions: their ids.
    """

    def __init__(self, message: str, *, subject: str = "", sessions: Sequence[str] = (), hint: str = "") -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.sessions = tuple(sessions)


class ConflictError(ServiceError):
    """The name is taken, or the request contradicts the state that things are in."""


class BusyError(ServiceError):
    """Another process holds what is needed, and did not let go of it in time."""


class StoreError(ServiceError):
    """The database is damaged, or was written by a newer version. It was left as it is."""


class AccessDeniedError(ServiceError):
    """The token does not allow this."""
