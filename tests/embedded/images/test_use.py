"""What is used stays, what nothing uses goes, and what is damaged is mended where that can be done."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oubliette_core.errors import (
    ImageNotFoundError,
    ImagePullError,
    InUseError,
    InvalidSpecError,
    InvalidValueError,
    RuntimeOperationError,
)
from oubliette_core.testing.images import build_image, files_layer
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded.images import ImageStore
from oubliette_embedded.images._locks import hold
from tests.embedded.images.test_pull import OWN, blobs, content, image


def trees(store: ImageStore) -> list[Path]:
    """Give the directories of all layers that are here."""
    return sorted(store._disk.trees.iterdir())


def leftovers(store: ImageStore) -> list[str]:
    """Give what is in the store besides its list and its locks."""
    root = store._disk.root
    kept = {"images.json", "index.lock", "store.lock"}
    return [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name not in kept] + [
        str(path.relative_to(root)) for name in ("l", "trash") for path in (root / name).iterdir()
    ]


# -- Removing ---------------------------------------------------------------------------------------------------------


def test_a_removed_image_leaves_nothing(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Neither blobs nor layers; the second time there is nothing to remove."""
    reference = fault_registry.add(image(), "tool")
    store.pull(reference, None)
    answers = [store.remove(reference) for _ in range(2)]

    assert [True, False] == answers
    assert (False, []) == (store.exists(reference, None), leftovers(store))


def test_one_of_two_references_leaves_the_other(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """And what both lead to; by its id, an image goes with all of them."""
    given = image()
    references = [fault_registry.add(given, "tool", tag) for tag in ("one", "two", "three")]
    for reference in references:
        store.pull(reference, None)
    store.remove(references[0])

    assert [False, True, True] == [store.exists(reference, None) for reference in references]
    assert tuple(sorted(references[1:])) == store.inspect(given.image_id, None).references
    assert store.remove(given.image_id)
    assert [] == leftovers(store)


def test_shared_layers_stay_with_the_other_image(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Only what the removed one alone had is removed."""
    shared = files_layer({"/shared": "s"})
    one, other = (fault_registry.add(image(word, shared), word) for word in ("one", "other"))
    store.pull(one, None)
    store.pull(other, None)
    store.remove(one)

    assert {"word": "other", "shared": "s"} == content(store, other)
    assert 2 == len(trees(store))


def test_an_image_in_use_is_not_removed(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Nor by another process's store. One of two references may go."""
    given = image()
    reference, other = (fault_registry.add(given, "tool", tag) for tag in ("one", "other"))
    store.pull(reference, None)
    store.pull(other, None)
    used = store.use(reference, None, "user")
    elsewhere = ImageStore(store._disk.root)

    assert elsewhere.remove(other)
    with pytest.raises(InUseError) as failed:
        elsewhere.remove(reference)
    assert (reference, "embedded") == (failed.value.subject, failed.value.runtime)
    assert used == store.used("user")
    store.release("user")
    store.release("user")
    assert elsewhere.remove(reference)
    assert [] == leftovers(store)


def test_a_container_keeps_its_image_when_the_tag_moves(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Until it lets go of it: then nothing has it any more."""
    old, new = image("old"), image("new")
    reference = fault_registry.add(old, "tool")
    store.pull(reference, None)
    before = store.use(reference, None, "user")
    fault_registry.add(new, "tool")
    store.pull(reference, None)

    assert before == store.used("user")
    assert "old" == (before.layers[0] / "word").read_text()
    store.release("user")
    assert ["new"] == [(tree / "word").read_text() for tree in trees(store)]
    assert sorted([new.digest, *new.blobs()]) == blobs(store)


def test_while_others_add_nothing_is_removed(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """They may be about to use it. Whoever comes next removes it."""
    references = [fault_registry.add(image(word), word) for word in ("one", "other")]
    for reference in references:
        store.pull(reference, None)
    with hold(store._disk.alone, shared=True):
        store.remove(references[0])
        during = len(trees(store))
    store.remove(references[1])

    assert (2, []) == (during, leftovers(store))


def test_what_a_crash_left_behind_goes_with_the_next_removal(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """Half unpacked layers and half written files; half a download is kept for a day."""
    reference = fault_registry.add(image(), "tool")
    store.pull(reference, None)
    disk = store._disk
    (disk.trees / "dead01/etc").mkdir(parents=True)
    (disk.trash / "dead02").mkdir()
    (disk.partial / "sha256-new").write_text("new")
    store.remove(reference)

    assert ["partial/sha256-new"] == leftovers(store)


# -- Using ------------------------------------------------------------------------------------------------------------


def test_an_absent_image_cannot_be_used(store: ImageStore) -> None:
    """The network is never asked for it, and nothing is noted."""
    with pytest.raises(ImageNotFoundError):
        store.use("registry.invalid/tool", None, "user")
    with pytest.raises(ImageNotFoundError):
        store.used("user")


def test_an_image_without_layers_cannot_be_used(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """It is an image all the same, which can be pulled and removed."""
    reference = fault_registry.add(build_image(platform=OWN), "tool")
    store.pull(reference, None)
    with pytest.raises(InvalidSpecError, match="no layers"):
        store.use(reference, None, "user")

    assert store.remove(reference)


@pytest.mark.parametrize("user", ["", "../x", "a/b", ".hidden", "a" * 200, "a\0"])
def test_a_user_is_an_id(store: ImageStore, fault_registry: FaultRegistry, user: str) -> None:
    """It becomes the name of a file."""
    reference = fault_registry.add(image(), "tool")
    store.pull(reference, None)

    for call in (lambda: store.use(reference, None, user), lambda: store.used(user), lambda: store.release(user)):
        with pytest.raises(InvalidValueError):
            call()


def test_a_layer_that_is_gone_is_unpacked_again(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """From the blob that is here, without the network."""
    reference = fault_registry.add(image("x"), "tool")
    store.pull(reference, None)
    first = store.use(reference, None, "user")
    asked = fault_registry.count()
    shutil.rmtree(first.layers[0])
    again = store.used("user")

    assert ("x", asked) == ((again.layers[0] / "word").read_text(), fault_registry.count())


@pytest.mark.parametrize("what", ["configuration", "layer"])
def test_what_was_damaged_on_the_disk_is_told_and_mended_by_a_pull(
    store: ImageStore, fault_registry: FaultRegistry, what: str
) -> None:
    """Nothing is run from it."""
    given = image("x")
    reference = fault_registry.add(given, "tool")
    store.pull(reference, None)
    digest = given.image_id if what == "configuration" else given.layers[0].digest
    blob = store._disk.blob(digest)
    blob.write_bytes(bytes(blob.stat().st_size))
    if what == "layer":
        for tree in trees(store):
            shutil.rmtree(tree)
    with pytest.raises(ImagePullError) as failed:
        store.use(reference, None, "user")
    store.pull(reference, None)

    assert "corrupt" == failed.value.reason
    assert {"word": "x"} == content(store, reference)


def test_a_list_of_a_newer_version_is_left_alone(store: ImageStore) -> None:
    """It would lose what we do not know of."""
    store._disk.make()
    store._disk.images.write_text('{"version": 2}')
    with pytest.raises(RuntimeOperationError, match="cannot be read"):
        store.exists("tool", None)

    assert '{"version": 2}' == store._disk.images.read_text()


# -- Many layers ------------------------------------------------------------------------------------------------------


def test_more_layers_than_a_mount_takes_become_fewer(store: ImageStore, fault_registry: FaultRegistry) -> None:
    """What is seen stays the same: the lower ones are merged, with all that hides in them."""
    layers = [files_layer({f"/f{number}": str(number), "/same": str(number)}) for number in range(90)]
    layers[10] = files_layer({"/f1": "again", "/.wh.f2": "", "/d": "file"})
    layers[11] = files_layer({"/.wh.d": "", "/e/a": "a", "/e/b": "b"})
    layers[12] = files_layer({"/e/.wh..wh..opq": "", "/e/c": "c"})
    layers[89] = files_layer({"/.wh.f3": "", "/top": "t"})
    reference = fault_registry.add(build_image(*layers, platform=OWN), "tool")
    store.pull(reference, None)
    used = store.use(reference, None, "user")
    lower = used.layers[0]
    options = sum(len(str(layer)) + 9 for layer in used.layers)

    assert options < 3500
    assert "again" == (lower / "f1").read_text()
    assert ["c"] == [path.name for path in (lower / "e").iterdir()]
    assert [False, False, True] == [(lower / name).exists() for name in ("f2", "d", "f3")]
    assert (lower / "f5").stat().st_nlink == 2
    assert used == ImageStore(store._disk.root).used("user")
    store.release("user")
    store.remove(reference)
    assert [] == leftovers(store)
