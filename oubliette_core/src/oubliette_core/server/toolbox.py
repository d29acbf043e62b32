"""What a tool is: one function over the services, and what is said about it to clients and to the access check."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import attrs
from mcp_types import Tool as WireTool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, ConfigDict

from oubliette_core.agents import AgentHost
from oubliette_core.app import App
from oubliette_core.models import Cancel, ProgressCallback
from oubliette_core.server.background import BackgroundExecs
from oubliette_core.server.callers import Caller
from oubliette_core.services.records import Project, Session


class Arguments(BaseModel):
    """Arguments of a tool: nothing unknown is accepted, and nothing is converted ("5" is no 5)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def audited(self) -> dict[str, Any]:
        """Return what the audit log may hold of them: never a text that could carry a secret."""
        return {}


class Result(BaseModel):
    """What a tool gives back."""

    model_config = ConfigDict(frozen=True)

    def text(self) -> str:
        """Return it as people, and models that see no structured results, read it."""
        raise NotImplementedError

    def subject(self) -> str:
        """Return the id of what a call changed, for the audit log."""
        return ""


class Access(enum.Enum):
    """Whose token is needed to call a tool, besides that one for reading only does not do for what changes things."""

    ANYONE = "anyone"
    """Any token; the tool shows what the token may see."""
    PROJECT = "project"
    """One that reaches the project that ``project_id`` names; where that is left out, one that reaches all."""
    EXEC = "exec"
    """One that reaches the project in which the command ``exec_id`` runs."""
    SESSION = "session"
    """One that reaches the project of the agent session ``session_id``."""
    ABOVE = "above"
    """One that reaches what is above projects."""


class Effect(enum.Enum):
    """What a tool does to things."""

    READS = "reads"
    CHANGES = "changes"
    DESTROYS = "destroys"


@attrs.frozen(kw_only=True)
class Call:
    """One call of a tool that was let through.

    :param caller: who calls. :param project: the one that the access check found, where there is one.
    :param session: likewise. :param cancel: set when the client takes the call back or the server stops.
    :param progress: where events of a pull go. :param tell: where a line of text goes, for a client that waits.
    """

    app: App
    execs: BackgroundExecs
    agents: AgentHost
    caller: Caller
    project: Project | None = None
    session: Session | None = None
    cancel: Cancel = attrs.field(factory=Cancel)
    progress: ProgressCallback | None = None
    tell: Callable[[str], None] | None = None

    @property
    def project_id(self) -> str:
        """Id of the project that the call is about."""
        return self.found_project.id

    @property
    def found_project(self) -> Project:
        """The project that the call is about, as it was when the call was let through."""
        if self.project is None:
            raise RuntimeError("this tool's access has to be that of a project")
        return self.project

    @property
    def found_session(self) -> Session:
        """The command or agent session that the call is about."""
        if self.session is None:
            raise RuntimeError("this tool's access has to be that of a command or a session")
        return self.session


@attrs.frozen(kw_only=True)
class Tool:
    """A tool.

    :param long: it can take longer than a moment: it gets a thread from a pool of its own.
    :param idempotent: to call it again changes nothing more. :param open_world: it reaches beyond this machine.
    """

    name: str
    title: str
    description: str
    function: Callable[[Call, Any], Result]
    arguments: type[Arguments]
    result: type[Result]
    access: Access
    effect: Effect
    long: bool
    idempotent: bool
    open_world: bool

    @property
    def writes(self) -> bool:
        """Whether it changes anything or runs a command: a token for reading does not do."""
        return self.effect is not Effect.READS

    def on_the_wire(self) -> WireTool:
        """Return it as clients list it."""
        annotations = ToolAnnotations(
            title=self.title,
            read_only_hint=not self.writes,
            destructive_hint=self.effect is Effect.DESTROYS,
            idempotent_hint=self.idempotent or not self.writes,
            open_world_hint=self.open_world,
        )
        return WireTool(
            name=self.name,
            title=self.title,
            description=self.description,
            input_schema=_schema(self.arguments),
            output_schema=_schema(self.result, mode="serialization"),
            annotations=annotations,
        )


def tool(
    *,
    title: str,
    access: Access,
    effect: Effect = Effect.READS,
    long: bool = False,
    idempotent: bool = False,
    open_world: bool = False,
) -> Callable[[Callable[[Call, Any], Result]], Tool]:
    """Make a tool of a function: its name is the tool's name, its docstring the description, its hints the schemas."""

    def make(function: Callable[[Call, Any], Result]) -> Tool:
        hints = get_type_hints(function)
        return Tool(
            name=function.__name__,
            title=title,
            description=inspect.cleandoc(function.__doc__ or ""),
            function=function,
            arguments=hints["arguments"],
            result=hints["return"],
            access=access,
            effect=effect,
            long=long,
            idempotent=idempotent,
            open_world=open_world,
        )

    return make


def _schema(model: type[BaseModel], *, mode: Any = "validation") -> dict[str, Any]:
    """Return a model's JSON schema, in a form that is cheap to check against and that simple clients understand.

    References are resolved, "this or null" is one type, and the titles that pydantic makes up from names are left out.
    """
    schema = model.model_json_schema(mode=mode)
    simple: dict[str, Any] = _simplified(schema, schema.pop("$defs", {}))
    simple.pop("description", None)  # the class's docstring is for readers of the source
    return simple


def _simplified(value: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_simplified(inner, definitions) for inner in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        target = definitions[value["$ref"].rpartition("/")[2]]
        value = {**target, **{key: inner for key, inner in value.items() if key != "$ref"}}
    simple = {
        key: _simplified(inner, definitions)
        for key, inner in value.items()
        if key != "title" or not isinstance(inner, str)
    }
    choices = simple.get("anyOf", [])
    if len(choices) == 2 and choices[1] == {"type": "null"} and isinstance(choices[0].get("type"), str):
        del simple["anyOf"]
        simple = {**choices[0], **simple, "type": [choices[0]["type"], "null"]}
    return simple
