"""Image references: ``[registry[:port]/]repository[:tag][@digest]``.

The grammar is that of the OCI distribution specification and of ``distribution/reference``, which Docker, Podman,
containerd and Apple's ``container`` share. The first part is a registry if it has a dot or a colon or is
``localhost``; otherwise the name is one of Docker Hub's, or of an image that was built locally.
"""

from __future__ import annotations

import re
from typing import Self

import attrs

from oubliette_core.errors import InvalidReferenceError

__all__ = ["Reference"]

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_HOST_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]{{1,5}})?"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>{_HOST})/)?(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}))?"
)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")
_LONGEST_NAME = 255

DOCKER_HUB = "docker.io"
DEFAULT_TAG = "latest"


@attrs.frozen(kw_only=True)
class Reference:
    """One image reference, taken apart.

    :param registry: host with port, or empty where the text names none.
    :param tag: empty where the text names none. :param digest: ``sha256:...``; it wins over the tag.
    """

    registry: str = ""
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take ``text`` apart.

        :raises InvalidReferenceError: it is no image reference, or is a bare 64-digit image id, which pulls
            something else.
        """
        match = _REFERENCE.fullmatch(text) if len(text) <= _LONGEST_NAME + 300 else None
        if match is None or _IMAGE_ID.fullmatch(text):
            raise _invalid(text)
        registry, repository = match["registry"] or "", match["repository"]
        if registry and not _is_registry(registry):
            if not re.fullmatch(_COMPONENT, registry):
                raise _invalid(text)
            registry, repository = "", f"{registry}/{repository}"
        found = cls(registry=registry, repository=repository, tag=match["tag"] or "", digest=match["digest"] or "")
        # Engines keep the full form, which has to be a reference as well.
        if len(found.normalised().name) > _LONGEST_NAME:
            raise _invalid(text)
        return found

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}" if self.registry else self.repository

    def with_default_tag(self) -> Self:
        """The same reference, with ``latest`` where it has neither tag nor digest."""
        return self if self.tag or self.digest else attrs.evolve(self, tag=DEFAULT_TAG)

    def normalised(self) -> Self:
        """The full form that engines keep: ``busybox`` is ``docker.io/library/busybox:latest``."""
        registry, repository = self.registry or DOCKER_HUB, self.repository
        if registry == "index.docker.io":
            registry = DOCKER_HUB
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        return attrs.evolve(self, registry=registry, repository=repository).with_default_tag()

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{f'@{self.digest}' if self.digest else ''}"


def _is_registry(first: str) -> bool:
    return "." in first or ":" in first or first == "localhost"


def _invalid(text: str) -> InvalidReferenceError:
    shown = text if len(text) <= 80 else f"{text[:77]}..."
    hint = "Write it as [registry/]repository[:tag][@sha256:digest], in lower case."
    if "://" in text:
        hint = "Leave the scheme (http://, https://) out."
    return InvalidReferenceError(f"{shown!r} is not an image reference", value=shown, hint=hint)
