"""Images: pulled from registries or loaded from archives, kept in a store that all processes of a user share."""

from oubliette_embedded.images._documents import ImageConfig
from oubliette_embedded.images._hooks import ImageHooks
from oubliette_embedded.images._model import Limits, StoredImage
from oubliette_embedded.images._store import ImageStore
from oubliette_embedded.images._tree import remove_tree

__all__ = ["ImageConfig", "ImageHooks", "ImageStore", "Limits", "StoredImage", "remove_tree"]
