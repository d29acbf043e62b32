"""What became of an image that was asked for."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from oubliette_core.errors import OublietteError
    from oubliette_core.models import ImageInfo

__all__ = ["ImageAction", "ImageOutcome"]


class ImageAction(enum.StrEnum):
    """What was done for an image."""

    PRESENT = "present"
    """It was here, and the registry was not asked."""
    PULLED = "pulled"
    UNCHANGED = "unchanged"
    """The registry was asked, and has what is here."""
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class ImageOutcome:
    """One image that was asked for, and what became of it.

    :param type: the container type; empty when it was asked for by reference.
    :param image: its reference, with a tag. :param platform: the one that was asked for, or None.
    :param info: the local image; None when ``action`` is ``failed``.
    :param previous_id: id of the local image before a pull; empty when there was none.
    :param error: why it failed. :param duration: in seconds, with the waiting for others.
    """

    type: str = ""
    image: str
    platform: str | None = None
    action: ImageAction
    info: ImageInfo | None = None
    previous_id: str = ""
    error: OublietteError | None = None
    duration: float = 0.0

    @property
    def id(self) -> str:
        """Content id of the local image; empty when it failed."""
        return self.info.id if self.info is not None else ""

    @property
    def ok(self) -> bool:
        """Whether the image is here."""
        return self.action is not ImageAction.FAILED
