"""Archives: what other programs write is read, what we write is read by others, and hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import ImageNotFoundError, ImagePullError, OperationCancelledError, RuntimeOperationError
from oubliette_core.images.layout import LayoutWriter
from oubliette_core.models import Cancel, ProgressEvent
from oubliette_core.testing.images import Image, digest_of, docker_archive, random_layer
from oubliette_core.testing.registry import FaultRegistry
from oubliette_embedded.images import ImageStore
from oubliette_embedded.images._tar import _zstd
from tests.embedded.images.tars import file, layer, link, tar
from tests.embedded.images.test_pull import FOREIGN, OWN, content, image
from tests.embedded.images.test_use import leftovers

NAME = "local-tool:v1"


def layout(*images: tuple[str | None, Image], **extra: bytes) -> dict[str, bytes]:
    """Give the files of an OCI image layout."""
    files = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}
    manifests = []
    for name, given in images:
        for digest, blob in {**given.blobs(), given.digest: given.manifest}.items():
            files[f"blobs/{digest.replace(':', '/')}"] = blob
        descriptor: dict[str, Any] = {
            "mediaType": given.media_type,
            "digest": given.digest,
            "size": len(given.manifest),
        }
        if name:
            descriptor["annotations"] = {"org.opencontainers.image.ref.name": name}
        manifests.append(descriptor)
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": manifests}).encode()
    return {**files, **extra}


def archive(folder: Path, files: Mapping[str, bytes] | bytes, pack: Callable[[bytes], bytes] = bytes) -> Path:
    """Write an archive of files."""
    path = folder / f"archive-{len(list(folder.iterdir()))}.tar"
    data = files if isinstance(files, bytes) else tar(*(file(name, content) for name, content in files.items()))
    path.write_bytes(pack(data))
    return path


# -- Loading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lambda data: _zstd().compress(data)], ids=["tar", "gzip", "zstd"]
)
@pytest.mark.parametrize("form", ["docker", "oci"])
def test_an_archive_is_loaded(tmp_path: Path, store: ImageStore, form: str, pack: Callable[[bytes], bytes]) -> None:
    """What `docker save` writes as well as an OCI image layout, compressed or not; the id stays the same."""
    given = image("x", random_layer(0.1, "a"), labels={"a": "b"})
    files = docker_archive({NAME: given}) if form == "docker" else layout((NAME, given))
    events: list[ProgressEvent] = []
    (info,) = store.load(archive(tmp_path, files, pack), events.append)

    assert (given.image_id, (NAME,), (), {"a": "b"}) == (info.id, info.references, info.digests, info.labels)
    assert info == store.inspect(f"docker.io/library/{NAME}", None)
    assert "x" == content(store, NAME)["word"]
    assert ("done", "") == (events[-1].phase, events[-1].layer)


def test_a_layout_may_be_a_directory(tmp_path: Path, store: ImageStore) -> None:
    """As many programs write it."""
    root = tmp_path / "layout"
    for name, data in layout((NAME, image("x"))).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)

    assert [(NAME,)] == [info.references for info in store.load(root)]


def test_several_images_are_loaded_at_once(tmp_path: Path, store: ImageStore) -> None:
    """Each under its own names; one without a name is found by its id."""
    one, other, nameless = image("one"), image("other"), image("nameless")
    loaded = store.load(
        archive(tmp_path, layout(("a:1", one), ("b:2", one), ("r.example/c:3", other), (None, nameless)))
    )

    assert [one.image_id, one.image_id, other.image_id, nameless.image_id] == [info.id for info in loaded]
    assert ("a:1", "b:2") == store.inspect("b:2", None).references
    assert () == store.inspect(nameless.image_id, None).references
    assert store.remove(nameless.image_id)


def test_all_platforms_of_an_archive_are_loaded(tmp_path: Path, store: ImageStore) -> None:
    """An index in it may name more than it has."""
    own, foreign, absent = image("own"), image("foreign", platform=FOREIGN), image("absent", platform="linux/riscv64")
    files = layout((None, own), (None, foreign))
    members = [
        {"mediaType": one.media_type, "digest": one.digest, "size": len(one.manifest)} for one in (own, foreign, absent)
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": members}).encode()
    files[f"blobs/{digest_of(index).replace(':', '/')}"] = index
    named = {"digest": digest_of(index), "size": len(index), "annotations": {"io.containerd.image.name": NAME}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [named]}).encode()
    store.load(archive(tmp_path, files))

    assert [True, True, False] == [store.exists(NAME, one) for one in (OWN, FOREIGN, "linux/riscv64")]
    assert "own" == content(store, NAME)["word"]


def test_links_between_members_are_followed(tmp_path: Path, store: ImageStore) -> None:
    """Older Docker writes a layer that two images share once, and a link."""
    given = image("x")
    with tarfile.open(fileobj=io.BytesIO(docker_archive({NAME: given}))) as old:
        files = {member.name: old.extractfile(member).read() for member in old}  # type: ignore[union-attr]
    (table,) = json.loads(files.pop("manifest.json"))
    name = table["Layers"][0]
    entries = [file(f"common/{name}", files.pop(name)), link(f"own/{name}", f"../common/{name}")]
    entries += [file(one, data) for one, data in files.items()]
    entries.append(file("manifest.json", json.dumps([{**table, "Layers": [f"own/{name}"]}])))

    assert given.image_id == store.load(archive(tmp_path, tar(*entries)))[0].id


def test_loading_replaces_what_had_the_name(tmp_path: Path, store: ImageStore) -> None:
    """And removes it, if nothing else has it."""
    for word in ("old", "new"):
        store.load(archive(tmp_path, docker_archive({NAME: image(word)})))

    assert "new" == content(store, NAME)["word"]
    assert 1 == len(list(store._disk.trees.iterdir()))


def test_a_pulled_image_that_is_loaded_again_keeps_its_digest(
    tmp_path: Path, store: ImageStore, fault_registry: FaultRegistry
) -> None:
    """It is still what the registry has."""
    reference = fault_registry.add(image(), "tool")
    info = store.pull(reference, None)
    store.load(store.save((reference,), tmp_path / "saved.tar"))

    assert info == store.inspect(reference, None)


HOSTILE = {
    "nothing": {},
    "no index": {"oci-layout": b"{}"},
    "no image": {"index.json": b'{"manifests": []}'},
    "an index that is none": {"index.json": b"[]"},
    "an index that is a manifest": {"index.json": b'{"config": {}, "layers": []}'},
    "a table that is none": {"manifest.json": b"{}"},
    "a table of what is none": {"manifest.json": b"[1, 2]"},
    "a file outside": {"manifest.json": b'[{"Config": "../../../etc/passwd", "Layers": []}]'},
    "a file elsewhere": {"manifest.json": b'[{"Config": "/etc/passwd", "Layers": []}]'},
    "junk": {"index.json": b"\xff\xfe"},
    "a deep document": {"index.json": b"[" * 100_000},
    "a large document": {"index.json": b"0" * (9 * 1024 * 1024)},
}


@pytest.mark.parametrize("files", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_is_no_archive_of_images_is_refused(tmp_path: Path, store: ImageStore, files: dict[str, bytes]) -> None:
    """As corrupt, and leaves nothing. A directory as well as a file."""
    root = tmp_path / "layout"
    root.mkdir()
    for name, data in files.items():
        (root / name).write_bytes(data)
    for path in (archive(tmp_path, files), root):
        with pytest.raises(ImagePullError) as failed:
            store.load(path)

        assert ("corrupt", str(path), "embedded") == (failed.value.reason, failed.value.subject, failed.value.runtime)
    assert [] == leftovers(store)


def test_an_archive_that_is_cut_off_is_refused(tmp_path: Path, store: ImageStore) -> None:
    """Wherever, and in each form; nothing of it is left."""
    given = image("x", random_layer(0.02, "a"))
    for data in (docker_archive({NAME: given}), tar(*(file(*pair) for pair in layout((NAME, given)).items()))):
        end = len(data.rstrip(b"\0"))
        for pack in (bytes, gzip.compress):
            for part in (1, 3, 7, 9):
                cut = archive(tmp_path, pack(data[: end * part // 10]))
                with pytest.raises(ImagePullError) as failed:
                    store.load(cut)
                assert "corrupt" == failed.value.reason
    assert not store.exists(NAME, None)


@pytest.mark.parametrize("kind", ["manifest", "config", "layer"])
def test_a_blob_that_is_not_what_its_name_says_is_refused(tmp_path: Path, store: ImageStore, kind: str) -> None:
    """Everything is verified as if it came from a registry."""
    given = image("x")
    digest = {"manifest": given.digest, "config": given.image_id, "layer": given.layers[0].digest}[kind]
    files = layout((NAME, given))
    name = f"blobs/{digest.replace(':', '/')}"
    files[name] = files[name][:-1] + bytes([files[name][-1] ^ 1])
    with pytest.raises(ImagePullError) as failed:
        store.load(archive(tmp_path, files))

    assert "corrupt" == failed.value.reason
    assert not store.exists(NAME, None)


@pytest.mark.parametrize("name", ["../x", "UPPER:1", "a b", "a" * 64, "x:1:2"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, store: ImageStore, name: str) -> None:
    """It comes from whoever made the archive."""
    given = image("x")
    for files in (docker_archive({name: given}), layout((f"{name}", given)) if "/" in name or ":" in name else b""):
        with pytest.raises(ImagePullError):
            store.load(archive(tmp_path, files))


def test_a_hostile_layer_in_an_archive_is_refused(tmp_path: Path, store: ImageStore) -> None:
    """As one from a registry."""
    with pytest.raises(ImagePullError, match="leads outside"):
        store.load(archive(tmp_path, docker_archive({NAME: image("x", layer(file("../../x")))})))


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path, store: ImageStore) -> None:
    """Python's tarfile would read it as a whole."""
    info = tarfile.TarInfo("././@PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, 1 << 34
    with pytest.raises(ImagePullError, match="header"):
        store.load(archive(tmp_path, info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)))


def test_a_file_that_is_not_there_is_told(tmp_path: Path, store: ImageStore) -> None:
    """With its path."""
    with pytest.raises(ImagePullError, match=r"absent.*No such file"):
        store.load(tmp_path / "absent")


def test_a_cancelled_load_leaves_nothing(tmp_path: Path, store: ImageStore) -> None:
    """It is cancelled in the middle of it."""
    cancel = Cancel()

    def stop(event: ProgressEvent) -> None:
        if event.phase == "verifying":
            cancel.cancel()

    with pytest.raises(ImagePullError) as failed:
        store.load(archive(tmp_path, docker_archive({NAME: image("x", random_layer(3, "a"))})), stop, cancel)

    assert "cancelled" == failed.value.reason
    assert not store.exists(NAME, None)


# -- Saving -----------------------------------------------------------------------------------------------------------


def test_what_is_saved_can_be_loaded(tmp_path: Path, store: ImageStore, fault_registry: FaultRegistry) -> None:
    """With all names, by tag, digest and id; elsewhere it is the same image."""
    given, other = image("x", random_layer(0.1, "a")), image("y")
    reference = fault_registry.add(given, "tool")
    by_digest = f"{fault_registry.add(other, 'other').removesuffix(':latest')}@{other.digest}"
    store.pull(reference, None)
    store.pull(by_digest, None)
    path = tmp_path / "saved.tar"
    elsewhere = ImageStore(tmp_path / "elsewhere")

    assert path == store.save((reference, by_digest), path)
    assert [given.image_id, other.image_id] == [info.id for info in elsewhere.load(path)]
    assert (reference,) == elsewhere.inspect(given.image_id, None).references
    assert () == elsewhere.inspect(other.image_id, None).references
    assert "x" == content(elsewhere, reference)["word"]


def test_core_takes_what_is_saved_and_we_take_what_core_writes(tmp_path: Path, store: ImageStore) -> None:
    """`oubliette image save` makes one archive of what the runtimes save."""
    given = image("x")
    store.load(archive(tmp_path, docker_archive({NAME: given})))
    saved, whole = store.save((given.image_id,), tmp_path / "saved.tar"), tmp_path / "whole.tar"
    with tarfile.open(whole, "w") as out:
        writer = LayoutWriter(out, lambda: None)
        writer.add(saved, ["r.example/a:1", "r.example/b:2"])
        writer.close()
    elsewhere = ImageStore(tmp_path / "elsewhere")
    elsewhere.load(whole)

    assert ("r.example/a:1", "r.example/b:2") == elsewhere.inspect(given.image_id, None).references


def test_an_absent_image_is_not_saved(tmp_path: Path, store: ImageStore) -> None:
    """And no file appears."""
    store.load(archive(tmp_path, docker_archive({NAME: image("x")})))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(ImageNotFoundError):
        store.save((NAME, "absent:1"), folder / "saved.tar")

    assert [] == list(folder.iterdir())


def test_a_cancelled_save_leaves_no_file(tmp_path: Path, store: ImageStore) -> None:
    """Nor does one for which there is no directory."""
    store.load(archive(tmp_path, docker_archive({NAME: image("x")})))
    folder, cancel = tmp_path / "out", Cancel()
    folder.mkdir()
    cancel.cancel()
    with pytest.raises(OperationCancelledError):
        store.save((NAME,), folder / "saved.tar", cancel)
    with pytest.raises(RuntimeOperationError, match="cannot be written"):
        store.save((NAME,), folder / "absent/saved.tar")

    assert [] == list(folder.iterdir())
