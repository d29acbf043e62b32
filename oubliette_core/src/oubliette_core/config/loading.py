"""Loading the configuration: file, environment and command line, checked as one, each value with its source.

No exception leaves this module from a frame that holds the text of the file or the environment: what went wrong comes
back as values, and is raised where nothing secret is in sight of a traceback that prints local variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import attrs

from oubliette_core.config.document import Document, Problem, read_document
from oubliette_core.config.forms import is_name
from oubliette_core.config.home import Home
from oubliette_core.config.keypath import KeyPath, format_path, parse_path, printable
from oubliette_core.config.layers import Layers, Source, Variables, apply_dev, lay, problem_lines
from oubliette_core.config.schema import Config
from oubliette_core.config.show import Plain, shown_values
from oubliette_core.errors import ConfigError
from oubliette_core.models import RuntimeSettings

_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})


@attrs.frozen(kw_only=True)
class Setting:
    """One value as ``config show`` prints it.

    :param path: such as ``containers.ml.pull``. :param value: plain data for JSON, secrets masked.
    """

    path: str
    value: Plain
    source: Source

    @property
    def text(self) -> str:
        """The value as it could stand in the file."""
        return printable(self.value)


@attrs.frozen(kw_only=True)
class LoadedConfig:
    """A configuration that was checked, and where its values come from.

    :param file: the file that was read; None if there is none.
    :param sources: of each value that is not a built-in default.
    :param dev: dev mode: only images that were built on this machine, nothing is pulled.
    :param disabled_plugins: runtimes and wrappers that are not to be loaded.
    :param warnings: lines for people about what was accepted and should be put right.
    """

    config: Config = attrs.field(factory=Config)
    file: Path | None = None
    sources: Mapping[KeyPath, Source] = attrs.field(factory=dict, repr=False)
    dev: bool = False
    disabled_plugins: frozenset[str] = frozenset()
    warnings: tuple[str, ...] = ()

    def source_of(self, path: str | KeyPath) -> Source:
        """Return where the value at ``path`` comes from.

        :param path: ``containers.ml.pull``, or a tuple of keys. A section's source is the strongest of what is in it.
        :raises ValueError: ``path`` is not of that form.
        """
        keys = parse_path(path) if isinstance(path, str) else path
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.sources:
                return self.sources[keys[:length]]
        inside = {source for known, source in self.sources.items() if known[: len(keys)] == keys}
        return max(inside, key=list(Source).index, default=Source.DEFAULT)

    def settings(self) -> Iterator[Setting]:
        """Yield every value in the order of the schema, defaults too, with secrets masked."""
        for path, value in shown_values(self.config):
            yield Setting(path=format_path(path), value=value, source=self.source_of(path))

    def runtime_settings(self, name: str, home_id: str = "") -> RuntimeSettings:
        """Return what the runtime called ``name`` is constructed with: its own section, unchecked."""
        return RuntimeSettings(options=self.config.runtimes.get(name, {}), home_id=home_id)


def load_config(
    home: Home,
    *,
    environ: Mapping[str, str],
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    dev: bool | None = None,
    file: Path | None = None,
) -> LoadedConfig:
    """Load the configuration of a home; without a file, the built-in defaults hold.

    :param environ: the environment: for ``${NAME}`` in secrets, for the variables of `ENVIRONMENT`, and for
        ``OUBLIETTE_DEV`` and ``OUBLIETTE_DISABLE_PLUGINS``.
    :param overrides: what the command line says: path to value (``{"runtime": "docker"}``), as in the file.
    :param dev: dev mode on or off; None to go by ``OUBLIETTE_DEV``.
    :param file: another file than the home's; it has to exist.
    :raises ConfigError: the file cannot be used. ``problems`` has one line for each thing that is wrong, with its path
        and, where known, its line: a front end prints them all below the message.
    """
    variables = Variables(environ)
    del environ  # no traceback that prints local variables is to print it
    document, path = _document(home, file)
    loaded, problems = _build(document, path, variables, overrides, dev)
    del document, overrides
    if loaded is not None and not problems:
        return loaded
    where = f"{path}" if path else "the configuration"
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    raise ConfigError(
        f"{count} in {where}",
        problems=problems,
        file=str(path or ""),
        hint="Correct it, and check it with: oubliette config check",
    )


def _document(home: Home, file: Path | None) -> tuple[Document, Path | None]:
    if file is not None:
        try:
            return read_document(file, None), file
        except FileNotFoundError:
            raise ConfigError(f"there is no file {file}", file=str(file)) from None
    try:
        return read_document(home.config_file, home.cache_dir / "config.json"), home.config_file
    except FileNotFoundError:
        if home.config_file.is_symlink():
            raise ConfigError(f"{home.config_file} is a link that leads nowhere", file=str(home.config_file)) from None
        return Document(), None


def _build(
    document: Document, file: Path | None, variables: Variables, overrides: Mapping[str, object], dev: bool | None
) -> tuple[LoadedConfig | None, tuple[str, ...]]:
    """Put everything together; what is wrong comes back as lines, never as an exception."""
    layers = lay(document, variables, overrides)
    config, literals, unset, found = _structured(layers, variables)
    problems = [*problem_lines([*layers.problems, *found], document, layers)]
    warnings = [f"the environment variable {name} is not set: what needs its secret will fail" for name in unset]
    if file and document.mode & 0o077:
        text = f"{file} is open to others (mode {document.mode:04o})"
        if literals:
            problems.append(f"{text} and holds secrets: chmod 600 {file}")
        else:
            warnings.append(f"{text}: chmod 600 {file}")
    dev_mode = layers.dev if dev is None else dev
    if config is None or problems:
        return None, tuple(problems)
    sources = layers.sources
    if dev_mode:
        config, sources = apply_dev(config, sources)
    loaded = LoadedConfig(
        config=config,
        file=file,
        sources=sources,
        dev=dev_mode,
        disabled_plugins=variables.words("OUBLIETTE_DISABLE_PLUGINS"),
        warnings=tuple(warnings),
    )
    return loaded, ()


def _structured(
    layers: Layers, variables: Variables
) -> tuple[Config | None, bool, tuple[str, ...], tuple[Problem, ...]]:
    """Return the configuration, whether a secret stands in the file itself, unset variables, and what is wrong."""
    rest = dict(layers.tree)
    runtime = rest.pop("runtime", Config().runtime)
    if is_name(runtime) and _says_nothing(rest, Config()):
        return Config(runtime=runtime), False, (), ()
    # Imported here: cattrs costs 20 ms, which the file that `oubliette init` writes does not need, whatever runtime
    # the environment or the command line chooses.
    from oubliette_core.config.converter import SecretReader, structure  # noqa: PLC0415

    secrets = SecretReader(variables.get)
    config, problems = structure(layers.tree, secrets)
    return config, secrets.literals, tuple(sorted(secrets.unset)), problems


def _says_nothing(value: object, default: object) -> bool:
    """Tell whether there are only empty sections, each where the schema has it."""
    section = type(default)
    if attrs.has(section) and isinstance(value, dict):
        known = attrs.fields_dict(section)
        return all(key in known and _says_nothing(inner, getattr(default, key)) for key, inner in value.items())
    return isinstance(default, Mapping) and value == {}
