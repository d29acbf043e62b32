"""`Secret`: a text that shows itself only when asked by name."""

from __future__ import annotations

from typing import NoReturn, Self

from oubliette_core.errors import ConfigError

MASK = "***"
"""What stands for a secret wherever one is printed."""


class Secret:
    """A credential from the configuration.

    Printing, formatting, logging and comparing it give nothing away, and it refuses to be pickled. Only `reveal`
    returns the text, so every place that handles one in clear can be found by searching for that name.
    """

    __slots__ = ("_text", "_unset")

    def __init__(self, text: str, *, unset: str = "") -> None:
        self._text = text
        self._unset = unset

    def reveal(self) -> str:
        """Return the text itself, to hand it to whom it is for.

        :raises ConfigError: it was to come from an environment variable that is not set. Only what needs the secret
            fails: a list of containers does not need the key of a model.
        """
        if self._unset:
            raise ConfigError(
                f"the environment variable {self._unset} is not set, and the configuration takes a secret from it",
                hint=f"Set {self._unset} where oubliette is started.",
            )
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, specification: str) -> str:
        return format(MASK, specification)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return self._text == other._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled: hand the configuration over as a file")
