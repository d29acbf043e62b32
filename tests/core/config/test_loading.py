"""A configuration is loaded whole, with the source of every value, or not at all, with everything that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from pathlib import Path

import attrs
import pytest

from oubliette_core.config import Config, Home, LoadedConfig, Source, load_config, write_template
from oubliette_core.errors import ConfigError
from oubliette_core.models import RuntimeSettings
from tests.core.config.conftest import Load, Problems

CANARY = "canary-7f3a"


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    """Even without a home: whoever only looks around needs none."""
    assert LoadedConfig() == load_config(Home(path=tmp_path / "none"), environ={})


def test_four_mistakes_are_four_problems_with_path_and_line(problems: Problems) -> None:
    """They are reported at once, in the order of the file."""
    text = """\
{
  // mistakes
  "runtime": 5,
  "containers": {"ml": {
    "image": "registry:5000/ml", "pull": "sometimes",
    "platfrom": "linux/amd64",
  }},
  "defaults": {"container": {"memory": "4 gigs"}},
}
"""

    assert [
        "runtime: expected a lower-case name of letters, digits, '.', '_' and '-', not 5 (line 3)",
        "containers.ml.pull: expected one of missing, always, never, not 'sometimes' (line 5)",
        "containers.ml.platfrom: unknown key; did you mean platform? (line 6)",
        (
            'defaults.container.memory: expected a size in bytes, or a text such as "512m" or "2GiB", '
            "not '4 gigs' (line 8)"
        ),
    ] == problems(text)


def test_the_message_counts_and_names_the_file(load: Load, home: Home) -> None:
    """It is one line; the problems stand below it."""
    with pytest.raises(ConfigError) as caught:
        load('{"runtim": 1, "server": {"port": -1}}')

    assert f"2 problems in {home.config_file}" == str(caught.value)
    assert str(home.config_file) == caught.value.file
    assert "oubliette config check" in caught.value.hint


def test_a_file_that_cannot_be_parsed_is_one_problem(problems: Problems) -> None:
    """What follows from it is not reported as well."""
    assert ['unexpected "}" at column 9 (line 2)'] == problems('{\n"a": 1 }}')


def test_repeated_keys_are_reported_with_everything_else(problems: Problems) -> None:
    """All at once means all."""
    assert [
        "runtime: is there twice (line 2)",
        "server.port: expected a port from 1 to 65535, or 0 for any free one, not -1 (line 3)",
    ] == problems('{"runtime": "a",\n"runtime": "b",\n"server": {"port": -1}}')


def test_every_value_knows_its_source(load: Load) -> None:
    """``config show`` answers the question where a value comes from."""
    loaded = load(
        '{"containers": {"ml": "x/ml"}, "server": {"port": 1, "allowed_hosts": ["a"]}}',
        {"CONTAINER_RUNTIME": "docker"},
        overrides={"server.host": "localhost"},
    )

    assert {
        "runtime": Source.ENVIRONMENT,
        "containers": Source.FILE,
        "containers.ml": Source.FILE,
        "containers.ml.image": Source.FILE,
        "containers.ml.pull": Source.DEFAULT,
        "server": Source.COMMAND_LINE,
        "server.host": Source.COMMAND_LINE,
        "server.port": Source.FILE,
        "server.allowed_hosts[0]": Source.FILE,
        "server.rate_limit": Source.DEFAULT,
        "defaults": Source.DEFAULT,
    } == {
        path: loaded.source_of(path)
        for path in (
            "runtime",
            "containers",
            "containers.ml",
            "containers.ml.image",
            "containers.ml.pull",
            "server",
            "server.host",
            "server.port",
            "server.allowed_hosts[0]",
            "server.rate_limit",
            "defaults",
        )
    }


def test_all_settings_are_listed_with_their_sources(load: Load) -> None:
    """Defaults too, so that one sees what can be set."""
    loaded = load('{"defaults": {"limits": {"turn_time": "10m", "exec_output": "1k"}}}')
    listed = {setting.path: (setting.text, setting.source) for setting in loaded.settings()}

    assert ("600.0", Source.FILE) == listed["defaults.limits.turn_time"]
    assert ("1024", Source.FILE) == listed["defaults.limits.exec_output"]
    assert ('"auto"', Source.DEFAULT) == listed["runtime"]
    assert ("null", Source.DEFAULT) == listed["defaults.container.memory"]


def test_a_runtime_gets_its_own_section(load: Load) -> None:
    """And the home's id, for its labels."""
    loaded = load('{"runtimes": {"docker": {"host": "unix:///x"}}}')

    assert RuntimeSettings(options={"host": "unix:///x"}, home_id="h") == loaded.runtime_settings("docker", "h")
    assert RuntimeSettings() == loaded.runtime_settings("apple")


def test_plugins_are_disabled_by_name(load: Load) -> None:
    """With commas or spaces between them."""
    loaded = load("{}", {"OUBLIETTE_DISABLE_PLUGINS": "docker, audit  x"})

    assert {"docker", "audit", "x"} == loaded.disabled_plugins


def test_empty_containers_get_the_default_types(load: Load) -> None:
    """A section that says nothing changes nothing."""
    assert Config().container_types == load('{"containers": {}}').config.container_types
    assert Source.DEFAULT is load('{"containers": {}}').source_of("containers.base.image")


def test_own_containers_are_left_as_they_are(load: Load) -> None:
    """Nothing is added to them, and their order is kept."""
    assert ["zz", "aa"] == list(load('{"containers": {"zz": "x", "aa": "y"}}').config.container_types)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_secrets_in_a_file_that_others_can_read_are_refused(problems: Problems, home: Home, mode: int) -> None:
    """They are secrets no longer."""
    text = '{"credentials": {"github": {"token": "canary"}}}'

    assert [
        f"{home.config_file} is open to others (mode {mode:04o}) and holds secrets: chmod 600 {home.config_file}"
    ] == problems(text, mode=mode)


def test_a_file_that_others_can_read_is_warned_of(load: Load, home: Home) -> None:
    """Without secrets in it, it is not worth a refusal."""
    text = '{"credentials": {"github": {"token": "${TOKEN}"}}}'

    assert (f"{home.config_file} is open to others (mode 0644): chmod 600 {home.config_file}",) == load(
        text, {"TOKEN": "x"}, mode=0o644
    ).warnings


def test_a_private_file_is_not_warned_of(load: Load) -> None:
    """With or without secrets."""
    assert () == load('{"credentials": {"github": {"token": "x"}}}').warnings


def test_another_file_can_be_checked(home: Home, tmp_path: Path) -> None:
    """Before it is put in place; it leaves no trace in the home."""
    file = tmp_path / "other.jsonc"
    file.write_text("// c\n{runtime: 'x'}")
    file.chmod(0o600)

    assert "x" == load_config(home, environ={}, file=file).config.runtime
    assert [] == list(home.cache_dir.iterdir())
    with pytest.raises(ConfigError, match="there is no file"):
        load_config(home, environ={}, file=tmp_path / "none")


def test_a_home_that_cannot_be_read_is_an_error_for_people(home: Home) -> None:
    """No traceback for a path that leads through a file."""
    home.config_file.parent.rmdir()
    home.config_file.parent.write_text("")

    with pytest.raises(ConfigError, match="cannot be read: Not a directory"):
        load_config(home, environ={})


def test_a_link_that_leads_nowhere_is_not_taken_for_no_file(home: Home) -> None:
    """The defaults in the place of what was configured would be a surprise."""
    home.config_file.symlink_to("/nowhere/oubliette.jsonc")

    with pytest.raises(ConfigError, match="is a link that leads nowhere"):
        load_config(home, environ={})


def test_a_hostile_key_does_nothing_to_the_terminal(problems: Problems) -> None:
    """Keys are printed, and could hold escape sequences."""
    text = r'{"containers": {"\u001b[2J": "x", "\ud800\u009b": "y"}, "defaults": {"container": {"type": "ml"}}}'
    lines = problems(text)

    assert 3 == len(lines)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    "text",
    [
        '{"credentials": {"github": {"token": "canary-7f3a"}}}',
        '// JSON5\n{credentials: {providers: {x: "canary-7f3a"}}}',
        '{"agents": {"opencode": {"env": {"KEY": "canary-7f3a"}}}}',
        '{"credentials": {"github": {"token": "${KEY}"}}}',
        '{"runtimes": {"docker": {"token": "canary-7f3a"}}}',
        '{"runtimes": {"docker": {"host": "tcp://user:canary-7f3a@host"}}}',
        '{"defaults": {"container": {"env": {"API_KEY": "canary-7f3a"}}}}',
    ],
)
def test_a_loaded_secret_is_nowhere_to_be_seen(load: Load, text: str) -> None:
    """Neither in what is printed for debugging nor in what ``config show`` prints."""
    loaded = load(text, {"KEY": CANARY})
    shown = [repr(loaded), str(loaded), f"{loaded.config}", *map(repr, loaded.settings()), repr(attrs.fields(Config))]

    assert [] == [text for text in shown if CANARY in text]
    assert any("***" in setting.text for setting in loaded.settings())


@pytest.mark.parametrize(
    "text",
    [
        '{"credentials": {"github": {"token": "canary-7f3a"}}, "runtim": 1}',
        '{"credentials": {"github": {"token": "${KEY}", "x": 1}}}',
        '{"credentials": {"github": {"token": "canary-7f3a"}}, "runtime": "x"',
        '{"credentials": {"github": "canary-7f3a"}}',
        '{"credentials": {"github": {"token": "canary-7f3a", "token": "canary-7f3a"}}}',
        '// JSON5\n{credentials: {github: {token: "canary-7f3a\n"}}}',
    ],
)
def test_an_error_gives_no_secret_away(home: Home, text: str) -> None:
    """Not even in a traceback that prints the local variables of our frames, as crash reports do."""
    home.config_file.write_text(text)
    home.config_file.chmod(0o600)
    error = _error_of(home)
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    ours = [frame for frame in report.stack if "oubliette_core" in frame.filename]

    assert ours
    assert [] == [frame for frame in ours if CANARY in str(frame.locals)]
    assert CANARY not in "".join(traceback.format_exception(error))
    assert CANARY not in repr((error, error.problems, error.hint, vars(error)))
    assert (None, None) == (error.__cause__, error.__context__)


def _error_of(home: Home) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(home, environ={"KEY": CANARY})
    return caught.value


def _imported(home: Home, *modules: str) -> list[str]:
    program = (
        "import sys; from pathlib import Path; from oubliette_core.config import Home, load_config\n"
        f"load_config(Home(path=Path({str(home.path)!r})), environ={{}})\n"
        f"print(*({set(modules)!r} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return sorted(run.stdout.split())


def test_a_known_configuration_is_loaded_without_the_parser(load: Load, home: Home) -> None:
    """Every command loads it, and most take less time than the import."""
    load('// JSON5\n{"containers": {"ml": "x"}}')

    assert ["cattrs"] == _imported(home, "json5", "cattrs", "typer", "rich", "filelock")


def test_the_template_is_loaded_without_the_converter(home: Home) -> None:
    """It says nothing, so there is nothing to check."""
    write_template(home)
    load_config(home, environ={})

    assert [] == _imported(home, "json5", "cattrs", "typer", "rich", "filelock")


def test_a_section_that_is_none_is_not_taken_for_an_empty_one(problems: Problems) -> None:
    """The short way past the converter lets no mistake through."""
    for text in (
        '{"servr": {}}',
        '{"runtime": {}}',
        '{"server": {"port": {}}}',
        '{"server": []}',
        '{"default_type": {}}',
    ):
        assert 1 == len(problems(text))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_configuration_of_somebody_else_is_refused(load: Load, home: Home) -> None:
    """Whoever owns it decides what runs."""
    load("{}")
    os.chown(home.config_file, 4242, -1)

    with pytest.raises(ConfigError, match="belongs to somebody else"):
        load_config(home, environ={})
