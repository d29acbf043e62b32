"""Logins to registries as the docker CLI keeps them: entries in its configuration, and credential helpers.

For runtimes that ask registries themselves, or have an engine ask them. Formats: the docker CLI's ``config.json``
(``auths``, ``credHelpers``, ``credsStore``) and the protocol of docker-credential-helpers.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ImagePullError, OperationCancelledError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core.models import Cancel

__all__ = ["DockerLogins", "Login", "trusted_path"]

HELPER_TIMEOUT = 10.0
"""Seconds that a credential helper gets."""
_HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_TOKEN_USER = "<token>"  # noqa: S105 - how helpers say that the secret is a token
_log = logging.getLogger(__name__)


def trusted_path(environ: Mapping[str, str]) -> str:
    """Return PATH without what depends on the current directory: that may be somebody else's repository."""
    here = os.path.realpath(".")
    entries = environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(
        entry
        for entry in entries
        if os.path.isabs(entry) and os.path.realpath(entry) != here  # noqa: PTH117 - entries are text
    )


@attrs.frozen(kw_only=True)
class Login:
    """What a registry is asked with: a user name and a password, or an identity token.

    :param server: the registry, as the docker CLI names it (Docker Hub by its old address).
    :param source: where the login comes from, for people.
    """

    server: str
    source: str
    username: str = ""
    password: str = attrs.field(default="", repr=False)
    identity_token: str = attrs.field(default="", repr=False)


class _HelperError(Exception):
    """A credential helper did not do its work; the message says which, and why."""


class DockerLogins:
    """The logins of the docker CLI. Read anew for every question, so that a new login counts at once.

    :param directory: the docker CLI's own; by default ``DOCKER_CONFIG``, or ``.docker`` in the home directory.
    """

    def __init__(self, environ: Mapping[str, str] | None = None, directory: Path | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        given = self._environ.get("DOCKER_CONFIG")
        # Path.home() may raise.
        home = os.path.expanduser("~")  # noqa: PTH111
        self.file = (directory or (Path(given) if given else Path(home) / ".docker")) / "config.json"

    def find(self, registry: str, image: str, cancel: Cancel | None = None) -> Login | None:
        """Return the login for a registry; None for none.

        :param registry: host with port; ``docker.io`` for Docker Hub. :param image: what errors are about.
        :raises ImagePullError: somebody logged in to it, and the helper that has the login fails.
        :raises OperationCancelledError: ``cancel`` came first.
        """
        config = self._config()
        entry = self._entry(config, registry)
        helper = _helper_of(config, registry)
        if helper:
            try:
                found = self._ask(helper, registry, cancel)
            except _HelperError as error:
                if entry == {}:
                    raise self._helper_failed(image, registry, error) from error
                _log.warning("%s; going on without it", error)
                found = None
            if found is not None:
                return found
        return (
            Login(server=_key(registry), source=f"the login for {registry} in {self.file}", **entry) if entry else None
        )

    def registries(self) -> tuple[str, ...]:
        """Return the registries that there may be a login for."""
        config = self._config()
        sections = (config.get("auths"), config.get("credHelpers"))
        keys = (key for section in sections if isinstance(section, dict) for key in section)
        return tuple(dict.fromkeys(_registry_of(key) for key in keys))

    def _config(self) -> Mapping[str, Any]:
        try:
            config = json.loads(self.file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s cannot be read, so registries are asked without a login: %s", self.file, error)
            return {}
        return config if isinstance(config, dict) else {}

    def _entry(self, config: Mapping[str, Any], registry: str) -> Mapping[str, str] | None:
        """Return the fields of the entry for a registry: None for no entry, none for one whose secret a helper has."""
        auths = config.get("auths")
        entries = auths if isinstance(auths, dict) else {}
        entry = next((entries[key] for key in entries if _registry_of(key) == registry), None)
        try:
            return None if entry is None else _fields(entry)
        except (ValueError, LookupError, TypeError, AttributeError, binascii.Error) as error:
            _log.warning("the auths in %s are damaged, and are not used: %s", self.file, type(error).__name__)
            return None

    def _helper_failed(self, image: str, registry: str, error: _HelperError) -> ImagePullError:
        return ImagePullError(
            f"image {image} could not be pulled: {error}",
            reason="unauthorized",
            subject=image,
            hint=f"Repair credsStore or credHelpers in {self.file}, or log in anew: docker login {registry}",
        )

    # -- Helpers ------------------------------------------------------------------------------------------------------

    def _ask(self, name: str, registry: str, cancel: Cancel | None) -> Login | None:
        """Ask a credential helper; None when it has nothing. :raises _HelperError: it does not work."""
        program = f"docker-credential-{name}"
        path = trusted_path(self._environ)
        found = shutil.which(program, path=path) if _HELPER_NAME.fullmatch(name) else None
        if found is None:
            raise _HelperError(f"{self.file} names the credential helper {program}, and there is no such program")
        environ = {**self._environ, "PATH": path}
        code, output = _run([found, "get"], _key(registry).encode(), environ, cancel)
        if code is None:
            raise _HelperError(f"the credential helper {program} did not answer within {HELPER_TIMEOUT:g} s")
        if code != 0:
            if b"credentials not found" in output.lower():
                return None
            raise _HelperError(f"the credential helper {program} failed with exit code {code}")
        try:
            answer = json.loads(output)
            user, secret = str(answer["Username"]), str(answer["Secret"])
        except (ValueError, LookupError, TypeError):
            raise _HelperError(f"the credential helper {program} gave an answer of an unknown form") from None
        login = Login(server=_key(registry), source=f"the login that {program} has for {registry}")
        if not secret:
            return None
        if user == _TOKEN_USER:
            return attrs.evolve(login, identity_token=secret)
        return attrs.evolve(login, username=user, password=secret)


def _run(
    command: list[str], text: bytes, environ: Mapping[str, str], cancel: Cancel | None
) -> tuple[int | None, bytes]:
    """Run a helper in a process group of its own; no exit code if it had to be killed."""
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(environ),
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + HELPER_TIMEOUT
        try:
            while time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    output, _ = process.communicate(text, timeout=0.5)
                    return process.returncode, output
                if cancel is not None and cancel.cancelled:
                    raise OperationCancelledError("the operation was cancelled")
            return None, b""
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def _fields(entry: Mapping[str, Any]) -> Mapping[str, str]:
    """Return an entry as the fields of a `Login`."""
    if entry.get("identitytoken"):
        return {"identity_token": str(entry["identitytoken"])}
    if entry.get("auth"):
        text = base64.b64decode(entry["auth"], validate=True).decode()
        username, colon, password = text.partition(":")
        if not colon:
            raise ValueError("no password")
        return {"username": username, "password": password.rstrip("\0")}
    if entry.get("username"):
        return {"username": str(entry["username"]), "password": str(entry.get("password") or "")}
    return {}


def _helper_of(config: Mapping[str, Any], registry: str) -> str:
    helpers = config.get("credHelpers")
    keys = (registry, _HUB_KEY, "index.docker.io") if registry == _HUB else (registry,)
    chosen = [helpers[key] for key in keys if key in helpers] if isinstance(helpers, dict) else []
    return str((chosen or [config.get("credsStore")])[0] or "")


def _key(registry: str) -> str:
    return _HUB_KEY if registry == _HUB else registry


def _registry_of(key: str) -> str:
    host = key.removeprefix("https://").removeprefix("http://").split("/", 1)[0]
    return _HUB if host == "index.docker.io" else host
