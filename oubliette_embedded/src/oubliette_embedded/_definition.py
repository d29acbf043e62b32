"""What a container was made as: everything that does not change until it is removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core.models import Mount

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Definition"]


@attrs.frozen(kw_only=True)
class Definition:
    """A container, with what its image says already taken into account.

    :param created_at: seconds since 1970. :param argv: of the main process. :param env: image's and its own.
    :param user: ``name|uid[:group|gid]``; empty for uid 0. :param stop_signal: number.
    :param network: ``default``, ``none`` or ``host``. :param capabilities: names of those that uid 0 keeps.
    """

    id: str
    name: str
    image: str
    image_id: str
    labels: Mapping[str, str]
    created_at: float
    mounts: tuple[Mount, ...]
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    user: str
    stop_signal: int
    network: str
    init: bool
    read_only: bool
    capabilities: tuple[str, ...]
    hostname: str
    memory: int | None
    cpus: float | None
    pids: int | None

    def as_json(self) -> bytes:
        """Write it down."""
        return json.dumps(attrs.asdict(self), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_json(cls, text: bytes) -> Definition:
        """Read what `as_json` wrote. :raises ValueError: it is something else."""
        try:
            fields: dict[str, Any] = json.loads(text)
            fields["mounts"] = tuple(Mount(**mount) for mount in fields["mounts"])
            fields |= {name: tuple(fields[name]) for name in ("argv", "capabilities")}
            return cls(**fields)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError("not the definition of a container") from error
