"""``oubliette chat``: talk with an agent in a project's container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from oubliette_core.cli.apps import new_command
from oubliette_core.cli.boundary import report
from oubliette_core.cli.completion import AutonomyOption, ProjectArgument
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.cli.session import AgentOption, Choice, ModelOption, NewOption, agents, spawned, work
from oubliette_core.errors import AgentError, ConflictError

if TYPE_CHECKING:
    from oubliette_core.agents import AgentHost
    from oubliette_core.services.records import Session

app = new_command()


@app.command()
def chat(
    context: typer.Context,
    *,
    project: ProjectArgument,
    agent: AgentOption = None,
    model: ModelOption = None,
    autonomy: AutonomyOption = None,
    new: NewOption = False,
) -> None:
    """Talk with an agent in a project's container.

    Each line is a message; a line that ends with a backslash goes on in the next. Ctrl-C stops the agent's work on a
    message, Ctrl-D ends the conversation; the next one goes on with it where the agent can do that.
    """
    invocation = current(context)
    choice = Choice(agent=agent, model=model, autonomy=autonomy)
    with agents(invocation) as (opened, host):
        session = spawned(invocation, opened, host, project, choice, new=new)
        invocation.output.note(f"{session.agent} in {opened.projects.get(project).name} ({session.id}). Ctrl-D ends.")
        while (text := _line(invocation)) is not None:
            if not text.strip():
                continue
            if opened.sessions.get(session.id).over:
                session = spawned(invocation, opened, host, project, choice)
            _say(invocation, host, session, text)


def _line(invocation: Invocation) -> str | None:
    lines: list[str] = []
    while (line := invocation.output.ask("> " if not lines else ". ")) is not None:
        lines.append(line.removesuffix("\\"))
        if not line.endswith("\\"):
            return "\n".join(lines)
    return None


def _say(invocation: Invocation, host: AgentHost, session: Session, text: str) -> None:
    """Say one thing. What fails about it is no end of the conversation."""
    try:
        turn = work(invocation, host, session, text)
    except (AgentError, ConflictError) as error:
        report(error, invocation.output)
        return
    if turn.stop_reason == "failed" and turn.detail:
        invocation.output.note("The next message begins anew." if turn.session.over else "")
