"""The schema fits the contract that it configures, and every setting is explained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import attrs
import pytest

from oubliette_core import _guard, config
from oubliette_core.config import AgentConfig, Config, ContainerDefaults, ContainerTypeConfig
from oubliette_core.models import ContainerSpec, ContainerType, PullPolicy
from oubliette_core.reference import Reference


def _sections() -> list[type[attrs.AttrsInstance]]:
    names = [getattr(config, name) for name in config.__all__]
    return [kind for kind in names if isinstance(kind, type) and attrs.has(kind) and _is_section(kind)]


def _is_section(kind: type[attrs.AttrsInstance]) -> bool:
    return kind.__module__ == Config.__module__


def _reached(kind: Any) -> Iterator[type]:
    """Yield every section that can be reached from ``kind``."""
    if isinstance(kind, type) and attrs.has(kind):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from _reached(hint)
    for argument in get_args(kind):
        yield from _reached(argument)


def test_every_section_is_public() -> None:
    """Whoever builds a configuration in code needs its class."""
    assert {kind.__name__ for kind in _reached(Config)} == {kind.__name__ for kind in _sections()}


@pytest.mark.parametrize("section", _sections())
def test_every_setting_is_explained(section: type[attrs.AttrsInstance]) -> None:
    """The words go into the template and the reference."""
    unexplained = [field.name for field in attrs.fields(section) if not field.metadata["words"].endswith((".", '".'))]

    assert [] == unexplained


@pytest.mark.parametrize("section", _sections())
def test_sections_are_frozen_and_keyword_only(section: type[attrs.AttrsInstance]) -> None:
    """A configuration does not change while it is in use."""
    assert all(field.kw_only for field in attrs.fields(section))
    assert "__dict__" not in dir(section)


def test_a_type_has_the_fields_of_the_models() -> None:
    """What the model knows can be configured, and the other way round."""
    model = {field.name for field in attrs.fields(ContainerType)} - {"name"}

    assert model == {field.name for field in attrs.fields(ContainerTypeConfig)}


def test_a_type_becomes_the_model() -> None:
    """With the name that it stands under."""
    entry = ContainerTypeConfig(image="x", pull=PullPolicy.NEVER, platform="linux/arm64", command=("image",))

    assert ContainerType(
        name="ml", image="x", pull=PullPolicy.NEVER, platform="linux/arm64", command=("image",)
    ) == entry.to_type("ml")


def test_the_containers_section_has_the_names_of_the_specification() -> None:
    """`ContainerSpec.preferred` speaks of the same fields."""
    specification = {field.name for field in attrs.fields(ContainerSpec)}

    assert {"type"} == {field.name for field in attrs.fields(ContainerDefaults)} - specification


def test_the_defaults_can_be_run() -> None:
    """The guard before every runtime lets them through."""
    defaults = attrs.asdict(Config().defaults.container)
    del defaults["type"]

    assert _guard.container_spec(ContainerSpec(image="x:latest", **defaults)) == ContainerSpec(
        image="x:latest", **defaults
    )


def test_a_setting_that_can_weaken_a_container_is_secure_by_default() -> None:
    """Few capabilities, no way to gain privileges, a limit of processes, no network of the host."""
    container = Config().defaults.container

    assert ("ALL",) == container.drop_capabilities
    assert {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL"} == set(container.add_capabilities)
    assert container.no_new_privileges
    assert container.pids
    assert "default" == container.network
    assert "127.0.0.1" == Config().server.host


def test_the_default_types_are_base_and_dev() -> None:
    """The images that are shipped."""
    assert {
        "base": "ghcr.io/hyphagroup/oubliette-base:latest",
        "dev": "ghcr.io/hyphagroup/oubliette-dev:latest",
    } == {name: str(Reference.parse(kind.image)) for name, kind in Config().container_types.items()}


def test_the_default_type_is_the_one_named_or_the_first() -> None:
    """There is always one."""
    entry = ContainerTypeConfig(image="x")
    named = attrs.evolve(Config().defaults, container=ContainerDefaults(type="b"))

    assert "base" == Config().default_type
    assert "a" == Config(containers={"a": entry, "b": entry}).default_type
    assert "b" == Config(containers={"a": entry, "b": entry}, defaults=named).default_type


def test_the_default_agent_is_shipped() -> None:
    """And each shipped one has a command."""
    assert Config().defaults.agent.name in Config().agents
    assert ["opencode", "gemini", "claude", "codex", "goose"] == list(Config().agents)
    assert all(isinstance(agent, AgentConfig) and agent.command for agent in Config().agents.values())
