"""The one way to the tools: arguments are checked, then access; then the tool works in a thread; then all is told."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import anyio
import attrs
from mcp_types import CallToolResult, TextContent
from pydantic import ValidationError

from oubliette_core.agents import AgentHost
from oubliette_core.app import App
from oubliette_core.errors import AccessDeniedError, InvalidValueError, OperationCancelledError, OublietteError
from oubliette_core.models import Cancel
from oubliette_core.server import failures
from oubliette_core.server.audit import Audit
from oubliette_core.server.background import BackgroundExecs
from oubliette_core.server.callers import Caller
from oubliette_core.server.metrics import Metrics
from oubliette_core.server.progress import Reporter, Send
from oubliette_core.server.toolbox import Access, Arguments, Call, Result, Tool
from oubliette_core.server.work import Work

_log = logging.getLogger(__name__)


@attrs.define(kw_only=True)
class _Record:
    """What is known of a call for metrics and the audit log, as it proceeds."""

    caller: Caller
    tool: Tool
    arguments: Arguments | None = None
    subject: str = ""
    outcome: str = "ok"
    reason: str = ""


class Dispatcher:
    """Calls tools for clients.

    :param tools: by name. :param work: where they run. :param execs: the commands in the background.
    :param agents: the agent sessions.
    """

    def __init__(
        self,
        app: App,
        tools: Mapping[str, Tool],
        *,
        work: Work,
        execs: BackgroundExecs,
        agents: AgentHost,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._app = app
        self.tools = dict(tools)
        self.work = work
        self.execs = execs
        self.agents = agents
        self._metrics = metrics
        self._audit = audit

    async def call(
        self, caller: Caller, name: str, arguments: Mapping[str, Any], progress: Send | None = None
    ) -> CallToolResult:
        """Call a tool; whatever fails is a result of its own kind, and a bug's text stays here.

        :param progress: sends progress to the client, where it asked for it.
        """
        tool = self.tools.get(name)
        if tool is None:
            return failures.failed(
                InvalidValueError(f"there is no tool {name!r:.80}", hint=f"There are: {', '.join(self.tools)}")
            )
        record = _Record(caller=caller, tool=tool)
        began = time.monotonic()
        try:
            result = await self._run(record, arguments, progress)
        except OublietteError as error:
            record.outcome = _outcome(error)
            record.reason = type(error).__name__
            record.subject = record.subject or str(getattr(error, "subject", ""))
            return failures.failed(error)
        except Exception as error:  # noqa: BLE001 - its text is not for the client
            record.outcome, record.reason = "bug", type(error).__name__
            _log.exception("tool %s met a bug", name)
            return failures.masked(name)
        except BaseException:
            record.outcome = "cancelled"
            raise
        finally:
            self._tell(record, time.monotonic() - began)
        return CallToolResult(
            content=[TextContent(type="text", text=result.text())], structured_content=result.model_dump(mode="json")
        )

    async def _run(self, record: _Record, given: Mapping[str, Any], send: Send | None) -> Result:
        tool = record.tool
        try:
            arguments = record.arguments = tool.arguments.model_validate(dict(given))
        except ValidationError as error:
            raise failures.wrong_arguments(error, tool.arguments) from None
        reporter = Reporter(tool.name, send) if send is not None and tool.long else None

        def work(cancel: Cancel) -> Result:
            call = Call(
                app=self._app,
                execs=self.execs,
                agents=self.agents,
                caller=record.caller,
                cancel=cancel,
                progress=reporter.report if reporter else None,
                tell=reporter.say if reporter else None,
            )
            call = self._admit(call, tool, arguments)
            record.subject = call.project.id if call.project else ""
            result = tool.function(call, arguments)
            record.subject = record.subject or result.subject()
            return result

        with self._metrics.in_flight(long=tool.long):
            if reporter is None:
                return await self.work.run(work, long=tool.long)
            return await self._reporting(reporter, work, long=tool.long)

    async def _reporting(self, reporter: Reporter, work: Any, *, long: bool) -> Result:
        """Work, and send progress meanwhile. A failure to send it is no failure of the work."""
        failure: OublietteError | Exception | None = None
        result: Result | None = None

        async def report() -> None:
            try:
                await reporter.run()
            except Exception as error:  # noqa: BLE001 - the client is gone, or listens no more
                _log.info("progress could not be sent: %s", type(error).__name__)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            try:
                result = await self.work.run(work, long=long)
                await reporter.tell()
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group that would wrap it
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None or result is None:
            raise failure or RuntimeError("no result")
        return result

    def _admit(self, call: Call, tool: Tool, arguments: Arguments) -> Call:
        """Check the access: every call of every tool goes through here."""
        reference = getattr(arguments, "project_id", None)
        if tool.access is Access.ANYONE:
            return call
        if tool.access in (Access.EXEC, Access.SESSION):
            identity = arguments.exec_id if tool.access is Access.EXEC else arguments.session_id  # type: ignore[attr-defined]
            session, project = call.caller.find_session(call.app, identity)
            call.caller.require(project, write=tool.writes)
            return attrs.evolve(call, project=project, session=session)
        if tool.access is Access.PROJECT and reference is not None:
            project = call.caller.find_project(call.app, reference)
            call.caller.require(project, write=tool.writes)
            return attrs.evolve(call, project=project)
        call.caller.require(None, write=tool.writes)
        return call

    def _tell(self, record: _Record, seconds: float) -> None:
        self._metrics.called(record.tool.name, record.outcome, seconds)
        if record.tool.writes:
            self._audit.record(
                caller=record.caller,
                tool=record.tool.name,
                arguments=record.arguments.audited() if record.arguments else {},
                subject=record.subject,
                outcome=record.outcome,
                reason=record.reason,
                seconds=seconds,
            )


def _outcome(error: OublietteError) -> str:
    if isinstance(error, AccessDeniedError):
        return "denied"
    cancelled = isinstance(error, OperationCancelledError) or getattr(error, "reason", "") == "cancelled"
    return "cancelled" if cancelled else "failed"
