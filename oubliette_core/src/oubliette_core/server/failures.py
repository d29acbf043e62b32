"""What a client is told when a call fails."""

from __future__ import annotations

import re
from typing import Any

from mcp_types import CallToolResult, TextContent
from pydantic import BaseModel, ValidationError

from oubliette_core.errors import (
    ActiveSessionsError,
    AgentError,
    ConfigError,
    ImageBuildError,
    ImagePullError,
    InvalidValueError,
    OublietteError,
    StartFailedError,
)

DETAILS = "dev.oubliette/error"
"""Key below ``_meta`` of a failed result, for programs."""
_COMMAND = re.compile(r"\boubliette (project|container|session|token) ([a-z]+)\b")
_OUTPUT_END = 2000
_DATA = ("subject", "sessions", "valid_types", "reason", "retryable", "retry_after", "exit_code", "capability")


def failed(error: OublietteError) -> CallToolResult:
    """Return an error as a result: message, details and hint as text, and what programs need beside it."""
    lines = [error.message]
    if isinstance(error, ConfigError):
        lines += error.problems
    if isinstance(error, ImagePullError) and error.retry_after:
        lines.append(f"The registry asks to wait {error.retry_after:.0f} s.")
    output = error.output if isinstance(error, StartFailedError | ImageBuildError | AgentError) else ""
    if output:
        text = output.decode(errors="replace") if isinstance(output, bytes) else output
        lines.append(f"Its last output:\n{text[-_OUTPUT_END:]}")
    hint = _hint(error)
    if hint:
        lines.append(f"Hint: {hint}")
    details: dict[str, Any] = {"type": type(error).__name__, "message": error.message, "hint": hint}
    for name in _DATA:
        value = getattr(error, name, None)
        if value not in (None, "", ()):
            details[name] = list(value) if isinstance(value, tuple) else value
    return _result("\n".join(lines), details)


def _hint(error: OublietteError) -> str:
    """Return an error's hint. Ours name commands; whoever reads this has tools."""
    if isinstance(error, ActiveSessionsError):
        tools = {"exec_cancel" if each.startswith("exec_") else "session_end" for each in error.sessions}
        return f"End them first: {', '.join(sorted(tools))}"
    return _COMMAND.sub(r"\1_\2", error.hint)


def masked(tool: str) -> CallToolResult:
    """Return what a client sees of a bug: nothing."""
    text = f"{tool} failed by an internal error; the server's log has the details"
    return _result(text, {"type": "InternalError", "message": text, "hint": ""})


def wrong_arguments(error: ValidationError, model: type[BaseModel]) -> InvalidValueError:
    """Return what is wrong with arguments, without repeating a value: it may be a secret."""
    problems = []
    for each in error.errors(include_url=False, include_context=False, include_input=False):
        path = ".".join(map(str, each["loc"])) or "arguments"
        reason = "unknown argument" if each["type"] == "extra_forbidden" else each["msg"]
        problems.append(f"{path[:100]}: {reason}")
    shown = "; ".join(problems[:10]) + (f"; and {len(problems) - 10} more" if len(problems) > 10 else "")
    known = ", ".join(model.model_fields) or "none"
    return InvalidValueError(f"wrong arguments: {shown}", hint=f"Its arguments: {known}")


def _result(text: str, details: dict[str, Any]) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True, _meta={DETAILS: details})
