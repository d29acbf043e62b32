"""What is shown of a configuration can be shown to anybody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.config import (
    Config,
    ContainerTypeConfig,
    CredentialsConfig,
    GithubCredentials,
    Secret,
    ServerConfig,
)
from oubliette_core.config.show import shown_values
from oubliette_core.models import PullPolicy


def test_every_value_is_plain_data() -> None:
    """``--json`` prints it as it is."""
    config = Config(
        containers={"ml": ContainerTypeConfig(image="x", pull=PullPolicy.ALWAYS, command=("a", "b"))},
        server=ServerConfig(tls_key=Path("/key")),
    )
    shown = dict(shown_values(config))

    assert "always" == shown[("containers", "ml", "pull")]
    assert ["a", "b"] == shown[("containers", "ml", "command")]
    assert "/key" == shown[("server", "tls_key")]
    assert {} == shown[("runtimes",)]
    assert shown == {path: json.loads(json.dumps(value)) for path, value in shown_values(config)}


def test_a_secret_is_masked() -> None:
    """That one is set can be seen."""
    config = Config(credentials=CredentialsConfig(github=GithubCredentials(token=Secret("canary"))))

    assert "***" == dict(shown_values(config))[("credentials", "github", "token")]
    assert None is dict(shown_values(Config()))[("credentials", "github", "token")]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"api_key": "x"}, {("api_key",): "***"}),
        ({"tls": {"clientPassword": "x", "verify": True}}, {("tls", "clientPassword"): "***", ("tls", "verify"): True}),
        ({"tokens": ["x", "y"]}, {("tokens",): ["***", "***"]}),
        ({"list": [{"secret": "x", "n": 1}]}, {("list",): [{"secret": "***", "n": 1}]}),
        ({"host": "ssh://me:pw@h:22/x"}, {("host",): "ssh://***@h:22/x"}),
        ({"host": "ssh://h:22/@x"}, {("host",): "ssh://h:22/@x"}),
        ({"host": None}, {("host",): None}),
    ],
)
def test_what_looks_like_a_secret_is_masked_too(options: dict[str, Any], shown: dict[tuple[str, ...], object]) -> None:
    """A runtime's own section has no schema that would say so."""
    values = {path[2:]: value for path, value in shown_values(Config(runtimes={"x": options})) if path[0] == "runtimes"}

    assert shown == values
