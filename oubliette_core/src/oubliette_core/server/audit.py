"""The audit log: who changed what, and what came of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from oubliette_core.server.callers import Caller

AUDIT_LOGGER = "oubliette.audit"


class Audit:
    """Writes one record for each call that changes something or was to: refused and failed ones too.

    It holds no secrets, because tools name the arguments that may stand in it.
    """

    def __init__(self) -> None:
        self._log = logging.getLogger(AUDIT_LOGGER)

    def record(
        self,
        *,
        caller: Caller,
        tool: str,
        arguments: Mapping[str, Any],
        subject: str,
        outcome: str,
        reason: str,
        seconds: float,
    ) -> None:
        """Write a record. :param subject: id of what it was about. :param reason: type of the error."""
        fields = {
            "caller": caller.token.id,
            "caller_name": caller.token.name,
            "tool": tool,
            "subject": subject[:100],
            "arguments": dict(arguments),
            "outcome": outcome,
            "reason": reason,
            "seconds": round(seconds, 3),
        }
        self._log.info("%s %s", tool, outcome, extra={"fields": fields})
