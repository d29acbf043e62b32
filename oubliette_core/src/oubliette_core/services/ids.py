"""Ids and times, as the store keeps them."""

from __future__ import annotations

import base64
import re
import secrets
from datetime import UTC, datetime

__all__ = ["from_text", "is_id", "new_id", "now", "to_text"]

_LENGTH = 12
_ID = re.compile(rf"[a-z]+_[a-z2-7]{{{_LENGTH}}}")


def new_id(kind: str) -> str:
    """Return an id that was never used before: ``kind``, ``_`` and 12 characters of lower-case base32 (60 bits)."""
    return f"{kind}_{base64.b32encode(secrets.token_bytes(10)).decode().lower()[:_LENGTH]}"


def is_id(text: str, kind: str) -> bool:
    """Tell whether ``text`` has the form of an id of this kind."""
    return text.startswith(f"{kind}_") and _ID.fullmatch(text) is not None


def now() -> datetime:
    """Return the time, aware and in UTC."""
    return datetime.now(UTC)


def to_text(time: datetime) -> str:
    """Return ``time`` as the store keeps it: all such texts have one length and sort as the times do."""
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def from_text(text: str) -> datetime:
    """Return the time that the store kept as ``text``."""
    return datetime.fromisoformat(text)
