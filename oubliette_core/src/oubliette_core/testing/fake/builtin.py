"""The commands that act on the fake container's shell itself."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.kernel import EXIT_BY_SIGNAL, Ended
from oubliette_core.testing.fake.nodes import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.testing.fake.shell import Shell

__all__ = ["BUILTINS", "IN_PROCESS", "Jump", "Return", "signal_number"]

IN_PROCESS = frozenset({"[", "echo", "false", "kill", "printf", "pwd", "test", "true"})
"""Programs that the shell runs in its own process, as real shells have them built in."""


class Jump(Exception):  # noqa: N818 - control flow of the script, not an error
    """``break`` or ``continue`` (``again``) of so many loops."""

    def __init__(self, levels: int, *, again: bool) -> None:
        super().__init__()
        self.levels = levels
        self.again = again


class Return(Exception):  # noqa: N818 - control flow of the script, not an error
    """``return`` from a function."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code


def signal_number(text: str) -> int | None:
    """Return the number of a signal that is given by number or by name, with or without ``SIG``."""
    if text.isdigit():
        return int(text)
    number = getattr(signal, f"SIG{text.upper().removeprefix('SIG')}", None)
    return None if number is None else int(number)


def _colon(_shell: Shell, _words: list[str]) -> int:
    return 0


def _cd(shell: Shell, words: list[str]) -> int:
    target = words[0] if words else shell.get("HOME") or "/"
    if target == "-":
        target = shell.get("OLDPWD") or "."
    task = shell.task
    try:
        place = task.files.locate(target, task.who, cwd=task.cwd)
        if not task.files.allowed(place.directory, task.who, 1):
            raise fail(13, target)
    except OSError as error:
        shell.complain(f"cd: can't cd to {target}: {error.strerror}")
        return 2
    shell.set("OLDPWD", task.cwd)
    task.cwd = place.path
    shell.set("PWD", task.cwd)
    return 0


def _export(shell: Shell, words: list[str]) -> int:
    for word in words:
        name, equals, value = word.partition("=")
        if name == "-p":
            continue
        shell.exported.add(name)
        if equals:
            shell.set(name, value)
    if not words or words == ["-p"]:
        for name, value in sorted(shell.environment().items()):
            shell.task.write(f"export {name}='{value}'\n")
    return 0


def _local(shell: Shell, words: list[str]) -> int:
    for word in words:
        name, _, value = word.partition("=")
        shell.set(name, value)
    return 0


def _unset(shell: Shell, words: list[str]) -> int:
    for name in words:
        if words[0] == "-f":
            shell.functions.pop(name, None)
        else:
            shell.variables.pop(name, None)
            shell.exported.discard(name)
    return 0


def _set(shell: Shell, words: list[str]) -> int:
    for index, word in enumerate(words):
        if word == "--":
            shell.positional = words[index + 1 :]
            return 0
        if word[:1] not in ("-", "+"):
            shell.positional = words[index:]
            return 0
        if word[1:] == "o":
            continue
        if word[:1] == "-":
            shell.options |= set(word[1:])
        else:
            shell.options -= set(word[1:])
    return 0


def _shift(shell: Shell, words: list[str]) -> int:
    count = int(words[0]) if words else 1
    if count > len(shell.positional):
        return 1
    del shell.positional[:count]
    return 0


def _read(shell: Shell, words: list[str]) -> int:
    raw = "-r" in words
    names = [word for word in words if not word.startswith("-")] or ["REPLY"]
    data = shell.task.read_line()
    text = data.decode("utf-8", "surrogateescape")
    ended = text.endswith("\n")
    text = text.removesuffix("\n")
    if not raw:
        text = text.replace("\\", "")
    separator = shell.get("IFS")
    text = text if separator == "" else text.strip(separator if separator is not None else " \t\n")
    values = text.split(separator or None, len(names) - 1) if len(names) > 1 else [text]
    for index, name in enumerate(names):
        shell.set(name, values[index] if index < len(values) else "")
    return int(not ended)


def _trap(shell: Shell, words: list[str]) -> int:
    if not words:
        for name, action in shell.traps.items():
            shell.task.write(f"trap -- '{action}' {name}\n")
        return 0
    action = words[0] if len(words) > 1 else "-"
    for word in words[1:] if len(words) > 1 else words:
        if word in ("0", "EXIT"):
            _remember(shell.traps, "EXIT", action)
            continue
        number = signal_number(word)
        if number is None:
            return shell.complain(f"trap: {word}: bad trap")
        _remember(shell.traps, signal.Signals(number).name.removeprefix("SIG"), action)
        _react(shell, number, action)
    return 0


def _remember(traps: dict[str, str], name: str, action: str) -> None:
    if action == "-":
        traps.pop(name, None)
    else:
        traps[name] = action


def _react(shell: Shell, number: int, action: str) -> None:
    with shell.task.kernel.lock:
        shell.task.caught.discard(number)
        shell.task.ignored.discard(number)
        if action == "":
            shell.task.ignored.add(number)
        elif action != "-":
            shell.task.caught.add(number)


def _wait(shell: Shell, words: list[str]) -> int:
    """Wait for children; a signal with a trap ends it at once, as POSIX asks for."""
    pids = [int(word) for word in words if word.isdigit()] or list(shell.children)
    code = 0
    for pid in pids:
        child = shell.children.get(pid)
        if child is None:
            code = 127
            continue
        ended = shell.task.wait_for(child, interruptible=True)
        if ended is None:
            return EXIT_BY_SIGNAL + shell.task.pending[0]
        del shell.children[pid]
        code = ended
    return code if words else 0


def _exit(shell: Shell, words: list[str]) -> int:
    raise Ended(int(words[0]) & 0xFF if words and words[0].lstrip("-").isdigit() else shell.status)


def _return(shell: Shell, words: list[str]) -> int:
    raise Return(int(words[0]) & 0xFF if words else shell.status)


def _break(_shell: Shell, words: list[str]) -> int:
    raise Jump(int(words[0]) if words else 1, again=False)


def _continue(_shell: Shell, words: list[str]) -> int:
    raise Jump(int(words[0]) if words else 1, again=True)


def _eval(shell: Shell, words: list[str]) -> int:
    shell.status = 0
    return shell.evaluate(" ".join(words))


def _source(shell: Shell, words: list[str]) -> int:
    task = shell.task
    try:
        text = task.files.read(words[0], task.who, cwd=task.cwd).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Ended(shell.complain(f".: can't open '{words[0]}': {error.strerror}") + 1) from error
    return shell.evaluate(text)


def _command(shell: Shell, words: list[str]) -> int:
    if words[:1] not in (["-v"], ["-V"]):
        return shell.call(words, {}, functions=False) if words else 0
    for name in words[1:]:
        if name in BUILTINS or name in shell.functions or name in IN_PROCESS:
            shell.task.write(f"{name}\n")
            continue
        task = shell.task
        try:
            path = task.kernel.find(name, path=shell.get("PATH") or "", cwd=task.cwd, who=task.who)
        except OSError:
            return 127
        shell.task.write(f"{path}\n")
    return 0


def _ulimit(_shell: Shell, _words: list[str]) -> int:
    return 0


BUILTINS: dict[str, Callable[[Shell, list[str]], int]] = {
    ".": _source,
    ":": _colon,
    "break": _break,
    "cd": _cd,
    "command": _command,
    "continue": _continue,
    "eval": _eval,
    "exit": _exit,
    "export": _export,
    "local": _local,
    "read": _read,
    "readonly": _export,
    "return": _return,
    "set": _set,
    "shift": _shift,
    "trap": _trap,
    "type": lambda shell, words: _command(shell, ["-v", *words]),
    "ulimit": _ulimit,
    "umask": _colon,
    "unset": _unset,
    "wait": _wait,
}
