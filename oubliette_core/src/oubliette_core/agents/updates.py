"""What an agent tells of its work, as events: bounded, because an agent in a sandbox may send anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from acp import schema

from oubliette_core.services.records import EventKind, Question, QuestionOption

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LONGEST_TEXT", "chunk_of", "clipped", "event_of", "question_of", "usage_of"]

LONGEST_TEXT = 32 * 1024
"""Characters of one text in an event; the middle of a longer one is left out."""
_LONGEST_NAME = 500
_MOST = 50
"""Entries of a list."""
_DEEPEST = 8


def clipped(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return a text without its middle if it is too long, saying how much is missing."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def chunk_of(update: Any) -> tuple[EventKind, str] | None:
    """Return the kind and text of an update that is a part of a message or of a thought; None for any other."""
    if isinstance(update, schema.AgentMessageChunk):
        return EventKind.MESSAGE, _text(update.content)
    if isinstance(update, schema.AgentThoughtChunk):
        return EventKind.THOUGHT, _text(update.content)
    return None


def event_of(update: Any) -> tuple[EventKind, dict[str, Any]] | None:
    """Return an update as an event; None for what is of no interest: modes, commands, names."""
    if isinstance(update, schema.ToolCallStart):
        return EventKind.TOOL_CALL, _tool_call(update)
    if isinstance(update, schema.ToolCallProgress):
        return EventKind.TOOL_CALL_UPDATE, _tool_call(update)
    if isinstance(update, schema.AgentPlanUpdate):
        entries = [
            {"content": clipped(each.content, _LONGEST_NAME), "priority": each.priority, "status": each.status}
            for each in update.entries[:_MOST]
        ]
        return EventKind.PLAN, {"entries": entries}
    if isinstance(update, schema.UsageUpdate):
        data: dict[str, Any] = {"context_used": update.used, "context_size": update.size}
        if update.cost is not None:
            data["cost"] = {"amount": update.cost.amount, "currency": clipped(update.cost.currency, 20)}
        return EventKind.USAGE, data
    return None


def usage_of(usage: schema.Usage | None) -> dict[str, int]:
    """Return what a turn used, in tokens; nothing where the agent does not say."""
    names = ("total_tokens", "input_tokens", "output_tokens", "thought_tokens", "cached_read_tokens")
    found = {name: getattr(usage, name, None) for name in names}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def question_of(number: int, tool_call: schema.ToolCallUpdate, options: Iterable[schema.PermissionOption]) -> Question:
    """Return what an agent asks. :param number: unique in the session."""
    call = _tool_call(tool_call)
    detail = call.get("input", call.get("text", ""))
    return Question(
        id=f"q{number}",
        title=call.get("title") or "an action without a name",
        tool=call.get("tool") or "other",
        detail=detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False),
        options=tuple(
            QuestionOption(
                id=clipped(each.option_id, _LONGEST_NAME), name=clipped(each.name, _LONGEST_NAME), kind=each.kind
            )
            for each in list(options)[:_MOST]
        ),
    )


def _tool_call(call: schema.ToolCallStart | schema.ToolCallProgress | schema.ToolCallUpdate) -> dict[str, Any]:
    """Return what is said of a call of a tool; what is not said is left out."""
    data: dict[str, Any] = {"id": clipped(call.tool_call_id, _LONGEST_NAME)}
    if call.title is not None:
        data["title"] = clipped(call.title, _LONGEST_NAME)
    if call.kind is not None:
        data["tool"] = call.kind
    if call.status is not None:
        data["status"] = call.status
    if call.locations:
        data["locations"] = [
            {"path": clipped(each.path, _LONGEST_NAME), "line": each.line} for each in call.locations[:_MOST]
        ]
    if call.raw_input is not None:
        data["input"] = _bounded(call.raw_input)
    if call.raw_output is not None:
        data["output"] = _bounded(call.raw_output)
    return {**data, **_content(call.content or [])}


def _content(content: list[Any]) -> dict[str, Any]:
    texts = [_text(each.content) for each in content if isinstance(each, schema.ContentToolCallContent)]
    diffs = [
        {
            "path": clipped(each.path, _LONGEST_NAME),
            "old": None if each.old_text is None else clipped(each.old_text),
            "new": clipped(each.new_text),
        }
        for each in content
        if isinstance(each, schema.FileEditToolCallContent)
    ]
    found: dict[str, Any] = {"text": clipped("\n".join(texts))} if texts else {}
    return {**found, "diffs": diffs[:5]} if diffs else found


def _text(block: Any) -> str:
    """Return a block of content as text; what is none is told by its kind."""
    if isinstance(block, schema.TextContentBlock):
        return block.text
    if isinstance(block, schema.ResourceContentBlock):
        return f"[{clipped(block.uri, _LONGEST_NAME)}]"
    if isinstance(block, schema.EmbeddedResourceContentBlock):
        resource = block.resource
        text = getattr(resource, "text", None)
        return text if isinstance(text, str) else f"[{clipped(resource.uri, _LONGEST_NAME)}]"
    return f"[{block.type}, {len(block.data)} characters]"


def _bounded(value: Any) -> Any:
    """Return what JSON can hold if it is small, otherwise as a text without its middle."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return "[cannot be shown]"
    return value if len(text) <= LONGEST_TEXT and _depth(value) <= _DEEPEST else clipped(text)


def _depth(value: Any, so_far: int = 0) -> int:
    if so_far > _DEEPEST or not isinstance(value, dict | list):
        return so_far
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(each, so_far + 1) for each in inner), default=so_far)
