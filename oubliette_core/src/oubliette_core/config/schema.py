# ruff: noqa: RUF009 - setting() is attrs.field() with words, and returns no value that could be shared
"""What can stand in ``oubliette.jsonc``: one frozen class a section.

The classes are the single source of the file's shape, its built-in defaults and the words that explain them: the
template that ``oubliette init`` writes, the example file and the reference page are made from this module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import attrs

from oubliette_core.config.forms import (
    AbsolutePath,
    Argv,
    Count,
    Duration,
    Host,
    Image,
    Mirror,
    ModelId,
    Name,
    Platform,
    Port,
    Registry,
    Size,
    TypeCommand,
    Url,
    VariableName,
    container_setting,
)
from oubliette_core.config.secret import Secret
from oubliette_core.models import ContainerType, PullPolicy

DEFAULT_IMAGES: Mapping[str, str] = {
    "base": "ghcr.io/hyphagroup/oubliette-base:latest",
    "dev": "ghcr.io/hyphagroup/oubliette-dev:latest",
}
"""The container types of a configuration that names none."""
DEV_IMAGES: Mapping[str, str] = {"base": "oubliette-base:latest", "dev": "oubliette-dev:latest"}
"""The same in dev mode: images that were built on this machine."""

_KEPT_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID", "KILL")

SHIPPED_AGENTS: Mapping[str, Mapping[str, Any]] = {
    "opencode": {
        "command": ("opencode", "acp"),
        "keys": {
            "anthropic": "ANTHROPIC_API_KEY",
            "google": "GOOGLE_GENERATIVE_AI_API_KEY",
            "openai": "OPENAI_API_KEY",
            "openrouter": "OPENROUTER_API_KEY",
        },
        "configuration": "opencode",
    },
    "gemini": {
        "command": ("gemini", "--acp"),
        "keys": {"google": "GEMINI_API_KEY"},
        "urls": {"google": "GOOGLE_GEMINI_BASE_URL"},
        "model_variable": "GEMINI_MODEL",
    },
    "claude": {
        "command": ("claude-agent-acp",),
        "keys": {"anthropic": "ANTHROPIC_API_KEY"},
        "urls": {"anthropic": "ANTHROPIC_BASE_URL"},
        "model_variable": "ANTHROPIC_MODEL",
    },
    "codex": {
        "command": ("codex-acp",),
        "keys": {"openai": "OPENAI_API_KEY"},
        "urls": {"openai": "OPENAI_BASE_URL"},
    },
    "goose": {
        "command": ("goose", "acp"),
        "keys": {
            "anthropic": "ANTHROPIC_API_KEY",
            "google": "GOOGLE_API_KEY",
            "openai": "OPENAI_API_KEY",
            "openrouter": "OPENROUTER_API_KEY",
        },
        "urls": {"anthropic": "ANTHROPIC_HOST", "openai": "OPENAI_HOST", "openrouter": "OPENROUTER_HOST"},
        "model_variable": "GOOSE_MODEL",
        "provider_variable": "GOOSE_PROVIDER",
    },
}
"""The agents that are known without configuration; an entry of the same name in the file changes what it names."""


def setting(
    words: str, default: object = attrs.NOTHING, *, factory: Any = None, example: Any = None, **options: Any
) -> Any:
    """Declare a field together with the words that explain it.

    :param example: what the template shows instead of the default: one that shows more, or is easier to read.
    """
    if factory is not None:
        options["factory"] = factory
    else:
        options["default"] = default
    return attrs.field(metadata={"words": words, "example": example}, **options)


def _only_names(mapping: Mapping[str, object]) -> str:
    """Print the keys alone: the values are a plugin's own, or may hold what should not be seen."""
    return repr(sorted(mapping))


@attrs.frozen(kw_only=True)
class ServerConfig:
    """Where and for whom ``oubliette serve`` listens."""

    host: Host = setting("Address to listen on. Anything but loopback needs TLS, or allow_plain_http.", "127.0.0.1")
    port: Port = setting("Port to listen on; 0 takes any free one.", 8080)
    allowed_hosts: tuple[str, ...] = setting("Host headers to accept, besides those of the loopback addresses.", ())
    allowed_origins: tuple[str, ...] = setting("Origin headers to accept, besides those of the loopback addresses.", ())
    tls_certificate: AbsolutePath | None = setting("Certificate chain (PEM); needs tls_key.", None)
    tls_key: AbsolutePath | None = setting("Private key of the certificate (PEM).", None)
    allow_plain_http: bool = setting("Listen on other addresses than loopback without TLS.", False)
    rate_limit: Count | None = setting("Calls a minute for each token; null for no limit.", 600)
    log_level: Literal["debug", "info", "warning", "error"] = setting("What the server's log records.", "info")


@attrs.frozen(kw_only=True)
class ContainerTypeConfig:
    """One container type: which image its projects run, and how."""

    image: Image = setting("Image reference.")
    pull: PullPolicy = setting("When to pull it: missing, always or never.", PullPolicy.MISSING)
    platform: Platform | None = setting("Platform of the image; null for the engine's own.", None)
    command: TypeCommand = setting(
        "What the container runs: idle (wait for commands), image (the image's own command) or a list of words.",
        ("idle",),
    )

    def to_type(self, name: str) -> ContainerType:
        """Return the container type called ``name`` that this entry describes."""
        return ContainerType(name=name, image=self.image, pull=self.pull, platform=self.platform, command=self.command)


@attrs.frozen(kw_only=True)
class RegistriesConfig:
    """Where images come from."""

    mirrors: Mapping[Registry, Mirror] = setting(
        "Registries to pull from instead of the one that an image names.",
        factory=dict,
        example={"ghcr.io": "registry.example.com/ghcr"},
    )


@attrs.frozen(kw_only=True)
class ContainerDefaults:
    """How containers are run.

    What is written here is required: a runtime that cannot enforce it refuses. The built-in defaults are preferred:
    a runtime that cannot enforce one runs the container without it and says so.
    """

    type: Name | None = setting("Container type of new projects that name none; null for the first one.", None)
    memory: Annotated[Size, container_setting("memory")] | None = setting(
        'Memory of each container, such as "4g"; null for no limit.', None
    )
    cpus: Annotated[float, container_setting("cpus")] | None = setting("Processor cores; null for no limit.", None)
    pids: Annotated[int, container_setting("pids")] | None = setting("Processes and threads; null for no limit.", 4096)
    user: Annotated[str, container_setting("user")] | None = setting(
        'User inside, a name or "uid:gid"; null for the one that shares files with you.', None
    )
    network: Annotated[str, container_setting("network")] = setting(
        "default (outgoing connections), none, host, or the name of a network of the engine.", "default"
    )
    init: bool = setting("Run an init process that reaps orphans.", True)
    read_only: bool = setting("Mount the image read-only; workspace and home stay writable.", False)
    no_new_privileges: bool = setting("Programs inside cannot gain privileges (setuid).", True)
    drop_capabilities: Annotated[tuple[str, ...], container_setting("drop_capabilities")] = setting(
        "Linux capabilities to take away, without CAP_.", ("ALL",)
    )
    add_capabilities: Annotated[tuple[str, ...], container_setting("add_capabilities")] = setting(
        "Linux capabilities to leave or give.", _KEPT_CAPABILITIES
    )
    env: Annotated[Mapping[str, str], container_setting("env")] = setting(
        "Environment variables of every container. They can be seen by everything inside: no place for secrets.",
        factory=dict,
        example={"TZ": "Europe/Berlin"},
        repr=_only_names,
    )


@attrs.frozen(kw_only=True)
class LimitsConfig:
    """How much a project may use, and for how long."""

    sessions: Count = setting("Agent sessions at work in one project at the same time.", 4)
    turn_time: Duration = setting("How long an agent may work on one message.", 3600.0, example="1h")
    idle_time: Duration = setting(
        "How long a session may wait for its next message before it is ended.", 1800.0, example="30m"
    )
    session_log: Size = setting(
        "How much is kept of what happened in each session; the oldest is dropped first.",
        16 * 2**20,
        example="16m",
    )
    exec_time: Duration = setting(
        "Deadline of a command run through the server that names none itself.", 600.0, example="10m"
    )
    exec_output: Size = setting(
        "How much of a command's output is kept; the rest is dropped.", 16 * 2**20, example="16m"
    )


@attrs.frozen(kw_only=True)
class AgentDefaults:
    """Which agent works, and how independently."""

    name: Name = setting("The agent: one of the section agents.", "opencode")
    model: ModelId | None = setting(
        'One of the section models, or "provider/model"; null for the agent\'s own choice.', None
    )
    autonomy: Literal["off", "low", "medium", "high"] = setting(
        "What it may do without asking: off (nothing), low (look), medium (change files, too) or high (everything).",
        "medium",
    )
    reasoning: Literal["low", "medium", "high"] | None = setting(
        "How long it thinks, where the model can be told; null for the model's own way.", None
    )


@attrs.frozen(kw_only=True)
class DefaultsConfig:
    """What holds for every project unless it is told otherwise."""

    container: ContainerDefaults = setting("How containers are run.", factory=ContainerDefaults)
    hardening: Literal["best", "strict"] = setting(
        "best leaves out what a runtime cannot enforce, and says so; strict refuses to run without it.", "best"
    )
    limits: LimitsConfig = setting("How much a project may use, and for how long.", factory=LimitsConfig)
    agent: AgentDefaults = setting("Which agent works, and how independently.", factory=AgentDefaults)


@attrs.frozen(kw_only=True)
class AgentConfig:
    """One agent that speaks the Agent Client Protocol on its standard input and output."""

    command: Argv = setting("Program and arguments, found inside the container.")
    env: Mapping[VariableName, Secret] = setting(
        'Environment variables for the agent; "${NAME}" is taken from the environment.', factory=dict
    )
    keys: Mapping[Name, VariableName] = setting(
        "Which provider's key it gets, in which environment variable.", factory=dict
    )
    urls: Mapping[Name, VariableName] = setting(
        "In which environment variable it is told a provider's base_url.", factory=dict
    )
    model_variable: VariableName | None = setting("The environment variable that tells it the model.", None)
    provider_variable: VariableName | None = setting(
        "The environment variable that tells it the model's provider.", None
    )
    configuration: Literal["none", "opencode"] = setting(
        "Format of its own configuration, through which it gets models and providers; none for no such thing.", "none"
    )


@attrs.frozen(kw_only=True)
class GithubCredentials:
    """Access to GitHub."""

    token: Secret | None = setting(
        "Token for cloning and for the tools in the containers.", None, example="${GITHUB_TOKEN}"
    )


@attrs.frozen(kw_only=True)
class ProviderCredentials:
    """Access to one provider of models."""

    api_key: Secret | None = setting("The key; null for a provider that needs none.", None)
    base_url: Url | None = setting("Where its API is, if not at the provider's usual address.", None)


@attrs.frozen(kw_only=True)
class CredentialsConfig:
    """Secrets. Write "${NAME}" to take one from the environment."""

    github: GithubCredentials = setting("Access to GitHub.", factory=GithubCredentials)
    providers: Mapping[Name, ProviderCredentials] = setting(
        "Providers of models: a key, or an object with api_key and base_url.",
        factory=dict,
        example={"anthropic": "${ANTHROPIC_API_KEY}", "local": {"base_url": "http://127.0.0.1:11434/v1"}},
    )


@attrs.frozen(kw_only=True)
class ModelConfig:
    """One model under a name of your own."""

    provider: Name = setting("A provider: one of credentials.providers, or one that the agent knows.")
    model: ModelId = setting("The provider's name for the model.")


def _default_containers() -> Mapping[str, ContainerTypeConfig]:
    return {name: ContainerTypeConfig(image=image) for name, image in DEFAULT_IMAGES.items()}


def _shipped_agents() -> Mapping[str, AgentConfig]:
    return {name: AgentConfig(**entry) for name, entry in SHIPPED_AGENTS.items()}


@attrs.frozen(kw_only=True)
class Config:
    """The whole configuration. ``Config()`` is what holds without a file."""

    runtime: Name = setting("The container runtime, or auto for the best one that can be used now.", "auto")
    runtimes: Mapping[Name, Mapping[str, Any]] = setting(
        "Settings of each runtime's own; the runtime's documentation names them.",
        factory=dict,
        example={"docker": {"host": "unix:///run/user/1000/docker.sock"}},
        repr=_only_names,
    )
    server: ServerConfig = setting("Where and for whom `oubliette serve` listens.", factory=ServerConfig)
    containers: Mapping[Name, ContainerTypeConfig] = setting(
        "Container types: an image reference, or an object with image, pull, platform and command. "
        "Types of your own replace base and dev, so write those that you want to keep as well.",
        factory=_default_containers,
        example={**DEFAULT_IMAGES, "ml": {"image": "registry.example.com/ml:v2", "pull": "always"}},
    )
    registries: RegistriesConfig = setting("Where images come from.", factory=RegistriesConfig)
    defaults: DefaultsConfig = setting(
        "What holds for every project unless it is told otherwise.", factory=DefaultsConfig
    )
    agents: Mapping[Name, AgentConfig] = setting(
        "Agents that speak the Agent Client Protocol. An entry changes what it names of the one shipped under its "
        "name, or adds one.",
        factory=_shipped_agents,
    )
    credentials: CredentialsConfig = setting(
        'Secrets: "${NAME}" is taken from the environment. With secrets in it, this file has to be yours alone (0600).',
        factory=CredentialsConfig,
    )
    models: Mapping[ModelId, ModelConfig] = setting(
        'Models under names of your own: "provider/model".',
        factory=dict,
        example={"sonnet": "anthropic/claude-sonnet-4-5"},
    )

    @property
    def container_types(self) -> Mapping[str, ContainerType]:
        """The container types by name, in the order of the configuration."""
        return {name: entry.to_type(name) for name, entry in self.containers.items()}

    @property
    def default_type(self) -> str:
        """The container type of a new project that names none."""
        return self.defaults.container.type or next(iter(self.containers))
