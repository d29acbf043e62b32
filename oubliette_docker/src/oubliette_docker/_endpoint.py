"""Finding the engine, as the docker CLI does, and then where Podman, Colima and the desktops put their sockets.

In this order: ``runtimes.docker`` in the configuration, ``DOCKER_HOST``, ``DOCKER_CONTEXT``, the current context of the
docker CLI, sockets at known places. Contexts are read here and not by docker-py, which takes another engine when a
context does not exist, looks for contexts below the current directory when there is no configuration, and costs more
time to import than most calls take.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import attrs

from oubliette_core.errors import ConfigError, RuntimeUnavailableError

__all__ = ["Endpoint", "Options", "Surroundings", "TlsFiles", "find_endpoint", "parse_options"]

DEFAULT_SOCKET = "/var/run/docker.sock"
_SECTION = "runtimes.docker"
_PEM = ("ca.pem", "cert.pem", "key.pem")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*|[0-9A-Fa-f:.]+")
_REMOTE_SOCKET = re.compile(r"(?:/[A-Za-z0-9_.-]+)+")


@attrs.frozen(kw_only=True)
class TlsFiles:
    """What a TLS connection to an engine is made with; an empty path stands for no such file.

    :param verify: whether the engine has to prove with a certificate that it is the host we asked for.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


@attrs.frozen(kw_only=True)
class Endpoint:
    """Where an engine is.

    :param url: ``unix:///path``, ``tcp://host:port`` or ``ssh://[user@]host[:port][/path]``.
    :param origin: what named it, for people. :param is_guess: nobody named it, and nothing is there.
    """

    url: str
    origin: str = ""
    tls: TlsFiles | None = None
    is_guess: bool = False

    @property
    def path(self) -> str:
        """Path of the unix socket."""
        return self.url.removeprefix("unix://")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of a ``tcp://`` endpoint."""
        parts = urlsplit(self.url)
        return parts.hostname or "localhost", parts.port or (2375 if self.tls is None else 2376)


@attrs.frozen(kw_only=True)
class Options:
    """The section ``runtimes.docker`` of the configuration.

    :param host: address of the engine, as in ``DOCKER_HOST``. :param context: a context of the docker CLI.
    :param tls: for a ``tcp://`` host.
    """

    host: str = ""
    context: str = ""
    tls: TlsFiles | None = None


@attrs.frozen(kw_only=True)
class Surroundings:
    """What the search looks at besides the options."""

    environ: Mapping[str, str] = attrs.field(factory=lambda: os.environ)
    home: Path = attrs.field(factory=lambda: Path(os.path.expanduser("~")))  # noqa: PTH111 - Path.home() may raise
    uid: int = attrs.field(factory=os.getuid)
    default_socket: str = DEFAULT_SOCKET

    @property
    def docker_config(self) -> Path:
        """The docker CLI's directory."""
        given = self.environ.get("DOCKER_CONFIG")
        return Path(given) if given else self.home / ".docker"


# -- Options ----------------------------------------------------------------------------------------------------------


def parse_options(raw: Mapping[str, Any]) -> Options:
    """Check the section of the configuration.

    :raises ConfigError: with every problem that was found.
    """
    problems = list(_unknown_keys(raw, ("host", "context", "tls"), _SECTION))
    host, context = (_text(raw, name, _SECTION, problems) for name in ("host", "context"))
    tls = _tls_options(raw.get("tls"), problems)
    if host:
        try:
            endpoint = _parse_url(host, "", tls)
        except ValueError as error:
            problems.append(f"{_SECTION}.host: {error}")
        else:
            if tls and not endpoint.url.startswith("tcp://"):
                problems.append(f"{_SECTION}.tls: only a tcp:// host is spoken to with TLS")
    elif tls:
        problems.append(f"{_SECTION}.tls: needs a {_SECTION}.host")
    if host and context:
        problems.append(f"{_SECTION}.context: give either a host or a context")
    if problems:
        raise ConfigError(f"the settings of the docker runtime are wrong: {'; '.join(problems)}", problems=problems)
    return Options(host=host, context=context, tls=tls)


def _tls_options(raw: Any, problems: list[str]) -> TlsFiles | None:
    if raw is None:
        return None
    section = f"{_SECTION}.tls"
    if not isinstance(raw, Mapping):
        problems.append(f"{section}: expected an object with ca, cert, key and verify")
        return None
    problems.extend(_unknown_keys(raw, ("ca", "cert", "key", "verify"), section))
    ca, cert, key = (_file(raw, name, section, problems) for name in ("ca", "cert", "key"))
    if bool(cert) != bool(key):
        problems.append(f"{section}: cert and key go together")
    verify = raw.get("verify", True)
    if not isinstance(verify, bool):
        problems.append(f"{section}.verify: expected true or false")
        verify = True
    return TlsFiles(ca=ca, cert=cert, key=key, verify=verify)


def _text(raw: Mapping[str, Any], name: str, section: str, problems: list[str]) -> str:
    value = raw.get(name, "")
    if isinstance(value, str):
        return value
    problems.append(f"{section}.{name}: expected text")
    return ""


def _file(raw: Mapping[str, Any], name: str, section: str, problems: list[str]) -> str:
    given = _text(raw, name, section, problems)
    path = Path(given).expanduser()
    if given and not path.is_absolute():
        problems.append(f"{section}.{name}: expected an absolute path, or one that begins with ~")
    elif given and not path.is_file():
        problems.append(f"{section}.{name}: there is no file {path}")
    return str(path) if given else ""


def _unknown_keys(raw: Mapping[str, Any], known: tuple[str, ...], section: str) -> Iterator[str]:
    for key in raw:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            advice = f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"
            yield f"{section}.{key}: unknown key; {advice}"


# -- The search -------------------------------------------------------------------------------------------------------


def find_endpoint(options: Options, around: Surroundings | None = None) -> Endpoint:
    """Return where the engine is. Nothing is connected to.

    :raises RuntimeUnavailableError: what names the engine is unreadable, malformed, or names a context that is absent.
    """
    around = around or Surroundings()
    environ = around.environ
    if options.host:
        return _parse_url(options.host, f"{_SECTION}.host", options.tls)
    if options.context:
        return _from_context(options.context, f"{_SECTION}.context", around)
    if environ.get("DOCKER_HOST"):
        try:
            return _parse_url(environ["DOCKER_HOST"], "DOCKER_HOST", _tls_of_environment(around))
        except ValueError as error:
            raise _unusable(f"DOCKER_HOST: {error}", "Correct DOCKER_HOST, or unset it.") from error
    if environ.get("DOCKER_CONTEXT"):
        return _from_context(environ["DOCKER_CONTEXT"], "DOCKER_CONTEXT", around)
    config = around.docker_config / "config.json"
    current = _read_json(config).get("currentContext") or ""
    if current:
        return _from_context(str(current), f"currentContext in {config}", around)
    return _from_sockets(around)


def _from_sockets(around: Surroundings) -> Endpoint:
    """Take the first socket that we may use; else the first that is there; else Docker's own, which is not."""
    there = [(path, origin) for path, origin in _known_sockets(around) if _is_socket(path)]
    usable = [found for found in there if os.access(found[0], os.R_OK | os.W_OK)]
    path, origin = (usable or there or [(around.default_socket, "the default socket")])[0]
    return Endpoint(url=f"unix://{path}", origin=origin, is_guess=not there)


def _known_sockets(around: Surroundings) -> Iterator[tuple[str, str]]:
    runtime_dir = around.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{around.uid}"
    colima = around.environ.get("COLIMA_HOME") or around.home / ".colima"
    yield around.default_socket, "the default socket"
    yield f"{runtime_dir}/docker.sock", "the socket of rootless Docker"
    yield f"{runtime_dir}/podman/podman.sock", "the socket of rootless Podman"
    if around.uid == 0:
        yield "/run/podman/podman.sock", "the socket of Podman"
    yield f"{colima}/default/docker.sock", "the socket of Colima"
    yield f"{around.home}/.config/colima/default/docker.sock", "the socket of Colima"
    yield f"{around.home}/.orbstack/run/docker.sock", "the socket of OrbStack"
    yield f"{around.home}/.rd/docker.sock", "the socket of Rancher Desktop"
    yield f"{around.home}/.docker/run/docker.sock", "the socket of Docker Desktop"
    yield f"{around.home}/.docker/desktop/docker.sock", "the socket of Docker Desktop"
    yield f"{around.home}/.local/share/containers/podman/machine/podman.sock", "the socket of a Podman machine"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False


def _tls_of_environment(around: Surroundings) -> TlsFiles | None:
    """Return what the docker CLI makes of DOCKER_TLS, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH."""
    environ = around.environ
    verify = bool(environ.get("DOCKER_TLS_VERIFY"))
    if not verify and not environ.get("DOCKER_TLS"):
        return None
    directory = Path(environ.get("DOCKER_CERT_PATH") or around.docker_config)
    return attrs.evolve(_tls_in(directory), verify=verify)


def _tls_in(directory: Path) -> TlsFiles:
    ca, cert, key = (str(path) if path.is_file() else "" for path in map(directory.joinpath, _PEM))
    return TlsFiles(ca=ca, cert=cert, key=key)


# -- Contexts ---------------------------------------------------------------------------------------------------------


def _from_context(name: str, origin: str, around: Surroundings) -> Endpoint:
    """Return the engine of a context of the docker CLI (``docker/cli:cli/context/store``)."""
    if name == "default":
        return attrs.evolve(_from_sockets(around), origin=f"context default of {origin}")
    contexts = around.docker_config / "contexts"
    identity = hashlib.sha256(name.encode()).hexdigest()
    file = contexts / "meta" / identity / "meta.json"
    if not file.is_file():
        raise _unusable(
            f"there is no docker context {name!r}, which {origin} names",
            "Choose one that exists (docker context ls), or remove the setting.",
        )
    endpoints = _read_json(file).get("Endpoints")
    docker = endpoints.get("docker") if isinstance(endpoints, Mapping) else None
    host = docker.get("Host") if isinstance(docker, Mapping) else None
    if not isinstance(docker, Mapping) or not isinstance(host, str) or not host:
        raise _unusable(f"docker context {name!r} has no docker endpoint", f"See {file}.")
    directory = contexts / "tls" / identity / "docker"
    skip_verify = bool(docker.get("SkipTLSVerify"))
    tls = attrs.evolve(_tls_in(directory), verify=not skip_verify) if skip_verify or directory.is_dir() else None
    try:
        return _parse_url(host, f"context {name} of {origin}", tls)
    except ValueError as error:
        raise _unusable(f"docker context {name!r}: {error}", f"See {file}.") from error


def _read_json(file: Path) -> Mapping[str, Any]:
    """Return what is in a file of the docker CLI's; nothing if there is no such file."""
    try:
        content = json.loads(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        # It may name another engine than the one that we would take without it.
        raise _unusable(f"{file} cannot be read: {error}", "Repair it, or set DOCKER_HOST.") from error
    if not isinstance(content, Mapping):
        raise _unusable(f"{file} is not a JSON object", "Repair it, or set DOCKER_HOST.")
    return content


def _unusable(message: str, hint: str) -> RuntimeUnavailableError:
    return RuntimeUnavailableError(message, runtime="docker", hint=hint)


# -- Addresses --------------------------------------------------------------------------------------------------------


def _parse_url(text: str, origin: str, tls: TlsFiles | None) -> Endpoint:
    """Take an address as in ``DOCKER_HOST`` apart.

    :raises ValueError: with the reason, for people.
    """
    if text.startswith("unix://"):
        if not text.startswith("unix:///") or "\0" in text:
            raise ValueError(f"{text!r} is not unix:// and an absolute path")
        return Endpoint(url=text, origin=origin)
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    shown = repr(text) if parts.password is None else "the address"
    if parts.scheme not in ("tcp", "http", "https", "ssh"):
        raise ValueError(f"{shown} has to begin with unix://, tcp:// or ssh://")
    _check_network_address(parts, shown)
    if parts.scheme == "ssh":
        return Endpoint(url=text.rstrip("/"), origin=origin)
    if parts.scheme == "https" and tls is None:
        tls = TlsFiles()
    return Endpoint(url=f"tcp://{parts.netloc}", origin=origin, tls=tls)


def _check_network_address(parts: SplitResult, shown: str) -> None:
    """Refuse what has no host, and what ssh could take for an option or a shell for a command."""
    if parts.password is not None:
        raise ValueError("the address contains a password: it would be seen in the list of processes")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname):
        raise ValueError(f"{shown} has no valid host name")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{shown} has no valid port") from None
    if parts.username is not None and (parts.scheme != "ssh" or not _USER.fullmatch(parts.username)):
        raise ValueError(f"{shown} has no valid user name")
    path = parts.path.rstrip("/")
    if path and (parts.scheme != "ssh" or not _REMOTE_SOCKET.fullmatch(path)):
        raise ValueError(f"{shown} has a path that is not allowed")
