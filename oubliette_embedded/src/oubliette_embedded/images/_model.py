"""What the store is given and hands out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path

    from oubliette_embedded.images._documents import ImageConfig

__all__ = ["Limits", "StoredImage"]

_GIB = 1024**3


@attrs.frozen(kw_only=True)
class Limits:
    """What one layer may hold.

    :param entries: files, directories and links. :param size: bytes.
    :param ratio: how many times its compressed size it may have, once it is larger than ``small``.
    """

    entries: int = 1_000_000
    size: int = 128 * _GIB
    ratio: int = 200
    small: int = _GIB

    def allowed(self, compressed: int) -> int:
        """Return the bytes that a layer of this compressed size may hold."""
        return min(self.size, max(self.small, self.ratio * compressed))


@attrs.frozen(kw_only=True)
class StoredImage:
    """An image that is ready for containers.

    :param id: digest of its configuration. :param reference: by which it was asked for, in full.
    :param layers: directories, lowest first, ready to be lower directories of an overlay mount with ``userxattr``.
    """

    id: str
    reference: str
    layers: tuple[Path, ...]
    config: ImageConfig
    platform: str
