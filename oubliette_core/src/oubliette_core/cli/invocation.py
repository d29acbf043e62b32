"""What a command gets from its surroundings: options, environment, streams and signals, each read once.

Configuration, plugins and services are imported where they are needed: help, and many commands, need none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import typer

from oubliette_core.cli.interrupts import Interrupts
from oubliette_core.cli.output import Output

if TYPE_CHECKING:
    from oubliette_core.app import App
    from oubliette_core.config import Home, LoadedConfig
    from oubliette_core.plugins import RuntimeCatalogue


@attrs.frozen(kw_only=True)
class Invocation:
    """One run of ``oubliette``.

    :param environ: the environment; nothing below the command line reads it. :param directory: ``--dir``.
    :param runtime: ``--runtime``.
    """

    environ: Mapping[str, str] = attrs.field(repr=False)
    output: Output
    interrupts: Interrupts
    directory: Path | None = None
    runtime: str | None = None

    def home(self) -> Home:
        """Find the home, whether or not it exists yet. :raises ConfigError: there is no telling where it is."""
        from oubliette_core.config import find_home  # noqa: PLC0415

        home = find_home(self.directory, environ=self.environ)
        if home.note:
            self.output.warning(home.note)
        return home

    def load(
        self, home: Home, file: Path | None = None, *, overrides: Mapping[str, object] = MappingProxyType({})
    ) -> LoadedConfig:
        """Load the configuration.

        :param file: another file than the home's. :param overrides: what options of the command say: path to value.
        :raises ConfigError: it has mistakes.
        """
        from oubliette_core.config import load_config  # noqa: PLC0415

        chosen = {} if self.runtime is None else {"runtime": self.runtime}
        loaded = load_config(home, environ=self.environ, overrides={**chosen, **overrides}, file=file)
        for warning in loaded.warnings:
            self.output.warning(warning)
        return loaded

    def app(self) -> App:
        """Open the home. :raises ConfigError: there is none, others can write to it, or its configuration is wrong."""
        home = self.home()
        home.check()
        return self.open(home, self.load(home))

    def open(self, home: Home, loaded: LoadedConfig) -> App:
        """Open a home with the configuration that was loaded for it."""
        from oubliette_core.app import App  # noqa: PLC0415

        return App(home, loaded, environ=self.environ)


def catalogue(home: Home, loaded: LoadedConfig) -> RuntimeCatalogue:
    """Return the installed runtimes, which need no home to be listed."""
    from oubliette_core.plugins import RuntimeCatalogue  # noqa: PLC0415

    home_id = home.id if home.exists else ""
    return RuntimeCatalogue(lambda name: loaded.runtime_settings(name, home_id), disabled=loaded.disabled_plugins)


def current(context: typer.Context) -> Invocation:
    """Return the invocation that a command belongs to."""
    invocation: Invocation = context.obj
    return invocation
