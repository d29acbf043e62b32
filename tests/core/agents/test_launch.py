"""What the configuration has for an agent, and how it gets there."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest

from oubliette_core.agents.launch import prepare
from oubliette_core.config import (
    AgentDefaults,
    Config,
    CredentialsConfig,
    DefaultsConfig,
    ModelConfig,
    ProviderCredentials,
    Secret,
)
from oubliette_core.errors import ConfigError, InvalidValueError

PROVIDERS = {
    "anthropic": ProviderCredentials(api_key=Secret("key-of-anthropic")),
    "openai": ProviderCredentials(api_key=Secret("key-of-openai"), base_url="https://proxy.example.com/v1"),
    "local": ProviderCredentials(api_key=Secret("key-of-local"), base_url="http://127.0.0.1:1/v1"),
}
MODELS = {
    "sonnet": ModelConfig(provider="anthropic", model="claude-sonnet-4-5"),
    "tiny": ModelConfig(provider="local", model="tiny/one"),
}


def config(**agent: Any) -> Config:
    """Make a configuration with providers and models; the agents are those that are shipped."""
    return Config(
        credentials=CredentialsConfig(providers=PROVIDERS),
        models=MODELS,
        defaults=DefaultsConfig(agent=AgentDefaults(**agent)),
    )


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("gemini", {"GEMINI_MODEL": "claude-sonnet-4-5"}),
        ("claude", {"ANTHROPIC_API_KEY": "key-of-anthropic", "ANTHROPIC_MODEL": "claude-sonnet-4-5"}),
        ("codex", {"OPENAI_API_KEY": "key-of-openai", "OPENAI_BASE_URL": "https://proxy.example.com/v1"}),
        (
            "goose",
            {
                "ANTHROPIC_API_KEY": "key-of-anthropic",
                "OPENAI_API_KEY": "key-of-openai",
                "OPENAI_HOST": "https://proxy.example.com/v1",
                "GOOSE_MODEL": "claude-sonnet-4-5",
                "GOOSE_PROVIDER": "anthropic",
            },
        ),
    ],
)
def test_each_agent_gets_what_its_entry_names(agent: str, expected: dict[str, str]) -> None:
    """The keys of its providers, where they are, and the model; nothing of anybody else's."""
    launch = prepare(config(name=agent, model="sonnet"))

    assert expected == dict(launch.env)
    assert ("anthropic/claude-sonnet-4-5", "medium") == (launch.model, launch.autonomy)


def _opencode(launch_env: Any) -> dict[str, Any]:
    return dict(json.loads(launch_env["OPENCODE_CONFIG_CONTENT"]))


def test_opencode_gets_a_configuration_of_its_own() -> None:
    """Providers that it knows by their variables, others in full, with their models."""
    launch = prepare(config(model="tiny"))
    written = _opencode(launch.env)

    assert ("key-of-anthropic", "key-of-openai") == (launch.env["ANTHROPIC_API_KEY"], launch.env["OPENAI_API_KEY"])
    assert "local/tiny/one" == written["model"]
    assert {"options": {"baseURL": "https://proxy.example.com/v1"}} == written["provider"]["openai"]
    assert {
        "options": {"baseURL": "http://127.0.0.1:1/v1", "apiKey": "key-of-local"},
        "npm": "@ai-sdk/openai-compatible",
        "name": "local",
        "models": {"tiny/one": {}},
    } == written["provider"]["local"]
    assert "anthropic" not in written["provider"]


@pytest.mark.parametrize(
    ("autonomy", "permission"), [("off", "ask"), ("low", "ask"), ("medium", "ask"), ("high", "allow")]
)
def test_opencode_is_told_to_ask(autonomy: str, permission: str) -> None:
    """By itself it would not; what it asks is answered by what is configured."""
    assert {"*": permission} == _opencode(prepare(config(), autonomy=autonomy).env)["permission"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("sonnet", "anthropic/claude-sonnet-4-5"),
        ("openai/gpt-5", "openai/gpt-5"),
        ("some-model", "some-model"),
        ("", ""),
    ],
)
def test_a_model_is_one_of_ours_or_named_as_its_provider_does(given: str, expected: str) -> None:
    """With the provider in front of a slash."""
    assert expected == prepare(config(), model=given).model


def test_an_address_that_the_agent_cannot_be_told_is_an_error() -> None:
    """It would use another than the one that was meant."""
    with pytest.raises(ConfigError, match="agent claude cannot be told the address of provider local") as caught:
        prepare(config(name="claude", model="tiny"))

    assert "agents.claude.urls.local" in caught.value.hint


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """Or the nearest."""
    with pytest.raises(InvalidValueError, match="no agent 'cluade'; did you mean claude"):
        prepare(config(), agent="cluade")
    with pytest.raises(InvalidValueError, match="no agent 'xyz'; there are: opencode, gemini, claude, codex, goose"):
        prepare(config(), agent="xyz")


def test_nothing_of_it_is_printed() -> None:
    """Nor are the texts forgotten that must not be written down."""
    launch = prepare(config(name="claude"))

    assert "key-of" not in repr(launch)
    assert {"key-of-anthropic", "key-of-openai", "key-of-local"} == set(launch.secrets)
    assert "key-of" not in repr(attrs.evolve(launch, model="x"))
