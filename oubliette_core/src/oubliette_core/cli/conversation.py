"""A conversation with an agent as it is shown: what it says as it comes, what it does in between, what it asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from oubliette_core.agents.words import question_in_words, words_of
from oubliette_core.cli.output import Output
from oubliette_core.cli.text import printable
from oubliette_core.services.records import Event, EventKind, Question

if TYPE_CHECKING:
    from rich.console import Console

_STYLES: Mapping[EventKind, str] = {
    EventKind.THOUGHT: "dim italic",
    EventKind.TOOL_CALL: "cyan",
    EventKind.TOOL_CALL_UPDATE: "dim cyan",
    EventKind.PLAN: "blue",
    EventKind.PERMISSION: "yellow",
    EventKind.COMPLETION: "dim",
    EventKind.ERROR: "bold red",
}
_QUIET = frozenset({EventKind.PROMPT, EventKind.USAGE})


class Conversation:
    """Shows events: what an agent says on standard output, everything else on standard error.

    On a terminal both are one, and styles tell them apart; elsewhere all is plain.

    :param with_prompts: show what the agent was told, too.
    """

    def __init__(self, output: Output, *, with_prompts: bool = False) -> None:
        self._output = output
        self._quiet = frozenset({EventKind.USAGE}) if with_prompts else _QUIET
        self._console = _console(output)
        self._titles: dict[str, str] = {}
        self._in_line = False

    def show(self, event: Event) -> None:
        """Show an event."""
        if event.kind is EventKind.MESSAGE:
            text = str(event.data["text"])
            self._output.stream(text)
            self._in_line = not text.endswith("\n")
            return
        if event.kind in self._quiet or self._is_repetition(event):
            return
        words = words_of(self._with_title(event))
        if words:
            self.end_line()
            self._tell(words, _STYLES.get(event.kind, ""))

    def end_line(self) -> None:
        """Begin a new line, if the agent's last word did not end one."""
        if self._in_line:
            self._output.stream("\n")
            self._in_line = False

    def ask(self, question: Question) -> str | None:
        """Ask the user for one of a question's answers; None when there is nobody to ask, or no answer."""
        if not self._output.stdin.isatty():
            return None
        self.end_line()
        self._tell(question_in_words(question), "yellow")
        options = {option.id: option.id for option in question.options}
        options |= {str(number): option.id for number, option in enumerate(question.options, 1)}
        numbered = ", ".join(f"{number} {printable(option.name)}" for number, option in enumerate(question.options, 1))
        while (answer := self._output.ask(f"{numbered}: ")) is not None:
            if answer.strip() in options:
                return options[answer.strip()]
        return None

    def _tell(self, words: str, style: str) -> None:
        lines = [printable(line.expandtabs(4)) for line in words.splitlines()]
        if self._console is None:
            for line in lines:
                self._output.note(line)
            return
        from rich.text import Text  # noqa: PLC0415 - Rich is heavy, and only a terminal needs it

        for line in lines:
            self._console.print(Text(line, style=style), highlight=False, soft_wrap=True)

    def _with_title(self, event: Event) -> Event:
        """Return an update of a tool's call with what the call was named: updates need not repeat it."""
        if event.kind not in (EventKind.TOOL_CALL, EventKind.TOOL_CALL_UPDATE):
            return event
        data: dict[str, Any] = dict(event.data)
        title = self._titles.setdefault(data["id"], data.get("title") or data["id"])
        return Event(
            session_id=event.session_id,
            number=event.number,
            kind=event.kind,
            created_at=event.created_at,
            data={**data, "title": data.get("title") or title},
        )

    @staticmethod
    def _is_repetition(event: Event) -> bool:
        """Tell whether a tool's call goes on as it did: only its beginning and end are news."""
        return event.kind is EventKind.TOOL_CALL_UPDATE and event.data.get("status") not in ("completed", "failed")


def _console(output: Output) -> Console | None:
    if not output.live or not output.stdout.isatty():
        return None
    from rich.console import Console  # noqa: PLC0415 - as above

    return Console(file=output.stderr, highlight=False)
