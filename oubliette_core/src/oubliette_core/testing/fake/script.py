"""The parts of a script of the fake container's shell, as `oubliette_core.testing.fake.syntax` finds them."""

from __future__ import annotations

import attrs

__all__ = [
    "AndOr",
    "Arithmetic",
    "Case",
    "Command",
    "For",
    "Function",
    "Group",
    "If",
    "Literally",
    "Loop",
    "Parameter",
    "Part",
    "Pipeline",
    "Redirect",
    "Redirected",
    "Script",
    "Simple",
    "Substitution",
    "Word",
]


@attrs.frozen
class Literally:
    """Text as it stands; ``quoted`` text is neither split nor a pattern."""

    text: str
    quoted: bool = False


@attrs.frozen
class Parameter:
    """``$name`` and ``${name...}``."""

    name: str
    operator: str = ""
    word: Word | None = None
    length: bool = False
    quoted: bool = False


@attrs.frozen
class Substitution:
    """``$(...)`` and backquotes."""

    script: Script
    quoted: bool = False


@attrs.frozen
class Arithmetic:
    """``$((...))``."""

    word: Word
    quoted: bool = False


Part = Literally | Parameter | Substitution | Arithmetic


@attrs.frozen
class Word:
    """What becomes one or more arguments."""

    parts: tuple[Part, ...]

    @property
    def plain(self) -> str | None:
        """The text of a word without quotes and expansions, else None."""
        if len(self.parts) == 1 and isinstance(self.parts[0], Literally) and not self.parts[0].quoted:
            return self.parts[0].text
        return None


@attrs.frozen
class Redirect:
    """``2>file`` and the like; ``here`` is the text of a here-document."""

    number: int
    operator: str
    target: Word


@attrs.frozen
class Simple:
    """A simple command."""

    assignments: tuple[tuple[str, Word], ...]
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...]


@attrs.frozen
class Pipeline:
    """Commands joined by pipes."""

    commands: tuple[Command, ...]
    negated: bool


@attrs.frozen
class AndOr:
    """Pipelines joined by ``&&`` and ``||``."""

    first: Pipeline
    rest: tuple[tuple[str, Pipeline], ...]


@attrs.frozen
class Script:
    """And-or lists, each with whether it runs in the background."""

    items: tuple[tuple[AndOr, bool], ...]


@attrs.frozen
class If:
    """``if``: conditions with their bodies, and ``else``."""

    branches: tuple[tuple[Script, Script], ...]
    otherwise: Script | None


@attrs.frozen
class Loop:
    """``while`` and ``until``."""

    condition: Script
    body: Script
    until: bool


@attrs.frozen
class For:
    """``for``; without words it goes over the positional parameters."""

    name: str
    words: tuple[Word, ...] | None
    body: Script


@attrs.frozen
class Case:
    """``case``."""

    word: Word
    branches: tuple[tuple[tuple[Word, ...], Script], ...]


@attrs.frozen
class Group:
    """``{ ...; }``, or ``( ... )`` in a process of its own."""

    body: Script
    subshell: bool


@attrs.frozen
class Function:
    """A function's definition."""

    name: str
    body: Command


@attrs.frozen
class Redirected:
    """A compound command with redirections."""

    command: Command
    redirects: tuple[Redirect, ...]


Command = Simple | If | Loop | For | Case | Group | Function | Redirected
