"""The configuration and the home it lives in.

A front end finds the home and loads the configuration once, at the edge, where it has the environment and the command
line; everything else gets values::

    home = find_home(options.dir, environ=os.environ)
    loaded = load_config(home, environ=os.environ, overrides={"runtime": "docker"} if ... else {})
    manager = ImageManager(runtime, loaded.config.container_types, ...)
"""

from oubliette_core.config.home import Home, find_home, make_private_dir, write_private_file
from oubliette_core.config.layers import ENVIRONMENT, Source
from oubliette_core.config.loading import LoadedConfig, Setting, load_config
from oubliette_core.config.schema import (
    AgentConfig,
    AgentDefaults,
    Config,
    ContainerDefaults,
    ContainerTypeConfig,
    CredentialsConfig,
    DefaultsConfig,
    GithubCredentials,
    LimitsConfig,
    ModelConfig,
    ProviderCredentials,
    RegistriesConfig,
    ServerConfig,
)
from oubliette_core.config.secret import Secret
from oubliette_core.config.template import template_text, write_template

__all__ = [
    "ENVIRONMENT",
    "AgentConfig",
    "AgentDefaults",
    "Config",
    "ContainerDefaults",
    "ContainerTypeConfig",
    "CredentialsConfig",
    "DefaultsConfig",
    "GithubCredentials",
    "Home",
    "LimitsConfig",
    "LoadedConfig",
    "ModelConfig",
    "ProviderCredentials",
    "RegistriesConfig",
    "Secret",
    "ServerConfig",
    "Setting",
    "Source",
    "find_home",
    "load_config",
    "make_private_dir",
    "template_text",
    "write_private_file",
    "write_template",
]
