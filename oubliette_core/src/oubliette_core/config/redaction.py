"""Taking secrets out of texts that are written down."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from oubliette_core.config.secret import MASK, Secret
from oubliette_core.errors import ConfigError

_TOKEN = re.compile(r"(oub_[a-z2-7]{12}_)[A-Za-z0-9_-]{43}")
_SHORTEST_SECRET = 6
"""A shorter one is no secret, and would be found in every other word."""


class Redactor:
    """Takes secrets out of texts: access tokens of ours, and what the configuration holds.

    :param secrets: texts that must not be written down.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({text for text in secrets if len(text) >= _SHORTEST_SECRET}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, self._secrets))) if self._secrets else None

    def __call__(self, text: str) -> str:
        """Return ``text`` with its secrets masked."""
        text = _TOKEN.sub(rf"\1{MASK}", text)
        return self._known.sub(MASK, text) if self._known else text

    def within(self, value: Any) -> Any:
        """Return what JSON can hold with the secrets in its texts masked."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self(str(key)): self.within(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.within(inner) for inner in value]
        return value

    def unfinished(self, text: str) -> int:
        """Return how many characters at the end of ``text`` could be the beginning of a secret that goes on."""
        longest = max(map(len, self._secrets), default=0)
        for size in range(min(len(text), longest - 1), 0, -1):
            end = text[-size:]
            if any(secret.startswith(end) for secret in self._secrets):
                return size
        return 0


def secrets_of(value: object) -> Iterator[str]:
    """Yield the text of each secret in a configuration; one that comes from a variable that is not set has none."""
    if isinstance(value, Secret):
        with contextlib.suppress(ConfigError):
            yield value.reveal()
    elif attrs.has(kind := type(value)):
        for field in attrs.fields(kind):
            yield from secrets_of(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from secrets_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from secrets_of(inner)
