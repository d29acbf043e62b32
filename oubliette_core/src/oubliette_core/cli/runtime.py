"""``oubliette runtime``: list, show and check the installed container runtimes, and begin a new one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette_core.cli.apps import JsonOption, new_group
from oubliette_core.cli.invocation import catalogue, current
from oubliette_core.cli.text import plain
from oubliette_core.errors import UnsupportedError
from oubliette_core.models import Capability
from oubliette_core.plugins import PluginState
from oubliette_core.services.policy import ContainerPolicy

if TYPE_CHECKING:
    from oubliette_core.config import LoadedConfig

_TITLES = (
    ("name", "name"),
    ("available", "available"),
    ("engine", "version"),
    ("detail", "detail"),
    ("hint", "hint"),
    ("can", "capabilities"),
    ("cannot", "cannot"),
    ("lacks", "missing_hooks"),
    ("leaves out", "not_enforced"),
    ("refuses", "refuses"),
)
"""What `show` tells people, and under which name programs get it."""

app = new_group()


@app.command("list")
def list_runtimes(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the installed runtimes and wrappers, and whether they can be used."""
    invocation = current(context)
    home = invocation.home()
    reports = catalogue(home, invocation.load(home)).reports()
    if as_json:
        invocation.output.json(reports)
        return
    if not reports:
        invocation.output.note(
            "No runtime is installed. Install one: pip install 'oubliette-core[docker]' on Linux, "
            "'oubliette-core[apple]' on macOS."
        )
        return
    rows = [(one.name, one.kind, one.state.value, one.distribution, one.version, one.detail) for one in reports]
    invocation.output.table(("NAME", "KIND", "STATE", "INSTALLED", "ENGINE", "DETAIL"), rows)
    for one in reports:
        if one.hint and one.state is not PluginState.AVAILABLE:
            invocation.output.note(f"{one.name}: {one.hint}")


@app.command()
def show(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A runtime; the one that would be used when none is named.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a runtime: its engine, and what it can do."""
    invocation = current(context)
    home = invocation.home()
    loaded = invocation.load(home)
    with catalogue(home, loaded).choose(name or loaded.config.runtime) as runtime:
        probe = runtime.probe()
        declared = runtime.capabilities() if probe.available else None
        shown = {
            "name": runtime.name,
            **plain(probe),
            "capabilities": sorted(declared or ()),
            "missing_hooks": sorted(runtime.missing_hooks),
            **_enforcement(loaded, declared),
        }
    if as_json:
        invocation.output.json(shown)
    else:
        shown["cannot"] = [] if declared is None else sorted(set(Capability) - declared)
        invocation.output.fields([(title, _text(shown[key])) for title, key in _TITLES])


@app.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An installed runtime.")],
    report: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write what became of each case to FILE.")
    ] = None,
    case: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this case, or those that begin so; can be repeated.")
    ] = None,
) -> None:
    """Run the conformance kit over a runtime; needs 'oubliette-core[testing]'."""
    # A process: the kit and pytest are no part of the product. -P keeps this directory's files from being imported.
    words = [sys.executable, "-P", "-m", "oubliette_core.testing", f"--json={report}" if report else ""]
    words += [f"--case={one}" for one in case or ()]
    done = subprocess.run([*filter(None, words), "--", name], check=False)
    raise typer.Exit(done.returncode)


@app.command()
def new(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the runtime is to be called.")],
    directory: Annotated[
        Path | None, typer.Argument(metavar="DIRECTORY", help="Where to; ./oubliette-NAME unless given.")
    ] = None,
) -> None:
    """Write the skeleton of a new runtime: a distribution that installs, and a first test that passes."""
    from oubliette_core.cli.runtime_new import write_skeleton  # noqa: PLC0415

    target = write_skeleton(name, directory)
    output = current(context).output
    output.note(f"Wrote {target}. Next: pip install -e '{target}[test]' && (cd '{target}' && pytest)")


def _enforcement(loaded: LoadedConfig, declared: frozenset[Capability] | None) -> dict[str, object]:
    """Return which settings of containers the runtime would leave out, and which it would refuse."""
    if declared is None:
        return {"not_enforced": [], "refuses": ""}
    policy = ContainerPolicy.of(loaded, "", uid=os.geteuid(), gid=os.getegid())
    try:
        return {"not_enforced": policy.unenforced(declared), "refuses": ""}
    except UnsupportedError as error:
        return {"not_enforced": [], "refuses": error.message}


def _text(value: object) -> object:
    return ", ".join(value) if isinstance(value, list | tuple) else value
