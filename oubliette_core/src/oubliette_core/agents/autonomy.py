"""What an agent may do without asking."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oubliette_core.services.records import Question

__all__ = ["answer_for"]

_LOOK = frozenset({"read", "search", "think"})
_CHANGE = frozenset({"edit", "move", "delete"})
_ALLOWED: dict[str, frozenset[str] | None] = {"off": frozenset(), "low": _LOOK, "medium": _LOOK | _CHANGE, "high": None}
"""Kinds of tools, as the protocol names them; None for all, commands and the network among them."""


def answer_for(autonomy: str, question: Question) -> str | None:
    """Return the id of the option that the user's choice of autonomy means, or None: somebody has to be asked.

    What is allowed is allowed this once, where there is the choice: an agent would keep "always" beyond the session.
    """
    allowed = _ALLOWED[autonomy]
    if allowed is not None and question.tool not in allowed:
        return None
    options = {option.kind: option.id for option in reversed(question.options)}
    return options.get("allow_once", options.get("allow_always"))
