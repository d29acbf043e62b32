"""``oubliette init``: make the home, and pull what its projects will need."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette_core.cli.apps import new_command
from oubliette_core.cli.image import describe, pull_all
from oubliette_core.cli.invocation import Invocation, current
from oubliette_core.config import Home, write_template
from oubliette_core.errors import ConfigError, ConflictError, ImageNotFoundError, PluginError, RuntimeUnavailableError

if TYPE_CHECKING:
    from oubliette_core.app import App

_TOKEN_NAME = "admin"  # noqa: S105 - a name, no secret

app = new_command()


@app.command()
def init(
    context: typer.Context,
    pull: Annotated[bool, typer.Option("--pull/--no-pull", help="Pull the images of all container types.")] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing configuration without asking; a backup is kept.")
    ] = False,
) -> None:
    """Make the home with its configuration, and pull the images.

    What exists already is kept, so that this can be repeated. The first time it prints an access token for the
    server. An image that cannot be pulled is no failure: pull it later.
    """
    invocation = current(context)
    home = invocation.home()
    _make_home(invocation, home)
    _write_configuration(invocation, home, force=force)
    loaded = invocation.load(home)
    with invocation.open(home, loaded) as opened:
        _make_token(invocation, opened)
        if pull:
            _pull(invocation, opened)
    invocation.output.note(f"Ready. Make a project: {_again(invocation)} project create NAME")


def _make_home(invocation: Invocation, home: Home) -> None:
    existed = home.exists
    home.create()
    if not existed:
        invocation.output.line(f"Made the home {home.path}.")


def _write_configuration(invocation: Invocation, home: Home, *, force: bool) -> None:
    """Write the configuration where there is none, or where it is to be replaced."""
    output = invocation.output
    if home.config_file.exists() and not force:
        question = f"{home.config_file} exists. Replace it by a new one, and keep it as a backup?"
        if not output.stdin.isatty() or not output.confirm(question, otherwise="--force"):
            output.line(f"Kept the configuration {home.config_file}.")
            return
    try:
        backup = write_template(home)
    except OSError as error:
        raise ConfigError(f"{home.config_file} cannot be written: {error.strerror}") from error
    output.line(f"Wrote the configuration {home.config_file}.")
    if backup is not None:
        output.line(f"The former one is {backup}.")


def _make_token(invocation: Invocation, opened: App) -> None:
    """Make the first token, of the administrator."""
    if opened.tokens.list():
        return
    try:
        made = opened.tokens.create(_TOKEN_NAME, ["admin"])
    except ConflictError:  # another init at the same time was faster
        return
    invocation.output.line(f"Access token {made.token.name}, shown only now: {made.secret}")


def _pull(invocation: Invocation, opened: App) -> None:
    """Have the images here; in dev mode this only looks. What does not work out is no failure: there is time."""
    output = invocation.output
    try:
        images = opened.images
        outcomes = pull_all(invocation, images, images.valid_types, refresh=False)
    except (PluginError, RuntimeUnavailableError) as error:
        output.warning(f"no images were pulled: {error.message}", error.hint)
        output.note(f"  pull them later: {_again(invocation)} image pull")
        return
    for outcome in outcomes:
        if outcome.error is None:
            output.line(describe(outcome))
        elif isinstance(outcome.error, ImageNotFoundError):  # it was not to be pulled
            output.warning(f"{outcome.type}: {outcome.error.message}", outcome.error.hint)
        else:
            output.warning(f"{outcome.type}: {outcome.error.message}", outcome.error.hint)
            output.note(f"  pull it later: {_again(invocation)} image pull {outcome.type}")


def _again(invocation: Invocation) -> str:
    """Return how to begin a command that is about the same home."""
    return f"oubliette --dir {shlex.quote(str(invocation.directory))}" if invocation.directory else "oubliette"
