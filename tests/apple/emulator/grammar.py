"""How arguments are read: the grammar of Swift's ArgumentParser, as the command uses it."""

from typing import NamedTuple

from tests.apple.emulator.failures import UsageError
from tests.apple.emulator.options import Command, Option
from tests.apple.emulator.profiles import Profile


class HelpRequest(Exception):  # noqa: N818 - asking for help is no error
    """`--help` stands where options are read."""


class Parsed(NamedTuple):
    """The arguments of one call: values by the option's long name, lists for options that repeat, and positionals."""

    options: dict[str, str | list[str] | bool]
    words: list[str]

    def text(self, name: str) -> str | None:
        """The value of an option; None without it."""
        value = self.options.get(name)
        return value if isinstance(value, str) else None

    def number(self, name: str) -> int | None:
        """The value of an option that is a number."""
        value = self.text(name)
        return None if value is None else int(value)

    def many(self, name: str) -> list[str]:
        """The values of an option that repeats."""
        value = self.options.get(name)
        return value if isinstance(value, list) else []

    def flag(self, name: str) -> bool:
        """Whether a flag is set."""
        return bool(self.options.get(name))


class _Reader:
    def __init__(self, command: Command, arguments: list[str], profile: Profile) -> None:
        self._command = command
        self._rest = list(arguments)
        self._names = {
            name: option
            for option in (*command.options, Option(("--debug",)))
            if option.since <= profile.version < option.until
            for name in option.names
        }
        self._parsed = Parsed({}, [])

    def read(self) -> Parsed:
        while self._rest:
            word = self._rest.pop(0)
            if word == "--" and not self._command.verbatim:
                self._parsed.words.extend(self._rest)
                break
            if word.startswith("-") and word != "-":
                self._option(word)
            elif self._command.verbatim:
                self._parsed.words.extend([word, *self._rest])
                break
            else:
                self._parsed.words.append(word)
        return self._checked()

    def _option(self, word: str) -> None:
        if word in ("--help", "-h"):
            raise HelpRequest
        name, equals, value = word.partition("=")
        if not word.startswith("--") and not equals and len(word) > 2:
            self._cluster(word)
            return
        option = self._find(name)
        if option.value:
            self._store(option, name, value if equals else self._separate(name))
        elif equals:
            raise self._error(f"The value '{value}' provided for '{name}' is not expected.")
        else:
            self._parsed.options[option.key] = True

    def _cluster(self, word: str) -> None:
        for position, letter in enumerate(word[1:], 1):
            option = self._find(f"-{letter}", word)
            if not option.value:
                self._parsed.options[option.key] = True
            elif position == len(word) - 1:
                self._store(option, f"-{letter}", self._separate(f"-{letter}"))
            else:
                raise self._error(f"Unknown option '{word}'")

    def _find(self, name: str, whole: str = "") -> Option:
        if name not in self._names:
            raise self._error(f"Unknown option '{whole or name}'")
        return self._names[name]

    def _separate(self, name: str) -> str:
        if not self._rest or self._rest[0].startswith("-"):
            raise self._error(f"Missing value for '{name} <{self._names[name].key}>'")
        return self._rest.pop(0)

    def _store(self, option: Option, name: str, value: str) -> None:
        if option.check and not option.check(value):
            raise self._error(f"The value '{value}' is invalid for '{name} <{option.key}>'")
        if not option.many:
            self._parsed.options[option.key] = value
            return
        known = self._parsed.options.setdefault(option.key, [])
        if isinstance(known, list):
            known.append(value)

    def _checked(self) -> Parsed:
        words, command = self._parsed.words, self._command
        if len(words) < command.at_least:
            missing = (
                command.shape.split("] ", 1)[-1].split("> ")[min(len(words), command.at_least - 1)].strip("<>.[] ")
            )
            raise self._error(f"Missing expected argument '<{missing.removesuffix('> ...')}>'")
        if command.at_most is not None and len(words) > command.at_most:
            raise self._error(f"Unexpected argument '{words[command.at_most]}'")
        return self._parsed

    def _error(self, text: str) -> UsageError:
        return UsageError(text, usage(self._command))


def read(command: Command, arguments: list[str], profile: Profile) -> Parsed:
    """Read the arguments of a command. Raises `UsageError` for what it does not take."""
    return _Reader(command, arguments, profile).read()


def usage(command: Command) -> str:
    """How a command is to be called."""
    return f"{' '.join(command.words)} {command.shape}".strip()
