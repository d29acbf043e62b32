"""Container types and their images: which there are, whether they are here, and getting them here once.

`ImageManager` is the whole of it; `ImageOutcome` is what it reports.
"""

from oubliette_core.images.attempts import Patience
from oubliette_core.images.manager import ImageManager
from oubliette_core.images.outcome import ImageAction, ImageOutcome

__all__ = ["ImageAction", "ImageManager", "ImageOutcome", "Patience"]
