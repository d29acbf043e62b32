"""A witness between the kit and the runtime: every call ends in time, and raises errors of Oubliette only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from oubliette_core.errors import OublietteError
from oubliette_core.models import ExecSpec
from oubliette_core.runtime import DEFAULT_GRACE, Runtime
from oubliette_core.testing.kit.calls import CallerError, NeverEndedError, bounded

__all__ = ["ForeignErrorEscapedError", "witnessed"]

_DEADLINE = 30.0
"""Seconds that a call to an engine may take by the contract."""
_MARGIN = 10.0
_SILENCE = 120.0
"""Seconds after which a pull without any event fails by the contract."""


class ForeignErrorEscapedError(AssertionError):
    """A call raised something that is no error of Oubliette."""


def _ordinary(_arguments: dict[str, Any], _positional: tuple[Any, ...]) -> float:
    return _DEADLINE


def _pull(arguments: dict[str, Any], _positional: tuple[Any, ...]) -> float:
    return arguments.get("timeout") or _SILENCE


def _stop(arguments: dict[str, Any], _positional: tuple[Any, ...]) -> float:
    return _DEADLINE + float(arguments.get("grace", DEFAULT_GRACE))


def _exec(arguments: dict[str, Any], positional: tuple[Any, ...]) -> float:
    spec = arguments.get("spec") or positional[1]
    # The kit's own commands without a deadline are done within the ordinary time.
    return (spec.timeout or _DEADLINE) if isinstance(spec, ExecSpec) else _DEADLINE


def _archive(_arguments: dict[str, Any], _positional: tuple[Any, ...]) -> float:
    return _SILENCE


_LIMITS: dict[str, Callable[[dict[str, Any], tuple[Any, ...]], float]] = {
    **dict.fromkeys(("probe", "capabilities", "close", "exists", "inspect_image", "remove_image"), _ordinary),
    **dict.fromkeys(("create", "start", "remove", "inspect", "list_containers", "logs"), _ordinary),
    **dict.fromkeys(("open_exec", "copy_in", "copy_out"), _ordinary),
    **dict.fromkeys(("build", "load_images", "save_images"), _archive),
    "pull": _pull,
    "stop": _stop,
    "exec": _exec,
}


class _Witness:
    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._runtime, name)
        return self._watched(name, value) if name in _LIMITS else value

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*positional: Any, **arguments: Any) -> Any:
            limit = _LIMITS[name](arguments, positional) + _MARGIN
            try:
                return bounded(lambda: method(*positional, **arguments), limit, name)
            except (OublietteError, CallerError, NeverEndedError):
                raise
            except Exception as error:
                kind = f"{type(error).__module__}.{type(error).__qualname__}"
                raise ForeignErrorEscapedError(f"{name} raised {kind}: {error}") from error

        return call


def witnessed(runtime: Runtime) -> Runtime:
    """Put a witness in front of a runtime; it has the same methods and attributes.

    Its calls raise, besides the runtime's own errors, `NeverEndedError` and `ForeignErrorEscapedError`.
    """
    return cast("Runtime", _Witness(runtime))
