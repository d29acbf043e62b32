"""File, environment and command line are laid over each other, and names that refer to nothing are found."""

from __future__ import annotations

from typing import Any

import pytest

from oubliette_core.config import ENVIRONMENT, Config, Source
from oubliette_core.config.document import Document
from oubliette_core.config.keypath import format_path
from oubliette_core.config.layers import Layers, Variables, apply_dev, lay
from oubliette_core.models import PullPolicy
from tests.core.config.conftest import Load, Problems


def _lay(tree: dict[str, Any], environ: dict[str, str] | None = None, **overrides: object) -> Layers:
    return lay(Document(tree=tree), Variables(environ or {}), overrides)


def test_short_forms_are_the_same_as_the_long_ones() -> None:
    """What is written often is written short."""
    tree = {
        "containers": {"ml": "x/ml"},
        "models": {"sonnet": "anthropic/claude/4"},
        "credentials": {"providers": {"anthropic": "${KEY}"}},
    }

    assert {
        "containers": {"ml": {"image": "x/ml"}},
        "models": {"sonnet": {"provider": "anthropic", "model": "claude/4"}},
        "credentials": {"providers": {"anthropic": {"api_key": "${KEY}"}}},
    } == _lay(tree).tree


def test_a_model_without_its_provider_is_a_problem(problems: Problems) -> None:
    """The provider decides which key is used."""
    assert ["models.sonnet.provider: is required (line 1)"] == problems('{"models": {"sonnet": "claude"}}')


def test_the_command_line_is_stronger_than_the_environment_and_that_than_the_file() -> None:
    """The nearer to the call, the stronger."""
    layers = _lay({"runtime": "a", "server": {"host": "x", "port": 1}}, {"CONTAINER_RUNTIME": "b"}, runtime="c")

    assert {"runtime": "c", "server": {"host": "x", "port": 1}} == layers.tree
    assert Source.COMMAND_LINE is layers.sources[("runtime",)]
    assert Source.FILE is layers.sources[("server", "host")]


@pytest.mark.parametrize(("name", "path"), ENVIRONMENT.items())
def test_variables_stand_for_settings(name: str, path: str) -> None:
    """Services are configured by their environment."""
    layers = _lay({}, {name: "12"})
    keys = tuple(path.split("."))

    assert {keys: Source.ENVIRONMENT} == layers.sources
    assert {keys: f"from {name}"} == layers.origins


def test_an_empty_variable_counts_as_not_set() -> None:
    """As everywhere on Unix."""
    assert {} == _lay({}, dict.fromkeys(ENVIRONMENT, "")).tree


def test_a_problem_names_the_variable_that_it_comes_from(problems: Problems) -> None:
    """In the file there would be nothing to find."""
    assert [
        "server.port: expected a port from 1 to 65535, or 0 for any free one, not 'http' (from OUBLIETTE_SERVER_PORT)"
    ] == problems("{}", {"OUBLIETTE_SERVER_PORT": "http"})


def test_a_problem_on_the_command_line_says_so(problems: Problems) -> None:
    """The user has just typed it."""
    path = "defaults.container.memory"

    assert [
        f'{path}: expected a size in bytes, or a text such as "512m" or "2GiB", not \'x\' (from the command line)'
    ] == problems("{}", overrides={path: "x"})


def test_a_problem_within_what_the_command_line_says_comes_from_there(problems: Problems) -> None:
    """One override can be a whole object."""
    lines = problems("{}", overrides={"containers": {"ml": {"image": "X"}}})

    assert [True] == [line.endswith("(from the command line)") for line in lines]


def test_a_secret_has_no_place_on_the_command_line(problems: Problems) -> None:
    """Everybody on the machine can read it there."""
    path = "credentials.github.token"

    assert [f"{path}: a secret has no place on a command line"] == problems("{}", overrides={path: "canary"})


def test_what_is_in_the_way_of_an_override_is_the_problem(problems: Problems) -> None:
    """The command line does not hide what is wrong with the file."""
    text = '{"server": 5}'

    assert ["server: expected an object, not a number (line 1)"] == problems(text, overrides={"server.port": 1})


@pytest.mark.parametrize("text", ["1", "true", "YES", "on"])
def test_dev_mode_is_turned_on(load: Load, text: str) -> None:
    """As people write it."""
    assert load("{}", {"OUBLIETTE_DEV": text}).dev


@pytest.mark.parametrize("text", ["", "0", "false", "No", "off"])
def test_dev_mode_is_turned_off(load: Load, text: str) -> None:
    """A variable that is set to 0 does not mean yes."""
    assert not load("{}", {"OUBLIETTE_DEV": text}).dev


def test_dev_mode_that_is_neither_is_a_problem(problems: Problems) -> None:
    """Guessing would pull images, or would not."""
    assert ["the environment variable OUBLIETTE_DEV: expected 1 or 0"] == problems("{}", {"OUBLIETTE_DEV": "maybe"})


def test_dev_mode_uses_local_images_in_place_of_the_default_ones() -> None:
    """``build.sh`` has made them."""
    config, sources = apply_dev(Config(), {})

    assert {
        "base": ("oubliette-base:latest", PullPolicy.NEVER),
        "dev": ("oubliette-dev:latest", PullPolicy.NEVER),
    } == {name: (kind.image, kind.pull) for name, kind in config.container_types.items()}
    assert Source.ENVIRONMENT is sources[("containers", "base", "image")]


def test_dev_mode_leaves_the_users_own_types_and_pulls_none(load: Load) -> None:
    """Whoever names an image means that one."""
    loaded = load('{"containers": {"ml": {"image": "x/ml", "pull": "always"}}}', {"OUBLIETTE_DEV": "1"})

    assert {"ml": ("x/ml", PullPolicy.NEVER)} == {
        name: (kind.image, kind.pull) for name, kind in loaded.config.container_types.items()
    }
    assert Source.FILE is loaded.source_of("containers.ml.image")
    assert Source.ENVIRONMENT is loaded.source_of("containers.ml.pull")


def test_an_agent_of_the_users_changes_the_shipped_one(load: Load) -> None:
    """A variable more does not mean to repeat the command."""
    agents = load('{"agents": {"claude": {"env": {"A": "b"}}, "mine": {"command": ["mine"]}}}').config.agents

    assert ("claude-agent-acp",) == agents["claude"].command
    assert "b" == agents["claude"].env["A"].reveal()
    assert ("mine",) == agents["mine"].command
    assert Config().agents["gemini"] == agents["gemini"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '{"defaults": {"container": {"type": "deb"}}}',
            "defaults.container.type: there is no 'deb'; did you mean dev? (line 1)",
        ),
        (
            '{"containers": {"ml": "x"}, "defaults": {"container": {"type": "base"}}}',
            "defaults.container.type: there is no 'base'; configured are ml (line 1)",
        ),
        (
            '{"defaults": {"agent": {"name": "opencod"}}}',
            "defaults.agent.name: there is no 'opencod'; did you mean opencode? (line 1)",
        ),
        (
            '{"defaults": {"agent": {"model": "sonnet"}}}',
            "defaults.agent.model: there is no 'sonnet'; configured are none (line 1)",
        ),
        (
            '{"server": {"tls_key": "/key"}}',
            "server.tls_key: tls_certificate and tls_key are only of use together (line 1)",
        ),
    ],
)
def test_names_that_refer_to_nothing_are_problems(problems: Problems, text: str, problem: str) -> None:
    """They would fail when somebody needs them."""
    assert [problem] == problems(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"containers": {"ml": "x"}, "defaults": {"container": {"type": "ml"}}}',
        '{"agents": {"mine": {"command": ["mine"]}}, "defaults": {"agent": {"name": "mine"}}}',
        '{"defaults": {"agent": {"model": "anthropic/claude"}}}',
        '{"models": {"sonnet": "anthropic/claude"}, "defaults": {"agent": {"model": "sonnet"}}}',
        '{"server": {"tls_key": "/key", "tls_certificate": "/certificate"}}',
    ],
)
def test_names_that_refer_to_something_are_none(load: Load, text: str) -> None:
    """The counterpart of the test above."""
    assert load(text).sources


def test_the_environment_does_not_show_itself() -> None:
    """It is a local variable of many functions."""
    assert "canary" not in repr(Variables({"KEY": "canary"}))


def test_paths_of_all_sources_can_be_printed() -> None:
    """Whatever keys the user invents."""
    tree = {"registries": {"mirrors": {"docker.io": "x.io"}}}

    assert ['registries.mirrors."docker.io"'] == [format_path(path) for path in _lay(tree).sources]
