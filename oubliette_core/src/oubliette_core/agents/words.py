"""What happens in a session, in words for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oubliette_core.services.records import EventKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from oubliette_core.services.records import Event, Question

__all__ = ["question_in_words", "usage_in_words", "words_of"]

_LONGEST = 2000


def words_of(event: Event) -> str:
    """Return an event as a text of one or more lines; empty for what only programs care about."""
    in_words = _WORDS.get(event.kind)
    return in_words(event.data) if in_words is not None else ""


def usage_in_words(usage: Mapping[str, int], *, before: str = "") -> str:
    """Return how many tokens were used; empty where that is not known."""
    named = {"input_tokens": "in", "output_tokens": "out"}
    parts = [f"{usage[name]} {word}" for name, word in named.items() if name in usage]
    return f"{before}tokens: {', '.join(parts)}" if parts else ""


def question_in_words(question: Question) -> str:
    """Return what an agent asks, with the answers that it offers."""
    options = ", ".join(f"{option.id} ({option.name})" for option in question.options)
    detail = f"\n{question.detail[:_LONGEST]}" if question.detail not in ("", question.title) else ""
    return f"{question.tool}: {question.title}{detail}\nanswers: {options}"


def _tool_call(data: Mapping[str, Any]) -> str:
    title = data.get("title") or data["id"]
    tool = f"{data['tool']}: " if data.get("tool") else ""
    return f"[{tool}{title}]" + (f" {data['status']}" if data.get("status") else "")


def _permission(data: Mapping[str, Any]) -> str:
    question = data["question"]
    title = f"{question['tool']}: {question['title']}"
    if "answer" not in data:
        return f"may it? {title}"
    if data["answer"] is None:
        return f"not answered: {title}"
    names = {option["id"]: option["name"] for option in question["options"]}
    return f"{names.get(data['answer'], data['answer'])}: {title}"


def _plan(data: Mapping[str, Any]) -> str:
    marks = {"completed": "x", "in_progress": "-"}
    return "\n".join(f"[{marks.get(each['status'], ' ')}] {each['content']}" for each in data["entries"])


def _error(data: Mapping[str, Any]) -> str:
    output = data.get("output", "")
    return f"error: {data['message']}" + (f"\n{output[-_LONGEST:]}" if output else "")


def _completion(data: Mapping[str, Any]) -> str:
    detail = f": {data['detail']}" if data.get("detail") else ""
    return f"({data['stop_reason']}{detail}{usage_in_words(data.get('usage', {}), before='; ')})"


_WORDS: Mapping[EventKind, Callable[[Mapping[str, Any]], str]] = {
    EventKind.PROMPT: lambda data: f"> {data['text']}",
    EventKind.MESSAGE: lambda data: str(data["text"]),
    EventKind.THOUGHT: lambda data: f"({data['text'].strip()})",
    EventKind.TOOL_CALL: _tool_call,
    EventKind.TOOL_CALL_UPDATE: _tool_call,
    EventKind.PLAN: _plan,
    EventKind.PERMISSION: _permission,
    EventKind.COMPLETION: _completion,
    EventKind.ERROR: _error,
}
