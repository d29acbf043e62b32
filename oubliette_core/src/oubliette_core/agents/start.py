"""Starting an agent in a project's container."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import attrs

from oubliette_core.agents.starter import Starter
from oubliette_core.config.redaction import Redactor
from oubliette_core.errors import ContainerNotFoundError, OublietteError
from oubliette_core.models import ExecSpec
from oubliette_core.services.inside import WORKSPACE
from oubliette_core.services.reaping import process_note

if TYPE_CHECKING:
    from collections.abc import Callable

    from oubliette_core.agents.launch import Launch
    from oubliette_core.agents.live import LiveSession
    from oubliette_core.agents.loop import LoopThread
    from oubliette_core.agents.recorder import Recorder
    from oubliette_core.app import App
    from oubliette_core.models import Cancel, Process
    from oubliette_core.services.records import ProjectStatus, Session

__all__ = ["Beginning", "start"]


@attrs.frozen(kw_only=True)
class Beginning:
    """What is to be started: an agent for a session.

    :param resume: the agent's own id of the session, if it is to go on with one; otherwise empty.
    """

    session: Session
    launch: Launch
    resume: str = ""


def start(
    app: App,
    loop: LoopThread,
    recorder: Recorder,
    beginning: Beginning,
    *,
    status: ProjectStatus,
    on_over: Callable[[LiveSession], None],
    cancel: Cancel | None,
) -> LiveSession:
    """Start an agent and begin its session, or go on with it.

    What its processes are known by is in the store before it runs, so that they are found whenever this process dies.

    :param status: the project, with its container running.
    :raises AgentError: it cannot be started. Nothing of it is left then.
    """
    session, launch = beginning.session, beginning.launch
    if status.container is None:
        raise ContainerNotFoundError(f"project {status.project.name} has no container", subject=status.project.id)
    starter = Starter(command=launch.command, env=launch.env)
    process = app.containers.open_exec(status.project.id, ExecSpec(command=starter.argv, workdir=WORKSPACE))
    try:
        live = loop.call(_made(app, recorder, beginning, process, starter=starter, on_over=on_over))
    except BaseException:
        process.close()
        raise
    try:
        limit, token = loop.call(live.mark(), cancel=cancel, subject=session.id)
        app.sessions.note(session.id, process=process_note(status.container.name, limit, token))
        greeting = loop.call(live.greet(beginning.resume), cancel=cancel, subject=session.id)
        app.sessions.note(session.id, agent_session=greeting.session, resumable=greeting.loads)
    except BaseException:
        with contextlib.suppress(OublietteError):
            loop.call(live.discard())
        raise
    return live


async def _made(
    app: App,
    recorder: Recorder,
    beginning: Beginning,
    process: Process,
    *,
    starter: Starter,
    on_over: Callable[[LiveSession], None],
) -> LiveSession:
    """Make the session in the event loop in which it lives."""
    # It loads the protocol's library, which takes half a second.
    from oubliette_core.agents.live import LiveSession, Times  # noqa: PLC0415

    limits = app.loaded.config.defaults.limits
    return LiveSession(
        beginning.session,
        process,
        starter,
        beginning.launch,
        recorder=recorder,
        redact=Redactor(beginning.launch.secrets),
        times=Times(turn=limits.turn_time, idle=limits.idle_time),
        first=app.events.bounds(beginning.session.id)[1] + 1,
        on_over=on_over,
    )
