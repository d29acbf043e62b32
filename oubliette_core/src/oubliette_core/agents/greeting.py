"""The first messages to an agent: who we are, and which session it is to be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import acp
import attrs
from acp import schema

from oubliette_core._version import __version__
from oubliette_core.services.inside import WORKSPACE

if TYPE_CHECKING:
    from oubliette_core.agents.launch import Launch

__all__ = ["Greeting", "greet"]


@attrs.frozen(kw_only=True)
class Greeting:
    """What an agent says of itself. :param session: its own id of the session. :param loads: it can go on with it."""

    session: str
    loads: bool


async def greet(connection: Any, launch: Launch, resume: str) -> Greeting:
    """Begin a session with an agent, or go on with one.

    It is offered no files or terminals of ours: it has its own, in the container.

    :param resume: the agent's own id of an earlier session; empty for a new one.
    :raises acp.RequestError: it refuses.
    """
    about = schema.Implementation(name="oubliette", title="Oubliette", version=__version__)
    said = await connection.initialize(
        acp.PROTOCOL_VERSION, client_capabilities=schema.ClientCapabilities(), client_info=about
    )
    loads = bool(said.agent_capabilities and said.agent_capabilities.load_session)
    if resume and not loads:
        raise acp.RequestError.internal_error({"details": "it cannot go on with an earlier session"})
    begun = await _begin(connection, launch, resume, said.auth_methods or [])
    session = resume or begun.session_id
    await _choose(connection, launch, session, (begun.config_options if begun else None) or [])
    return Greeting(session=session, loads=loads)


async def _begin(connection: Any, launch: Launch, resume: str, methods: list[Any]) -> Any:
    """Begin the session, naming a way of authentication where the agent insists on that."""
    try:
        return await _begin_once(connection, resume)
    except acp.RequestError as error:
        if error.code != acp.RequestError.auth_required().code:
            raise
        for method in methods:
            names = {each.name for each in getattr(method, "vars", None) or ()}
            if names and names <= set(launch.env):
                await connection.authenticate(method.id)
                return await _begin_once(connection, resume)
        raise


async def _begin_once(connection: Any, resume: str) -> Any:
    if resume:
        return await connection.load_session(WORKSPACE, resume)
    return await connection.new_session(WORKSPACE)


async def _choose(connection: Any, launch: Launch, session: str, options: list[Any]) -> None:
    """Choose model and reasoning where the agent offers them as options of the session."""
    wanted = {"model": launch.model, "thought_level": launch.reasoning}
    for option in options:
        value = wanted.get(option.category) if isinstance(option.category, str) else None
        if not value or not isinstance(option, schema.SessionConfigOptionSelect) or option.current_value == value:
            continue
        offered = {each.value for entry in option.options for each in getattr(entry, "options", None) or [entry]}
        if value in offered:
            await connection.set_config_option(option.id, session, value)
