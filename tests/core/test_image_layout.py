"""Archives: an OCI image layout with the names that we give, whatever format the engine saved in."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from oubliette_core import (
    Cancel,
    ContainerType,
    ImageNotFoundError,
    InvalidSpecError,
    OperationCancelledError,
    RuntimeOperationError,
    RuntimeSettings,
    build_runtime,
)
from oubliette_core.images import ImageManager
from oubliette_core.images.layout import LayoutWriter
from oubliette_core.testing.fake import FakeRuntime
from oubliette_core.testing.images import Image, build_image, docker_archive, files_layer

NAMES = ("example.com/tools:1", "mirror.example.com/tools:1")


def _image(text: str = "x", *, shared: str = "shared") -> Image:
    return build_image(files_layer({"/shared": shared}), files_layer({"/file": text}))


def _archive(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def _layout(image: Image, *, damage: bytes = b"") -> dict[str, bytes]:
    """Return the files of an OCI layout as Docker 25 and containerd write it, without a name."""
    blobs = {**image.blobs(), image.digest: image.manifest}
    files = {f"blobs/{digest.replace(':', '/')}": data + damage for digest, data in blobs.items()}
    index = {"manifests": [{"mediaType": image.media_type, "digest": image.digest, "size": len(image.manifest)}]}
    return {**files, "index.json": json.dumps(index).encode()}


def _write(path: Path, *saved: tuple[Path, tuple[str, ...]]) -> dict[str, bytes]:
    with tarfile.open(path, "w") as out:
        writer = LayoutWriter(out, lambda: None)
        for archive, names in saved:
            writer.add(archive, names)
        writer.close()
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        assert len(members) == len({member.name for member in members})
        return {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def _named(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return names and config digests of an archive's images, each blob seen to be what it says."""
    for name, data in files.items():
        if name.startswith("blobs/sha256/"):
            assert name.removeprefix("blobs/sha256/") == hashlib.sha256(data).hexdigest()
    found = []
    for descriptor in json.loads(files["index.json"])["manifests"]:
        manifest: dict[str, Any] = json.loads(files[f"blobs/{descriptor['digest'].replace(':', '/')}"])
        for blob in (manifest["config"], *manifest["layers"]):
            assert blob["size"] == len(files[f"blobs/{blob['digest'].replace(':', '/')}"])
        found.append((descriptor["annotations"]["io.containerd.image.name"], manifest["config"]["digest"]))
    return found


@pytest.mark.parametrize("form", ["docker", "oci"])
def test_an_image_gets_its_names(tmp_path: Path, form: str) -> None:
    """Both in OCI's index and, where the engine has one, in Docker's table of contents."""
    image = _image()
    saved = tmp_path / "saved"
    if form == "docker":
        saved.write_bytes(docker_archive({"whatever:1": image}))
    else:
        _archive(saved, _layout(image))
    files = _write(tmp_path / "out", (saved, NAMES))

    assert [(name, image.image_id) for name in NAMES] == _named(files)
    assert {"imageLayoutVersion": "1.0.0"} == json.loads(files["oci-layout"])
    if form == "docker":
        assert [list(NAMES)] == [entry["RepoTags"] for entry in json.loads(files["manifest.json"])]


def test_what_images_share_is_in_it_once(tmp_path: Path) -> None:
    """Types stand on each other: dev on base."""
    saved = []
    for text in ("a", "b"):
        (tmp_path / text).write_bytes(docker_archive({text: _image(text)}))
        saved.append((tmp_path / text, (f"example.com/{text}:1",)))
    files = _write(tmp_path / "out", *saved)

    assert 2 == len(_named(files))
    assert 7 == len([name for name in files if name.startswith("blobs/")])


@pytest.mark.parametrize("files", [{}, {"index.json": b"{"}, {"manifest.json": b'[{"Config": "absent"}]'}])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, files: dict[str, bytes]) -> None:
    """An engine that saved half an image must not pass for one that saved it."""
    with pytest.raises(RuntimeOperationError, match="cannot be read"):
        _write(tmp_path / "out", (_archive(tmp_path / "saved", files), NAMES))


def test_damaged_content_is_an_error(tmp_path: Path) -> None:
    """Each blob is what its name says."""
    with pytest.raises(RuntimeOperationError, match="damaged"):
        _write(tmp_path / "out", (_archive(tmp_path / "saved", _layout(_image(), damage=b"!")), NAMES))


# -- Save and load ------------------------------------------------------------------------------------------------

TYPES = (ContainerType(name="base", image=NAMES[0]), ContainerType(name="same", image=NAMES[0]))


@pytest.fixture
def fake() -> Iterator[FakeRuntime]:
    """A runtime whose registry has the image."""
    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish(NAMES[0])
    yield fake
    fake.engine.shut_down()


def _manager(fake: FakeRuntime, home: Path) -> ImageManager:
    runtime = build_runtime("fake", fake)
    return ImageManager(runtime, TYPES, locks_dir=home / "locks", lock_file=home / "oubliette.lock")


def test_what_was_saved_is_here_where_it_is_loaded(fake: FakeRuntime, tmp_path: Path) -> None:
    """On a machine that reaches no registry; also with a lock, which asks for a digest that no engine then knows."""
    images = _manager(fake, tmp_path)
    images.lock()
    archive = images.save(tmp_path / "images.tar")
    offline = FakeRuntime(RuntimeSettings())
    there = _manager(offline, tmp_path)
    try:
        assert there.find_local("base") is None
        loaded = there.load(archive)
        assert [images.find_local("base").id] == [info.id for info in loaded]  # type: ignore[union-attr]
        for name in ("base", "same"):
            assert there.ensure_image_exists(name).ok
        (tmp_path / "oubliette.lock").unlink()
        assert NAMES[0] == there.runnable("base").image
        assert {} == dict(offline.registry.requests)
    finally:
        offline.engine.shut_down()


def test_nothing_is_written_when_an_image_is_missing(fake: FakeRuntime, tmp_path: Path) -> None:
    """The error says what to do."""
    with pytest.raises(ImageNotFoundError) as caught:
        _manager(fake, tmp_path).save(tmp_path / "images.tar")

    assert "Pull it first: oubliette image pull" == caught.value.hint
    assert not (tmp_path / "images.tar").exists()


def test_an_archive_that_cannot_be_written_says_so(fake: FakeRuntime, tmp_path: Path) -> None:
    """And leaves nothing behind; a cancelled one neither."""
    images = _manager(fake, tmp_path)
    images.ensure_image_exists("base")
    cancel = Cancel()
    cancel.cancel()

    with pytest.raises(InvalidSpecError, match="is not a directory"):
        images.save(tmp_path / "absent" / "images.tar")
    with pytest.raises(OperationCancelledError):
        images.save(tmp_path / "images.tar", cancel=cancel)
    assert ["locks"] == [path.name for path in tmp_path.iterdir()]
