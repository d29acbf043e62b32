"""What one process tells the keeper to start."""

import dataclasses
import json


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """A registry, and an engine unless `engine` is False; `arguments` go to dockerd.

    `root` is the unpacked packages' directory, `state` the directory that holds everything. `registry_port` 0 is any
    free one, `data_mb` puts the engine's storage on a file system of that many MiB. `detached` ones end by signal
    only, not with the process that gave the order.
    """

    root: str | None
    state: str
    engine: bool = True
    registry_port: int = 0
    arguments: tuple[str, ...] = ()
    data_mb: int | None = None
    detached: bool = False

    def to_json(self) -> str:
        """Give the order as one line."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))
