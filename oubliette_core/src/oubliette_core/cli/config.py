"""``oubliette config``: show and check the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette_core.cli.apps import JsonOption, new_group
from oubliette_core.cli.boundary import FAILED, report
from oubliette_core.cli.invocation import Invocation, catalogue, current
from oubliette_core.config import Home, LoadedConfig
from oubliette_core.errors import ConfigError, InvalidValueError, PluginError

app = new_group()


@app.command()
def show(
    context: typer.Context,
    section: Annotated[
        str | None, typer.Argument(metavar="PATH", help="Only what is below this path, such as defaults.limits.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show every value and where it comes from. Secrets are masked."""
    invocation = current(context)
    settings = [one for one in invocation.load(invocation.home()).settings() if _below(one.path, section)]
    if section is not None and not settings:
        raise InvalidValueError(f"the configuration has nothing at {section!r}", value=section)
    if as_json:
        values = {one.path: {"value": one.value, "source": one.source.value} for one in settings}
        invocation.output.json(values)
    else:
        rows = [(one.path, one.text, one.source.value) for one in settings]
        invocation.output.table(("SETTING", "VALUE", "SOURCE"), rows)


def _below(path: str, section: str | None) -> bool:
    return section is None or path == section or path.startswith((f"{section}.", f"{section}["))


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="Another file than the home's.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Check the configuration, and report everything that is wrong with it."""
    invocation = current(context)
    home = invocation.home()
    errors = _problems(invocation, home, file)
    checked = file or home.config_file
    if as_json:
        problems = [line for error in errors for line in error.problems or (error.message,)]
        invocation.output.json({"file": str(checked), "ok": not errors, "problems": problems})
    for error in errors:
        report(error, invocation.output)
    if errors:
        raise typer.Exit(FAILED)
    if not as_json:
        found = f"{checked} is correct." if checked.exists() else f"{checked} does not exist; the defaults hold."
        invocation.output.line(found)


def _problems(invocation: Invocation, home: Home, file: Path | None) -> list[ConfigError]:
    try:
        loaded = invocation.load(home, file)
    except ConfigError as error:
        return [error]
    return runtime_problems(invocation, home, loaded)


def runtime_problems(invocation: Invocation, home: Home, loaded: LoadedConfig) -> list[ConfigError]:
    """Have each runtime check its own section; return what it refuses."""
    installed, errors = catalogue(home, loaded), []
    for name in loaded.config.runtimes:
        if name not in installed.names():
            invocation.output.warning(f"runtimes.{name}: no runtime of this name is installed")
            continue
        try:
            installed.load(name).close()
        except ConfigError as error:
            errors.append(error)
        except PluginError as error:  # broken, whatever the configuration says
            invocation.output.warning(f"runtimes.{name} could not be checked: {error.message}", error.hint)
    return errors


@app.command()
def path(context: typer.Context) -> None:
    """Print where the configuration file is, or would be."""
    invocation = current(context)
    home = invocation.home()
    invocation.output.line(str(home.config_file))
    if not home.config_file.exists():
        invocation.output.note("It does not exist yet. Make it: oubliette init")
