"""``oubliette session``: give agents work, and follow it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from oubliette_core.cli.apps import JsonOption, new_group
from oubliette_core.cli.boundary import FAILED, INTERRUPTED
from oubliette_core.cli.completion import AutonomyOption, ProjectArgument, SessionArgument
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.cli.views import event_object, session_object, turn_object
from oubliette_core.errors import InvalidValueError, SessionNotFoundError
from oubliette_core.services.ids import is_id
from oubliette_core.services.records import Session, SessionKind

if TYPE_CHECKING:
    from oubliette_core.agents import AgentHost, Turn
    from oubliette_core.app import App
    from oubliette_core.cli.conversation import Conversation

app = new_group()

AgentOption = Annotated[str | None, typer.Option("--agent", metavar="A", help="Which agent; otherwise the default.")]
ModelOption = Annotated[str | None, typer.Option("--model", metavar="M", help="Which model; otherwise the default.")]
NewOption = Annotated[bool, typer.Option("--new", help="Begin a new session.")]
_POLL = 3600.0


@attrs.frozen(kw_only=True)
class Choice:
    """Which agent is wanted; None for the default."""

    agent: str | None = None
    model: str | None = None
    autonomy: str | None = None


@app.command("list")
def list_sessions(
    context: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[P]", help="Only those of this project.")] = None,
    everything: Annotated[bool, typer.Option("--all", "-a", help="Those that are over, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List the agent sessions that are at work."""
    invocation = current(context)
    with invocation.app() as opened:
        projects = {one.id: one.name for one in opened.projects.list()}
        project_id = None if project is None else opened.projects.get(project).id
        found = [one for one in opened.sessions.list(project_id) if one.kind is SessionKind.AGENT]
    shown = [one for one in found if everything or not one.over]
    if as_json:
        invocation.output.json([session_object(one) for one in shown])
    elif shown:
        rows = [
            (one.id, projects.get(one.project_id), one.agent, one.state.value, one.created_at, one.detail)
            for one in shown
        ]
        invocation.output.table(("SESSION", "PROJECT", "AGENT", "STATE", "BEGUN", "DETAIL"), rows)
    else:
        others = f" ({len(found)} over: --all shows them)" if found else ""
        invocation.output.note(f"No agent sessions are at work{others}.")


@app.command()
def show(context: typer.Context, session: SessionArgument, as_json: JsonOption = False) -> None:
    """Show an agent session."""
    invocation = current(context)
    with invocation.app() as opened:
        found = find_session(opened, session)
        first, last = opened.events.bounds(found.id)
    if as_json:
        invocation.output.json(session_object(found) | {"first_event": first, "last_event": last})
        return
    fields: list[tuple[str, object]] = [
        ("session", found.id),
        ("project", found.project_id),
        ("agent", found.agent or found.title),
        ("model", found.model),
        ("autonomy", found.autonomy),
        ("state", found.state.value),
        ("detail", found.detail),
        ("can go on", found.resumable if found.over else ""),
        ("begun", found.created_at),
        ("changed", found.updated_at),
        ("events", f"{first} to {last}" if last else ""),
    ]
    asked = [("asks", f"{one.tool}: {one.title}") for one in found.questions]
    invocation.output.fields([*fields, *asked])


@app.command()
def events(
    context: typer.Context,
    session: SessionArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the session is over.")] = False,
    after: Annotated[int, typer.Option("--after", metavar="N", min=0, help="Only those after event N.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Print what happened in a session."""
    invocation = current(context)
    from oubliette_core.agents import AgentHost  # noqa: PLC0415 - not for every command of the group
    from oubliette_core.cli.conversation import Conversation  # noqa: PLC0415

    with (
        invocation.app() as opened,
        AgentHost(opened) as host,
        invocation.interrupts.cancellable() as cancel,
    ):
        conversation = Conversation(invocation.output, with_prompts=True)
        found = find_session(opened, session)
        while True:
            news = host.events(found.id, after, wait=_POLL if follow else 0.0, cancel=cancel)
            for event in news:
                after = event.number
                if as_json:
                    invocation.output.record(event_object(event))
                else:
                    conversation.show(event)
            if not news and (not follow or cancel.cancelled or opened.sessions.get(found.id).over):
                break
        conversation.end_line()


@app.command()
def message(
    context: typer.Context,
    *,
    project: ProjectArgument,
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What it is to do; - reads standard input.")],
    session: Annotated[
        str | None, typer.Option("--session", metavar="S", help="Which session; otherwise the project's.")
    ] = None,
    agent: AgentOption = None,
    model: ModelOption = None,
    autonomy: AutonomyOption = None,
    new: NewOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give an agent in a project's container work, and show what it does until it is done.

    If no server drives the session, this command does, and the agent ends with it; the next message goes on with the
    session where the agent can do that. What the agent asks is asked on the terminal. Ctrl-C stops its work.
    """
    invocation = current(context)
    words = invocation.output.stdin.read() if text == ["-"] else " ".join(text)
    if not words.strip():
        raise InvalidValueError("there is no message", hint="Write it behind the project, or pipe it in and write -.")
    with agents(invocation) as (opened, host):
        choice = Choice(agent=agent, model=model, autonomy=autonomy)
        found = spawned(invocation, opened, host, project, choice, session=session, new=new)
        turn = work(invocation, host, found, words, quiet=as_json)
    if as_json:
        invocation.output.json(turn_object(turn))
    if turn.stop_reason == "cancelled":
        raise typer.Exit(INTERRUPTED)
    if turn.stop_reason == "failed":
        invocation.output.error(turn.detail or "the agent failed")
    if turn.stop_reason != "end_turn":
        raise typer.Exit(FAILED)


@app.command()
def end(
    context: typer.Context,
    sessions: Annotated[list[str], typer.Argument(metavar="S...", help="Sessions, by id.")],
    as_json: JsonOption = False,
) -> None:
    """End sessions for good, with their agents and everything these started. Their files stay."""
    invocation = current(context)
    from oubliette_core.agents import AgentHost  # noqa: PLC0415 - not for every command of the group

    with invocation.app() as opened, AgentHost(opened) as host:
        ended = [host.end(find_session(opened, session)) for session in dict.fromkeys(sessions)]
    if as_json:
        invocation.output.json([session_object(one) for one in ended])
        return
    for one in ended:
        invocation.output.line(f"Session {one.id} is over" + (f": {one.detail}" if one.detail else ""))


# -- Shared with `oubliette chat` ---------------------------------------------------------------------------------


def find_session(opened: App, reference: str) -> Session:
    """Find a session by its id, or the latest of a project. :raises SessionNotFoundError: there is none."""
    if is_id(reference, "ses") or is_id(reference, "exec"):
        return opened.sessions.get(reference)
    project = opened.projects.get(reference)
    found = next((one for one in opened.sessions.list(project.id) if one.kind is SessionKind.AGENT), None)
    if found is None:
        raise SessionNotFoundError(
            f"project {project.name} has no agent session",
            subject=project.id,
            hint=f"Begin one: oubliette session message {project.name} TEXT",
        )
    return found


@contextmanager
def agents(invocation: Invocation) -> Iterator[tuple[App, AgentHost]]:
    """Open the home with what drives agents; what it logs goes to the server's log."""
    from oubliette_core.agents import AgentHost  # noqa: PLC0415 - not for every command of the group
    from oubliette_core.server.logs import logging_to  # noqa: PLC0415

    with (
        invocation.app() as opened,
        logging_to(opened.home, opened.loaded.config),
        AgentHost(opened) as host,
    ):
        yield opened, host


def spawned(
    invocation: Invocation,
    opened: App,
    host: AgentHost,
    project: str,
    choice: Choice,
    *,
    session: str | None = None,
    new: bool = False,
) -> Session:
    """Return the session to talk to, at work; pulls are shown."""
    from oubliette_core.cli.image import image_names  # noqa: PLC0415 - not for what only looks
    from oubliette_core.cli.progress import pull_display  # noqa: PLC0415

    with (
        invocation.interrupts.cancellable() as cancel,
        pull_display(invocation.output, invocation.interrupts, image_names(opened.images)) as progress,
    ):
        found = opened.projects.get(project)
        if session is not None:
            return host.resume(found, opened.sessions.get(session), progress=progress, cancel=cancel)
        return host.spawn(
            found,
            agent=choice.agent,
            model=choice.model,
            autonomy=choice.autonomy,
            new_session=new,
            progress=progress,
            cancel=cancel,
        )


def work(invocation: Invocation, host: AgentHost, session: Session, text: str, *, quiet: bool = False) -> Turn:
    """Have a message worked on, showing what happens and asking what is asked, until it is done.

    Ctrl-C stops the work on it, not the command.
    """
    from oubliette_core.cli.conversation import Conversation  # noqa: PLC0415 - not for every command of the group

    conversation = Conversation(invocation.output)
    watch: Any = None if quiet else conversation.show
    with invocation.interrupts.absorbing(lambda: _stop(host, session)):
        number = host.message(session, text)
        turn = host.follow(session.id, number, wait=_POLL, watch=watch)
        while not turn.over:
            _answer(invocation, host, turn, conversation)
            turn = host.follow(session.id, number, after=turn.last, wait=_POLL, watch=watch)
    conversation.end_line()
    return turn


def _answer(invocation: Invocation, host: AgentHost, turn: Turn, conversation: Conversation) -> None:
    """Answer what the agent asks; where nobody can be asked, its work ends there."""
    for question in turn.session.questions:
        option = conversation.ask(question)
        if option is None:
            invocation.output.warning(
                f"nobody answers what the agent asks ({question.tool}: {question.title}): its work is stopped",
                "Allow more in advance: --autonomy high",
            )
            host.cancel(turn.session)
            return
        host.answer(turn.session, question.id, option)


def _stop(host: AgentHost, session: Session) -> None:
    host.cancel(session)
