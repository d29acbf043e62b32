"""What an agent is started with: its command, and what the configuration has for it."""

from __future__ import annotations

import difflib
import json
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.config.redaction import secrets_of
from oubliette_core.errors import ConfigError, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oubliette_core.config import AgentConfig, Config

__all__ = ["Launch", "prepare"]

_OPENCODE_CONFIGURATION = "OPENCODE_CONFIG_CONTENT"
"""opencode takes a whole configuration from it, before which that of a project's own files has to give way."""
_OPENCODE_SDK = "@ai-sdk/openai-compatible"


@attrs.frozen(kw_only=True)
class Launch:
    """An agent to be started.

    :param agent: its name in the configuration. :param env: its variables, secrets among them.
    :param model: as the user named it, ``provider/model`` if it was one of the configuration's; or empty.
    :param secrets: texts that must not be written down.
    """

    agent: str
    command: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    model: str
    autonomy: str
    reasoning: str
    secrets: tuple[str, ...] = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class _Model:
    """A model: its provider and the provider's name for it, either of which may be empty."""

    provider: str = ""
    name: str = ""

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}" if self.provider else self.name


def prepare(
    config: Config, *, agent: str | None = None, model: str | None = None, autonomy: str | None = None
) -> Launch:
    """Put together what an agent is started with.

    :param agent: None for the default one; so for ``model`` and ``autonomy``.
    :raises InvalidValueError: there is no such agent or autonomy. :raises ConfigError: a secret that it is to get comes
        from a variable that is not set, or it cannot be told where the model's provider is.
    """
    defaults = config.defaults.agent
    name = defaults.name if agent is None else agent
    found = config.agents.get(name)
    if found is None:
        raise _unknown("agent", name, config.agents)
    chosen = _model(config, defaults.model if model is None else model)
    how = defaults.autonomy if autonomy is None else autonomy
    if how not in ("off", "low", "medium", "high"):
        raise _unknown("autonomy", how, ("off", "low", "medium", "high"))
    env = {variable: secret.reveal() for variable, secret in found.env.items()}
    env |= _credentials(config, found, chosen, name)
    if found.configuration == "opencode":
        env[_OPENCODE_CONFIGURATION] = json.dumps(_opencode(config, found, chosen, how))
    return Launch(
        agent=name,
        command=found.command,
        env=env,
        model=str(chosen),
        autonomy=how,
        reasoning=defaults.reasoning or "",
        secrets=tuple(secrets_of(config)),
    )


def _model(config: Config, name: str | None) -> _Model:
    if not name:
        return _Model()
    known = config.models.get(name)
    if known is not None:
        return _Model(provider=known.provider, name=known.model)
    provider, slash, rest = name.partition("/")
    return _Model(provider=provider, name=rest) if slash else _Model(name=name)


def _credentials(config: Config, agent: AgentConfig, model: _Model, name: str) -> dict[str, str]:
    """Return the variables that tell an agent its keys, its providers' addresses and its model."""
    env: dict[str, str] = {}
    for provider, known in config.credentials.providers.items():
        if known.api_key and provider in agent.keys:
            env[agent.keys[provider]] = known.api_key.reveal()
        if known.base_url and provider in agent.urls:
            env[agent.urls[provider]] = known.base_url
        elif known.base_url and provider == model.provider and agent.configuration == "none":
            raise ConfigError(
                f"agent {name} cannot be told the address of provider {provider}",
                hint=f"Name the variable that it reads it from: agents.{name}.urls.{provider}",
            )
    if model.name and agent.model_variable:
        env[agent.model_variable] = model.name
    if model.provider and agent.provider_variable:
        env[agent.provider_variable] = model.provider
    return env


def _opencode(config: Config, agent: AgentConfig, model: _Model, autonomy: str) -> dict[str, Any]:
    """Return opencode's own configuration (https://opencode.ai/docs/config).

    It asks for whatever it wants to do, and who answers is decided here; left to itself it would not ask.
    """
    settings: dict[str, Any] = {
        "autoupdate": False,
        "share": "disabled",
        "permission": {"*": "allow" if autonomy == "high" else "ask"},
    }
    if model.name:
        settings["model"] = str(model)
    providers: dict[str, Any] = {}
    for name, known in config.credentials.providers.items():
        options: dict[str, str] = {}
        if known.base_url:
            options["baseURL"] = known.base_url
        if known.api_key and name not in agent.keys:
            options["apiKey"] = known.api_key.reveal()
        if not options:
            continue
        providers[name] = {"options": options}
        if name not in agent.keys:  # one that opencode does not know has to be described in full
            wanted = {each.model for each in config.models.values() if each.provider == name}
            wanted |= {model.name} if model.provider == name else set()
            providers[name] |= {"npm": _OPENCODE_SDK, "name": name, "models": {each: {} for each in sorted(wanted)}}
    return {**settings, "provider": providers} if providers else settings


def _unknown(what: str, name: str, known: Iterable[str]) -> InvalidValueError:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return InvalidValueError(
        f"there is no {what} {name!r:.80}"
        + (f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(names)}"),
        value=f"{name!r:.80}",
    )
