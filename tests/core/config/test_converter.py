"""What stands in the file is taken as it stands, or refused with its path: nothing is converted and nothing ignored."""

from __future__ import annotations

import pytest

from oubliette_core.config import Config, Secret
from oubliette_core.config.converter import SecretReader, structure
from oubliette_core.config.keypath import format_path
from oubliette_core.errors import ConfigError


def _problems(tree: dict[str, object]) -> dict[str, str]:
    config, problems = structure(tree, SecretReader(lambda name: {"SET": "value"}.get(name, "")))
    assert config is None
    return {format_path(problem.path): problem.text for problem in problems}


def _config(tree: dict[str, object]) -> Config:
    config, problems = structure(tree, SecretReader(lambda name: {"SET": "value"}.get(name, "")))
    assert not problems
    assert config
    return config


@pytest.mark.parametrize(
    ("tree", "path", "text"),
    [
        ({"runtime": 5}, "runtime", "expected a lower-case name of letters, digits, '.', '_' and '-', not 5"),
        ({"server": {"port": "80"}}, "server.port", "expected a port from 1 to 65535, or 0 for any free one, not '80'"),
        (
            {"server": {"port": True}},
            "server.port",
            "expected a port from 1 to 65535, or 0 for any free one, not true or false",
        ),
        ({"server": {"allow_plain_http": "false"}}, "server.allow_plain_http", "expected true or false, not 'false'"),
        ({"server": {"allow_plain_http": 1}}, "server.allow_plain_http", "expected true or false, not 1"),
        ({"server": {"allowed_hosts": "abc"}}, "server.allowed_hosts", "expected a list, not a text"),
        ({"server": {"allowed_hosts": ["a", 1]}}, "server.allowed_hosts[1]", "expected a text, not 1"),
        (
            {"server": {"log_level": "loud"}},
            "server.log_level",
            "expected one of debug, info, warning, error, not 'loud'",
        ),
        ({"server": []}, "server", "expected an object, not a list"),
        ({"server": None}, "server", "expected an object, not null"),
        ({"containers": ["a"]}, "containers", "expected an object, not a list"),
        ({"containers": {"ml": {}}}, "containers.ml.image", "is required"),
        (
            {"containers": {"ml": {"image": "x", "pull": "Always"}}},
            "containers.ml.pull",
            "expected one of missing, always, never, not 'Always'",
        ),
        ({"containers": {"a.b": {"image": 5}}}, 'containers."a.b".image', "expected an image reference, not 5"),
        ({"defaults": {"container": {"init": None}}}, "defaults.container.init", "expected true or false, not null"),
        ({"defaults": {"container": {"cpus": "2"}}}, "defaults.container.cpus", "expected a number, not '2'"),
        ({"defaults": {"container": {"cpus": float("nan")}}}, "defaults.container.cpus", "expected a number, not nan"),
        ({"defaults": {"container": {"pids": 1.5}}}, "defaults.container.pids", "expected a whole number, not 1.5"),
        ({"defaults": {"container": {"env": {"A": 1}}}}, "defaults.container.env.A", "expected a text, not 1"),
        ({"defaults": {"container": {"env": {"A": "\ud800"}}}}, "defaults.container.env.A", "is not valid text"),
        ({"defaults": {"container": {"env": {"A": "a\0b"}}}}, "defaults.container.env.A", "is not valid text"),
        ({"runtimes": {"docker": 5}}, "runtimes.docker", "expected an object, not a number"),
    ],
)
def test_each_problem_has_its_path_and_says_what_was_expected(tree: dict[str, object], path: str, text: str) -> None:
    """``false`` in quotes is not false, a text is not a list, and null is only what can be left out."""
    assert {path: text} == _problems(tree)


@pytest.mark.parametrize(
    ("tree", "path", "text"),
    [
        ({"runtim": "x"}, "runtim", "unknown key; did you mean runtime?"),
        ({"server": {"prot": 1}}, "server.prot", "unknown key; did you mean port?"),
        ({"registries": {"zzz": 1}}, "registries.zzz", "unknown key; known are mirrors"),
        (
            {"containers": {"ml": {"image": "x", "name": "y"}}},
            "containers.ml.name",
            "unknown key; known are image, pull, platform, command",
        ),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_known_one(tree: dict[str, object], path: str, text: str) -> None:
    """A misspelt limit would be no limit."""
    assert {path: text} == _problems(tree)


def test_all_problems_are_found_at_once() -> None:
    """Nobody wants to be told of one mistake after the other."""
    tree: dict[str, object] = {
        "server": {"port": -1, "rate_limit": 0, "hots": "x"},
        "containers": {"a": {"image": "X", "pull": 1}, "B": {"image": "x"}},
        "defaults": {"limits": {"turn_time": "soon", "exec_output": "much"}},
    }

    assert {
        "server.port",
        "server.rate_limit",
        "server.hots",
        "containers.a.image",
        "containers.a.pull",
        "containers.B",
        "defaults.limits.turn_time",
        "defaults.limits.exec_output",
    } == set(_problems(tree))


def test_a_runtimes_own_section_is_left_as_it_is() -> None:
    """Its plugin checks it."""
    options = {"host": "tcp://x", "deep": {"list": [1, None, {"x": 1.5}]}}

    assert options == _config({"runtimes": {"docker": options}}).runtimes["docker"]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("plain", "plain"),
        ("${SET}", "value"),
        ("Bearer ${SET}/${SET}", "Bearer value/value"),
        ("$${SET}", "${SET}"),
        ("$SET", "$SET"),
        ("a$", "a$"),
        ("", ""),
    ],
)
def test_secrets_take_variables_from_the_environment(raw: str, text: str) -> None:
    """Alone or within a text; ``$${`` is a plain ``${``."""
    token = _config({"credentials": {"github": {"token": raw}}}).credentials.github.token

    assert Secret(text) == token


@pytest.mark.parametrize(("raw", "literal"), [("plain", True), ("$${SET}", True), ("${SET}", False), ("", False)])
def test_a_secret_in_the_file_itself_is_noticed(raw: str, literal: bool) -> None:
    """The file has to be closed to others then."""
    reader = SecretReader(lambda name: {"SET": "value"}.get(name, ""))
    reader.read(raw)

    assert literal is reader.literals


@pytest.mark.parametrize("raw", ["${UNSET}", "Bearer ${UNSET}", "${SET}${UNSET}"])
def test_only_what_needs_a_secret_fails_without_its_variable(raw: str) -> None:
    """Whoever lists containers in another shell should not need the key of a model."""
    reader = SecretReader(lambda name: {"SET": "value"}.get(name, ""))
    secret = reader.read(raw)

    assert {"UNSET"} == reader.unset
    assert not secret
    with pytest.raises(ConfigError, match="UNSET is not set"):
        secret.reveal()


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("${canary x}", 'a "${" is not followed by the name of a variable and "}"; write "$${" for a plain "${"'),
        ("${canary", 'a "${" is not followed by the name of a variable and "}"; write "$${" for a plain "${"'),
        ("canary\0", "is not valid text"),
        (1234, 'expected a text such as "${NAME}", not a number'),
        (["canary"], 'expected a text such as "${NAME}", not a list'),
    ],
)
def test_a_problem_with_a_secret_never_repeats_it(raw: object, text: str) -> None:
    """The message goes to logs and screens."""
    assert {"credentials.github.token": text} == _problems({"credentials": {"github": {"token": raw}}})


@pytest.mark.parametrize(
    "tree",
    [
        {"credentials": "canary"},
        {"credentials": {"github": "canary"}},
        {"credentials": {"providers": {"x": ["canary"]}}},
        {"credentials": {"providers": {"x": {"base_url": "canary"}}}},
        {"agents": {"x": {"command": ["x"], "env": "canary"}}},
        {"agents": {"x": {"command": ["x"], "keys": {"openai": "sk-canary"}}}},
        {"agents": {"x": {"command": ["x"], "model_variable": "sk-canary"}}},
    ],
)
def test_a_secret_in_the_wrong_place_is_not_repeated(tree: dict[str, object]) -> None:
    """The likeliest mistakes put the key itself where an object, a URL or a variable's name belongs."""
    assert "canary" not in str(_problems(tree))


def test_nothing_else_takes_variables_from_the_environment() -> None:
    """A configuration that came from somewhere else must not carry the environment into a container."""
    tree: dict[str, object] = {"defaults": {"container": {"env": {"A": "${SET}"}}}}

    assert {"A": "${SET}"} == _config(tree).defaults.container.env
