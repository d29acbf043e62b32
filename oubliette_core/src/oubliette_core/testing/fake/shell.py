"""The fake container's shell: runs what `oubliette_core.testing.fake.syntax` has parsed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from oubliette_core.testing.fake.builtin import BUILTINS, IN_PROCESS, Jump, Return
from oubliette_core.testing.fake.expand import ExpansionError, expand_fields, expand_pattern, expand_text, matches
from oubliette_core.testing.fake.kernel import Ended, Program, Task
from oubliette_core.testing.fake.redirect import RedirectError, redirected
from oubliette_core.testing.fake.script import (
    AndOr,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Loop,
    Pipeline,
    Redirect,
    Redirected,
    Script,
    Simple,
)
from oubliette_core.testing.fake.streams import PIPE_SIZE, FileStream, OpenFile, open_pipe
from oubliette_core.testing.fake.syntax import ShellSyntaxError, parse
from oubliette_core.testing.fake.variables import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

__all__ = ["Shell", "execute", "run_shell"]

NOT_FOUND, NOT_EXECUTABLE = 127, 126


def run_shell(task: Task) -> int:
    """The program ``sh``: ``sh [-eux] [-c script [name [argument...]] | file [argument...]]``."""
    words, flags = list(task.argv[1:]), ""
    while words and words[0][:1] == "-" and len(words[0]) > 1:
        word = words.pop(0)
        if word == "--":
            break
        flags += word[1:]
    shell = Shell(task)
    shell.options = set(flags) & set("eux")
    if "c" in flags:
        if not words:
            return task.complain("-c requires an argument") + 1
        text = words.pop(0)
        shell.name = words.pop(0) if words else task.argv[0]
    elif words and "s" not in flags:
        shell.name = words.pop(0)
        try:
            text = task.files.read(shell.name, task.who, cwd=task.cwd).decode("utf-8", "surrogateescape")
        except OSError as error:
            task.write(f"{task.argv[0]}: can't open '{shell.name}': {error.strerror}\n", 2)
            return NOT_FOUND
    else:
        return shell.interact()
    shell.positional = words
    return shell.run(text)


def execute(task: Task, argv: list[str]) -> tuple[Program, tuple[str, ...]]:
    """Find the program of a command and its real arguments.

    :raises OSError: ENOENT or EACCES.
    """
    path = task.kernel.find(argv[0], path=task.env.get("PATH", ""), cwd=task.cwd, who=task.who)
    return task.kernel.program(path, tuple(argv), cwd=task.cwd)


class Shell(Memory):
    """One shell: what it remembers, its traps and its children, acting through a process."""

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.traps: dict[str, str] = {}
        self.children: dict[int, Task] = {}
        self._tested = 0
        self._substituted = 0

    def copy(self, task: Task) -> Shell:
        """Return the shell that a subshell is: the same variables, in another process."""
        child = Shell(task)
        child.inherit(self)
        child.traps = {name: action for name, action in self.traps.items() if action == ""}
        return child

    # -- Running --------------------------------------------------------------------------------------------------

    def run(self, text: str) -> int:
        """Run a whole script; its exit code, after the trap on exit."""
        return self.finish(lambda: self.evaluate(text))

    def interact(self) -> int:
        """Run what comes in on standard input, a line (or as many as make a command) at a time."""

        def lines() -> None:
            pending = ""
            for line in iter(self._next_line, ""):
                pending += line
                try:
                    parse(pending)
                except ShellSyntaxError as error:
                    if "unexpected end" in str(error) or "unterminated" in str(error):
                        continue
                self.evaluate(pending)
                pending = ""

        return self.finish(lines)

    def _next_line(self) -> str:
        return self.task.read_line().decode("utf-8", "surrogateescape")

    def finish(self, action: Callable[[], object]) -> int:
        """Run ``action``, then what is to be done at the end of the shell."""
        try:
            action()
        except ExpansionError as error:
            self.complain(str(error))
            self.status = 2
        except Ended as end:
            self.task.check()
            self.status = end.code
        except (Jump, Return):
            pass
        action_at_exit = self.traps.pop("EXIT", "")
        if action_at_exit:
            code = self.status
            try:
                self.evaluate(action_at_exit)
            except Ended as end:
                return end.code
            return code
        return self.status

    def evaluate(self, text: str) -> int:
        """Parse and run a text in this shell."""
        try:
            script = parse(text)
        except ShellSyntaxError as error:
            self.complain(str(error))
            raise Ended(2) from error
        return self.script(script)

    def complain(self, text: str) -> int:
        """Write a message of the shell itself."""
        self.task.write(f"{self.name.rpartition('/')[2]}: {text}\n", 2)
        return 1

    def script(self, script: Script) -> int:
        """Run and-or lists one after another."""
        for item, background in script.items:
            self.handle_signals()
            if background:
                self._background(item)
            else:
                self.status = self.and_or(item)
        self.handle_signals()
        return self.status

    def handle_signals(self) -> None:
        """Run the traps of signals that have come in."""
        self.task.check()
        while self.task.pending:
            name = signal.Signals(self.task.pending.pop(0)).name.removeprefix("SIG")
            code = self.status
            self.evaluate(self.traps.get(name, ""))
            self.status = code

    def and_or(self, item: AndOr) -> int:
        """Run pipelines joined by ``&&`` and ``||``."""
        self._tested += bool(item.rest)
        code = self.pipeline(item.first)
        self._tested -= bool(item.rest)
        for index, (operator, pipeline) in enumerate(item.rest):
            if (operator == "&&") == (code == 0):
                last = index == len(item.rest) - 1
                self._tested += not last
                code = self.pipeline(pipeline)
                self._tested -= not last
        return code

    def _background(self, item: AndOr) -> None:
        child = self.fork(lambda shell: shell.and_or(item), quiet_input=True)
        self.children[child.pid] = child
        self.last_child, self.status = child.pid, 0

    def fork(
        self,
        action: Callable[[Shell], int],
        *,
        streams: Mapping[int, OpenFile] | None = None,
        quiet_input: bool = False,
    ) -> Task:
        """Run ``action`` in a subshell: a process of its own, with the variables as they are now."""
        opened = {**self.task.streams, **(streams or {})}
        if quiet_input:
            opened[0] = FileStream(self.task.files.open_node("/dev/null", "r", self.task.who), "r")
        shell = self.copy(self.task)

        def program(task: Task) -> int:
            shell.task = task
            return shell.finish(lambda: shell.take(action(shell)))

        return self.task.kernel.spawn(
            program,
            self.task.argv,
            parent=self.task,
            env=self.task.env,
            cwd=self.task.cwd,
            who=self.task.who,
            streams=opened,
        )

    def take(self, code: int) -> None:
        """Take a code for the status."""
        self.status = code

    def pipeline(self, pipeline: Pipeline) -> int:
        """Run commands joined by pipes; the code is that of the last."""
        self._tested += pipeline.negated
        commands = pipeline.commands
        code = self.command(commands[0]) if len(commands) == 1 else self._pipes(commands)
        self._tested -= pipeline.negated
        if pipeline.negated:
            return int(code == 0)
        self.status = code
        if code and "e" in self.options and not self._tested:
            raise Ended(code)
        return code

    def _pipes(self, commands: tuple[Command, ...]) -> int:
        children = []
        source: OpenFile | None = None
        for index, command in enumerate(commands):
            streams: dict[int, OpenFile] = {0: source} if source else {}
            following = None
            if index < len(commands) - 1:
                following, streams[1] = open_pipe(self.task.kernel)
            children.append(self.fork(lambda shell, command=command: shell.command(command), streams=streams))  # type: ignore[misc]
            for stream in streams.values():
                stream.close()
            source = following
        return [self._wait(child) for child in children][-1]

    def _wait(self, child: Task) -> int:
        code = self.task.wait_for(child)
        assert code is not None
        return code

    # -- Commands -------------------------------------------------------------------------------------------------

    def command(self, command: Command) -> int:  # noqa: PLR0911 - one return a kind of command
        """Run one command; its exit code."""
        match command:
            case Simple():
                return self._simple(command)
            case Redirected():
                return self._with(command.redirects, lambda: self.command(command.command))
            case Group(body=body, subshell=True):
                return self._wait(self.fork(lambda shell: shell.script(body)))
            case Group(body=body):
                return self.script(body)
            case Function():
                self.functions[command.name] = command.body
                return 0
            case If():
                return self._if(command)
            case Loop():
                return self._loop(self._while(command), command.body)
            case For():
                return self._loop(self._each(command), command.body)
            case Case():
                return self._case(command)

    def _if(self, command: If) -> int:
        for condition, body in command.branches:
            if self._test(condition):
                return self._body(body)
        return self._body(command.otherwise) if command.otherwise else 0

    def _body(self, body: Script) -> int:
        self.status = 0
        return self.script(body)

    def _test(self, condition: Script) -> bool:
        self._tested += 1
        try:
            return self.script(condition) == 0
        finally:
            self._tested -= 1

    def _while(self, command: Loop) -> Iterator[None]:
        while self._test(command.condition) != command.until:
            yield

    def _each(self, command: For) -> Iterator[None]:
        words = list(self.positional)
        if command.words is not None:
            words = [field for word in command.words for field in expand_fields(word, self)]
        for word in words:
            self.set(command.name, word)
            yield

    def _loop(self, turns: Iterator[None], body: Script) -> int:
        code = 0
        for _ in turns:
            try:
                self.handle_signals()
                code = self.script(body)
            except Jump as jump:
                if jump.levels > 1:
                    raise Jump(jump.levels - 1, again=jump.again) from None
                if not jump.again:
                    return 0
        return code

    def _case(self, command: Case) -> int:
        text = expand_text(command.word, self)
        for patterns, body in command.branches:
            if any(matches(text, expand_pattern(pattern, self)) for pattern in patterns):
                return self._body(body)
        return 0

    def _simple(self, command: Simple) -> int:
        self._substituted = 0
        words = [field for word in command.words for field in expand_fields(word, self)]
        assigned = {name: expand_text(word, self) for name, word in command.assignments}
        if "x" in self.options:
            self.task.write(f"+ {' '.join([*(f'{name}={value}' for name, value in assigned.items()), *words])}\n", 2)
        if not words:
            for name, value in assigned.items():
                self.set(name, value)
            return self._with(command.redirects, lambda: self._substituted)
        if words[0] == "exec":
            return self._exec(command, words[1:], assigned)
        return self._with(command.redirects, lambda: self.call(words, assigned))

    def call(self, words: list[str], assigned: dict[str, str], *, functions: bool = True) -> int:
        """Run a command that has been expanded."""
        builtin = BUILTINS.get(words[0])
        function = self.functions.get(words[0]) if functions else None
        if builtin is not None:
            for name, value in assigned.items():
                self.set(name, value)
            return builtin(self, words[1:])
        if function is not None:
            return self._function(function, words[1:], assigned)
        inside = self.task.kernel.programs.get(words[0]) if words[0] in IN_PROCESS else None
        if inside is not None:
            return self._inside(inside, words)
        return self._external(words, assigned)

    def _inside(self, program: Program, words: list[str]) -> int:
        """Run a small program in this process, as shells have ``echo`` built in."""
        argv, self.task.argv = self.task.argv, tuple(words)
        try:
            return program(self.task)
        except BrokenPipeError:
            return self.task.complain("write error: Broken pipe")
        finally:
            self.task.argv = argv

    def _function(self, body: Command, words: list[str], assigned: dict[str, str]) -> int:
        outer, self.positional = self.positional, words
        for name, value in assigned.items():
            self.set(name, value)
        try:
            return self.command(body)
        except Return as end:
            return end.code
        finally:
            self.positional = outer

    def _external(self, words: list[str], assigned: dict[str, str]) -> int:
        self.task.env = {**self.environment(), **assigned}
        try:
            program, argv = execute(self.task, words)
            child = self.task.kernel.spawn(
                program,
                argv,
                parent=self.task,
                env=self.task.env,
                cwd=self.task.cwd,
                who=self.task.who,
                streams=self.task.streams,
            )
        except OSError as error:
            return self._not_run(words[0], error)
        return self._wait(child)

    def _not_run(self, name: str, error: OSError) -> int:
        if isinstance(error, FileNotFoundError):
            self.complain(f"{name}: not found")
            return NOT_FOUND
        self.complain(f"{name}: {error.strerror}")
        return NOT_EXECUTABLE

    def _exec(self, command: Simple, words: list[str], assigned: dict[str, str]) -> int:
        with self._redirected(command.redirects) as streams:
            old = self.task.streams
            self.task.streams = {number: stream.share() for number, stream in streams.items()}
        for stream in old.values():
            stream.close()
        if not words:
            return 0
        self.task.env = {**self.environment(), **assigned}
        try:
            program, argv = execute(self.task, words)
        except OSError as error:
            raise Ended(self._not_run(words[0], error)) from error
        self.traps.clear()
        raise Ended(self.task.become(program, argv))

    # -- Redirections ---------------------------------------------------------------------------------------------

    def _with(self, redirects: tuple[Redirect, ...], action: Callable[[], int]) -> int:
        if not redirects:
            return action()
        try:
            with self._redirected(redirects) as streams:
                outer, self.task.streams = self.task.streams, streams
                try:
                    return action()
                finally:
                    if self.task.streams is streams:
                        self.task.streams = outer
        except RedirectError as error:
            return self.complain(str(error))

    def _redirected(self, redirects: tuple[Redirect, ...]) -> AbstractContextManager[dict[int, OpenFile]]:
        targets = [(redirect, expand_text(redirect.target, self)) for redirect in redirects]
        return redirected(self.task, [(each.number, each.operator, target) for each, target in targets])

    # -- Expansion ------------------------------------------------------------------------------------------------

    def substitute(self, script: Script) -> str:
        """Run a script in a subshell and return what it prints."""
        source, sink = open_pipe(self.task.kernel)
        child = self.fork(lambda shell: shell.script(script), streams={1: sink})
        sink.close()
        output = b"".join(iter(lambda: source.read(PIPE_SIZE, self.task), b""))
        source.close()
        self._substituted = self.status = self._wait(child)
        return output.replace(b"\0", b"").decode("utf-8", "surrogateescape")

    def entries(self, directory: str) -> list[str]:
        """List a directory for a pattern."""
        try:
            return self.task.files.locate(directory, self.task.who, cwd=self.task.cwd).directory.names()
        except OSError:
            return []
