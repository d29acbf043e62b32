"""The logins of the docker CLI, as an engine takes them: in a header of the request."""

from __future__ import annotations

import base64
import json
import logging
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.errors import ImagePullError
from oubliette_core.logins import DockerLogins
from oubliette_core.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core import logins
    from oubliette_core.models import Cancel
    from oubliette_docker._endpoint import Surroundings

__all__ = ["Credentials", "Login"]

_log = logging.getLogger(__name__)


@attrs.frozen(kw_only=True)
class Login:
    """What a registry is asked with.

    :param headers: for the engine; empty for a pull without login. :param source: where it comes from, for people.
    """

    headers: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    source: str = "no login"


class Credentials:
    """The logins of the docker CLI. Read anew for every pull, so that a new login counts at once."""

    def __init__(self, around: Surroundings) -> None:
        self._logins = DockerLogins(around.environ, around.docker_config)

    def for_image(self, image: str, cancel: Cancel | None) -> Login:
        """Return the login for the registry of ``image``.

        :raises ImagePullError: somebody logged in to it, and the helper that has the login fails.
        :raises OperationCancelledError: ``cancel`` came first.
        """
        registry = Reference.parse(image).normalised().registry
        found = self._logins.find(registry, image, cancel)
        if found is None:
            return Login()
        return Login(headers={"X-Registry-Auth": _encoded(_fields(found))}, source=found.source)

    def for_build(self, cancel: Cancel | None) -> Mapping[str, str]:
        """Return the header with the logins for all registries that there is one for."""
        known: dict[str, Any] = {}
        for registry in self._logins.registries():
            try:
                found = self._logins.find(registry, registry, cancel)
            except ImagePullError as error:
                _log.warning("building without a login to %s: %s", registry, error.message)
                continue
            if found is not None:
                known[found.server] = _fields(found)
        return {"X-Registry-Config": _encoded(known)} if known else {}


def _fields(login: logins.Login) -> dict[str, str]:
    if login.identity_token:
        return {"identitytoken": login.identity_token, "serveraddress": login.server}
    return {"username": login.username, "password": login.password, "serveraddress": login.server}


def _encoded(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode("ascii")
