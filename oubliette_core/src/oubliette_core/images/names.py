"""Under which names an image is asked for: its mirror, its locked digest, and what it may be called locally."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from oubliette_core.errors import ConfigError
from oubliette_core.models import PullPolicy
from oubliette_core.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from oubliette_core.images.lockfile import Lock
    from oubliette_core.models import ContainerType

__all__ = ["Wanted", "mirrored", "wanted_by_reference", "wanted_by_type"]


@attrs.frozen(kw_only=True)
class Wanted:
    """An image that is asked for.

    :param type: container type; empty when it was asked for by reference.
    :param configured: the reference as configured, with a tag. :param image: what it is pulled by.
    :param local: what it may be known by locally, likeliest first; ``image`` is the first.
    :param problem: why it must not be used; None when it may.
    """

    type: str = ""
    configured: str
    image: str
    local: tuple[str, ...]
    platform: str | None
    policy: PullPolicy
    problem: ConfigError | None = None


def mirrored(reference: Reference, mirrors: Mapping[str, str]) -> Reference:
    """Return the reference on the mirror of its registry, where it has one.

    A mirror keeps the repository's full name below its own path: ``busybox`` is ``library/busybox`` there.

    :param mirrors: ``registry[/path]`` by registry.
    """
    full = reference.normalised()
    mirror = mirrors.get(full.registry)
    if mirror is None:
        return reference
    host, _, path = mirror.partition("/")
    return attrs.evolve(full, registry=host, repository=f"{path}/{full.repository}" if path else full.repository)


def wanted_by_type(
    found: ContainerType, *, dev_mode: bool, mirrors: Mapping[str, str], lock: Lock | None, lock_file: Path | None
) -> Wanted:
    """Return what a container type asks for.

    What is never pulled keeps its configured name: neither a mirror nor a lock has to do with it.
    """
    configured = Reference.parse(found.image).with_default_tag()
    policy = PullPolicy.NEVER if dev_mode else found.pull
    names = [configured] if policy is PullPolicy.NEVER else [mirrored(configured, mirrors), configured]
    local, problem = [str(name) for name in names], None
    if lock is not None and policy is not PullPolicy.NEVER:
        entry = lock.find(found)
        if entry is None:
            problem = ConfigError(
                f"container type {found.name} is not locked as configured ({configured})",
                file=str(lock_file or ""),
                hint="Lock it: oubliette image lock",
            )
        else:
            # An engine may know a loaded image by nothing but its id.
            local = [*(str(attrs.evolve(name, digest=entry.digest)) for name in names), *filter(None, [entry.id])]
    return Wanted(
        type=found.name,
        configured=str(configured),
        image=local[0],
        local=tuple(dict.fromkeys(local)),
        platform=found.platform,
        policy=policy,
        problem=problem,
    )


def wanted_by_reference(name: str, platform: str | None, *, dev_mode: bool, mirrors: Mapping[str, str]) -> Wanted:
    """Return what is asked for by an image reference."""
    configured = Reference.parse(name).with_default_tag()
    policy = PullPolicy.NEVER if dev_mode else PullPolicy.ALWAYS
    image = configured if dev_mode else mirrored(configured, mirrors)
    local = tuple(dict.fromkeys((str(image), str(configured))))
    return Wanted(configured=str(configured), image=local[0], local=local, platform=platform, policy=policy)
