"""The template explains every setting, changes none, and is the same everywhere it stands."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import attrs

from oubliette_core.config import Config, Home, LoadedConfig, load_config, template_text, write_template
from tests.core.config.conftest import Load

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 11, 23, 12, 0, 5, tzinfo=UTC)


def _uncommented() -> str:
    """Return the template with every setting in force, as if the user had taken away the two slashes."""
    return re.sub(r"^( *)// ( *[\"}\]])", r"\1\2", template_text(), flags=re.MULTILINE)


def test_the_template_says_nothing(home: Home) -> None:
    """What stands in the file is required of a runtime, so a new file must leave everything to the defaults."""
    write_template(home)

    assert LoadedConfig(file=home.config_file) == load_config(home, environ={})
    assert {} == load_config(home, environ={}).sources


def test_every_setting_can_be_uncommented(load: Load) -> None:
    """All of them at once are a configuration without problems, and only the examples differ from the defaults."""
    loaded = load(_uncommented(), {"GITHUB_TOKEN": "x", "ANTHROPIC_API_KEY": "y"})
    defaults = {setting.path: setting.value for setting in LoadedConfig().settings()}
    examples = ("runtimes", "containers.ml", "registries.mirrors", "credentials", "models", "defaults.container.env")
    changed = {
        setting.path: setting.value
        for setting in loaded.settings()
        if setting.path not in defaults or defaults[setting.path] != setting.value
    }

    assert {} == {path: value for path, value in changed.items() if not path.startswith(examples)}
    assert {example for example in examples if any(path.startswith(example) for path in changed)} == set(examples)


def test_every_setting_is_in_it(load: Load) -> None:
    """Nothing that can be set is left for people to find out."""
    text = template_text()
    missing = [
        field.name for field in attrs.fields(Config) if not re.search(rf'^  (// )?"{field.name}":', text, re.MULTILINE)
    ]

    assert [] == missing
    assert not load(text).warnings


def test_no_line_is_too_long_to_read() -> None:
    """It is read in a terminal."""
    assert [] == [line for line in template_text().splitlines() if len(line) > 120]


def test_the_file_is_its_owners_alone(home: Home) -> None:
    """Secrets will be written into it."""
    write_template(home)

    assert 0o600 == home.config_file.stat().st_mode & 0o777


def test_what_was_there_is_kept(home: Home) -> None:
    """As private as the new one, and under a name that says from when it is."""
    home.config_file.write_text("mine")
    home.config_file.chmod(0o644)
    backup = write_template(home, now=NOW)

    assert home.config_file.with_name("oubliette.jsonc.bak-20261123T120005Z") == backup
    assert ("mine", 0o600) == (backup.read_text(), backup.stat().st_mode & 0o777)
    assert template_text() == home.config_file.read_text()


def test_no_backup_replaces_another(home: Home) -> None:
    """Not even within one second."""
    home.config_file.write_text("first")
    first = write_template(home, now=NOW)
    home.config_file.write_text("second")
    second = write_template(home, now=NOW)

    assert first
    assert second
    assert ["first", "second"] == [first.read_text(), second.read_text()]


def test_nothing_to_keep_is_no_backup(home: Home) -> None:
    """The first ``init`` leaves one file."""
    assert None is write_template(home)
    assert [home.config_file] == list(home.config_file.parent.iterdir())


def test_the_example_is_the_template() -> None:
    """The file in the repository is what ``oubliette init`` writes."""
    assert template_text() == (ROOT / "config" / "oubliette.jsonc.example").read_text()
