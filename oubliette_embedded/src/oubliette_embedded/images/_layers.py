"""Unpacked layers: each is here once, whatever images it belongs to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_embedded.images._disk import file_name, read_json, sync_file_system
from oubliette_embedded.images._documents import digest_of
from oubliette_embedded.images._failures import Failure, damaged_here
from oubliette_embedded.images._tree import remove_tree

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from oubliette_embedded.images._disk import Disk
    from oubliette_embedded.images._documents import Descriptor
    from oubliette_embedded.images._model import Limits
    from oubliette_embedded.images._work import Work

__all__ = ["Layer", "Layers", "short"]

_OPTIONS = 3000
"""Bytes that the layers may take of the options of a mount, which are a page in all: 4096 bytes."""
_EACH = 20
"""Bytes that each layer takes besides the path of the store: ``/oldroot``, a slash, its name, a colon, and some."""


@attrs.frozen(kw_only=True)
class Layer:
    """An unpacked layer.

    :param path: its directory. :param size: bytes of its files.
    :param hides_all: nothing of the layers below is to be seen.
    """

    path: Path
    size: int
    hides_all: bool = False


class Layers:
    """The unpacked layers of a store."""

    def __init__(self, disk: Disk, limits: Limits) -> None:
        self._disk, self._limits = disk, limits

    def record(self, diff_id: str) -> Path:
        """Return where it is written that a layer is complete."""
        return self._disk.layers / f"{file_name(diff_id)}.json"

    def find(self, diff_id: str) -> Layer | None:
        """Return a layer; None if it is not here, or not complete."""
        found: Any = read_json(self.record(diff_id))
        try:
            path = self._disk.trees / str(found["tree"])
            layer = Layer(path=path, size=int(found["size"]), hides_all=bool(found["hides_all"]))
        except (LookupError, TypeError, ValueError):
            return None
        return layer if path.is_dir() else None

    def ensure(self, diff_id: str, blob: Descriptor, work: Work) -> Layer:
        """Return a layer, and unpack it from its blob, which is here, if that was not done yet.

        :raises Failure: the layer is not what it has to be.
        """
        found = self.find(diff_id)
        if found is not None:
            return found
        name = short(blob.digest)
        with self._disk.one(diff_id, lambda: work.tell(name, "waiting")):
            return self.find(diff_id) or self._unpack(diff_id, blob, work)

    def stack(self, found: Sequence[tuple[str, Layer]], work: Work) -> tuple[Path, ...]:
        """Return the directories to be stacked for an image, few enough for a mount.

        :param found: its layers with their diff ids, lowest first.
        """
        for number, (_, layer) in reversed(list(enumerate(found))):
            if layer.hides_all:  # overlayfs would show what is below
                found = found[number:]
                break
        paths = tuple(layer.path for _, layer in found)
        most = max(2, _OPTIONS // (len(str(self._disk.trees)) + _EACH))
        if len(paths) <= most:
            return paths
        lower = len(paths) - most + 1
        return self._merged([diff_id for diff_id, _ in found[:lower]], paths[:lower], work), *paths[lower:]

    def _merged(self, diff_ids: Sequence[str], paths: Sequence[Path], work: Work) -> Path:
        """Return the directory that shows several layers as one, and make it if there is none yet."""
        chain = digest_of(" ".join(diff_ids).encode())
        found = self.find(chain)
        if found is None:
            with self._disk.one(chain, lambda: work.tell("", "waiting")):
                found = self.find(chain) or self._merge(chain, diff_ids, paths, work)
        return found.path

    def _merge(self, chain: str, diff_ids: Sequence[str], paths: Sequence[Path], work: Work) -> Layer:
        from oubliette_embedded.images._merge import merge  # noqa: PLC0415 - rarely needed

        tree = self._disk.new_tree()
        try:
            merge(paths, tree, work.moved)
            with work.local():
                sync_file_system(tree)
            self._note(chain, Layer(path=tree, size=0), merged=list(diff_ids))
        except BaseException:
            remove_tree(tree)
            raise
        return Layer(path=tree, size=0)

    def _note(self, diff_id: str, layer: Layer, **more: object) -> None:
        content = {"tree": layer.path.name, "size": layer.size, "hides_all": layer.hides_all, **more}
        self._disk.write_json(self.record(diff_id), content)

    def _unpack(self, diff_id: str, blob: Descriptor, work: Work) -> Layer:
        from oubliette_embedded.images._unpack import unpack  # noqa: PLC0415 - most layers are unpacked already

        if not self._disk.has_blob(blob.digest):
            raise damaged_here("one of its layers")
        name, tree = short(blob.digest), self._disk.new_tree()
        try:
            with self._disk.blob(blob.digest).open("rb") as file:
                root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    unpacked = unpack(
                        file,
                        root,
                        diff_id,
                        compressed=blob.size,
                        limits=self._limits,
                        step=lambda: work.tell(name, "extracting", min(file.tell(), blob.size), blob.size),
                    )
                finally:
                    os.close(root)
            with work.local():
                sync_file_system(tree)
            layer = Layer(path=tree, size=unpacked.size, hides_all=unpacked.hides_all)
            work.check()
            self._note(diff_id, layer)
        except BaseException as error:
            remove_tree(tree)
            if isinstance(error, Failure) and self._disk.drop_damaged(blob.digest):
                raise damaged_here("one of its layers") from error
            raise
        work.tell(name, "extracting", blob.size, blob.size)
        return layer


def short(digest: str) -> str:
    """Return a digest as it is shown to people."""
    return digest.partition(":")[2][:12]
