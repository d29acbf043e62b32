"""``oubliette version``."""

from __future__ import annotations

import platform
from importlib.metadata import entry_points

import typer

from oubliette_core._version import __version__
from oubliette_core.cli.apps import JsonOption, new_command
from oubliette_core.cli.invocation import current
from oubliette_core.plugins import RUNTIMES_GROUP

app = new_command()


@app.command()
def version(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the versions of Oubliette and its runtimes."""
    output = current(context).output
    runtimes = {
        point.name: f"{point.dist.name} {point.dist.version}" if point.dist else ""
        for point in entry_points(group=RUNTIMES_GROUP)
    }
    if as_json:
        output.json({"oubliette": __version__, "python": platform.python_version(), "runtimes": runtimes})
        return
    output.fields(
        [
            ("oubliette", __version__),
            ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
            *((f"runtime {name}", distribution) for name, distribution in sorted(runtimes.items())),
        ]
    )
