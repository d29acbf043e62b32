"""``oubliette doctor``: everything that Oubliette needs, looked at."""

from __future__ import annotations

import enum
import platform
import shutil
import stat
from collections.abc import Iterator

import attrs
import typer

from oubliette_core._version import __version__
from oubliette_core.cli.apps import JsonOption, new_command
from oubliette_core.cli.boundary import FAILED
from oubliette_core.cli.config import runtime_problems
from oubliette_core.cli.invocation import Invocation, catalogue, current
from oubliette_core.cli.text import plural, size
from oubliette_core.config import Home, LoadedConfig
from oubliette_core.errors import ConfigError, OublietteError
from oubliette_core.plugins import AUTO, PluginState, RuntimeReport

_LITTLE_SPACE = 2 * 10**9
"""Bytes. Images of this kind have about one."""

app = new_command()


class Verdict(enum.StrEnum):
    """What to make of a finding."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that was looked at. :param hint: what to do about it."""

    subject: str
    verdict: Verdict = Verdict.OK
    detail: str
    hint: str = ""


@app.command()
def doctor(context: typer.Context, as_json: JsonOption = False) -> None:
    """Check everything that Oubliette needs, and say what to do."""
    invocation = current(context)
    findings = list(_findings(invocation))
    if as_json:
        invocation.output.json(findings)
    else:
        for one in findings:
            invocation.output.line(f"{one.verdict.value:8} {one.subject:10} {one.detail}")
            if one.hint:
                invocation.output.line(f"{'':8} {'':10} {one.hint}")
    if any(one.verdict is Verdict.FAILED for one in findings):
        raise typer.Exit(FAILED)


def _findings(invocation: Invocation) -> Iterator[Finding]:
    yield Finding(
        subject="version",
        detail=f"oubliette {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    home = invocation.home()
    yield _home(home)
    yield _disk(home)
    try:
        loaded = invocation.load(home)
    except ConfigError as error:
        yield from _configuration(home, [error])
        return  # what follows goes by the configuration
    yield from _configuration(home, runtime_problems(invocation, home, loaded))
    if home.exists:
        yield _store(invocation, home, loaded)
    reports = catalogue(home, loaded).reports()
    yield from map(_plugin, reports)
    yield _runtime(home, loaded)


def _home(home: Home) -> Finding:
    try:
        home.check()
        _ = home.id
    except ConfigError as error:
        return Finding(subject="home", verdict=Verdict.FAILED, detail=error.message, hint=error.hint)
    detail = f"{home.path} (by {home.found_by})"
    mode = stat.S_IMODE(home.path.stat().st_mode)
    if mode & 0o077:
        text = f"{detail}: others can look into it (mode {mode:04o})"
        return Finding(subject="home", verdict=Verdict.WARNING, detail=text, hint=f"chmod 700 {home.path}")
    return Finding(subject="home", detail=detail)


def _disk(home: Home) -> Finding:
    there = next(path for path in (home.path, *home.path.parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < _LITTLE_SPACE:
        return Finding(
            subject="disk",
            verdict=Verdict.WARNING,
            detail=f"only {size(free)} are free at {there}",
            hint="Make room: images and workspaces need some.",
        )
    return Finding(subject="disk", detail=f"{size(free)} free at {there}")


def _configuration(home: Home, problems: list[ConfigError]) -> Iterator[Finding]:
    if not problems:
        detail = str(home.config_file) if home.config_file.exists() else "none; the defaults hold"
        yield Finding(subject="config", detail=detail)
    for problem in problems:
        for line in problem.problems or (problem.message,):
            yield Finding(subject="config", verdict=Verdict.FAILED, detail=line, hint=problem.hint)


def _store(invocation: Invocation, home: Home, loaded: LoadedConfig) -> Finding:
    try:
        with invocation.open(home, loaded) as opened:
            projects, tokens = len(opened.projects.list()), len(opened.tokens.list())
    except OublietteError as error:
        return Finding(subject="store", verdict=Verdict.FAILED, detail=error.message, hint=error.hint)
    return Finding(subject="store", detail=f"{plural(projects, 'project')}, {plural(tokens, 'token')}")


def _plugin(report: RuntimeReport) -> Finding:
    usable = report.state is PluginState.AVAILABLE
    return Finding(
        subject=report.kind,
        # One that cannot be used is nothing to mend as long as another can.
        verdict=Verdict.OK if usable else Verdict.WARNING,
        detail=f"{report.name} ({report.distribution}) {report.state.value}: {report.detail or report.version}",
        hint="" if usable else report.hint,
    )


def _runtime(home: Home, loaded: LoadedConfig) -> Finding:
    preference = loaded.config.runtime
    try:
        with catalogue(home, loaded).choose(preference) as runtime:
            probe = runtime.probe()
            missing = sorted(runtime.missing_hooks)
    except OublietteError as error:
        return Finding(subject="chosen", verdict=Verdict.FAILED, detail=error.message, hint=error.hint)
    how = "by its priority" if preference == AUTO else f"by {loaded.source_of('runtime').value}"
    detail = f"{runtime.name} ({how}): {probe.detail or probe.version}"
    if not probe.available:
        return Finding(subject="chosen", verdict=Verdict.FAILED, detail=detail, hint=probe.hint)
    if missing:
        text = f"{detail}; it lacks {', '.join(missing)}"
        return Finding(subject="chosen", verdict=Verdict.WARNING, detail=text)
    return Finding(subject="chosen", detail=detail, hint=probe.hint)  # what more it could do
