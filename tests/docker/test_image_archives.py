"""Images go into files and come out of them whole, or not at all."""

from __future__ import annotations

import gzip
import io
import json
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oubliette_core.errors import (
    ImageNotFoundError,
    ImagePullError,
    InvalidSpecError,
    OperationCancelledError,
    RuntimeLostError,
    RuntimeOperationError,
)
from oubliette_core.models import Cancel, ProgressEvent
from oubliette_core.runtime import Runtime
from oubliette_core.testing.images import Image, Index, busybox_image, docker_archive, random_layer
from tests.docker.conftest import plain, runtime_on
from tests.docker.scripted import CHUNKED, ScriptedEngine, chunk, reply

Named = Callable[[str], str]


@pytest.fixture
def named(runtime: Runtime) -> Iterator[Named]:
    """Makes references that are removed when the test ends."""
    made: list[str] = []

    def make(name: str) -> str:
        made.append(f"oubliette-test-{name}-{time.monotonic_ns()}:latest")
        return made[-1]

    yield make
    for reference in made:
        runtime.remove_image(reference)


def fresh(busybox: Path, **settings: Any) -> Image:
    """Make an image with a layer that the engine does not have."""
    return busybox_image(busybox, layers=[random_layer(0.2, seed=str(time.monotonic_ns()))], **settings)


def oci_layout(image: Image | Index, name: str | None) -> bytes:
    """Put an OCI layout into a tar archive, as skopeo and buildx write it: without Docker's table of contents."""
    annotations = {"io.containerd.image.name": name} if name else {}
    descriptor = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": annotations,
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode(),
        **{f"blobs/{digest.replace(':', '/')}": blob for digest, blob in image.blobs().items()},
        **{f"blobs/{member.digest.replace(':', '/')}": member.manifest for member in image.images()},
        f"blobs/{image.digest.replace(':', '/')}": image.manifest,
    }
    return tar_of(files)


def tar_of(files: dict[str, bytes]) -> bytes:
    """Put files into a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


# -- Load -------------------------------------------------------------------------------------------------------------


def test_a_docker_archive_is_loaded(runtime: Runtime, busybox: Path, named: Named, tmp_path: Path) -> None:
    """What `docker save` writes comes in under its names, all of them, and the end is told once."""
    first, second = named("a"), named("b")
    images = {first: fresh(busybox), second: fresh(busybox)}
    archive = tmp_path / "images.tar"
    archive.write_bytes(docker_archive(images))
    events: list[ProgressEvent] = []
    found = runtime.load_images(archive, progress=events.append)

    assert {image.image_id for image in images.values()} == {info.id for info in found}
    assert {first, second} == {plain(reference) for info in found for reference in info.references}
    assert ("", "done") == (events[-1].layer, events[-1].phase)
    assert 1 == sum(event.phase == "done" and not event.layer for event in events)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_an_oci_layout_is_loaded(
    runtime: Runtime, busybox: Path, named: Named, tmp_path: Path, *, compressed: bool, indexed: bool
) -> None:
    """Also by an engine that does not know the form; of an index, the image for this machine is taken."""
    ours = fresh(busybox, format="oci")
    other = fresh(busybox, format="oci", platform="linux/s390x")
    reference = named("oci")
    layout = oci_layout(Index((other, ours), format="oci") if indexed else ours, reference)
    archive = tmp_path / "image.tar"
    archive.write_bytes(gzip.compress(layout) if compressed else layout)
    (info,) = runtime.load_images(archive)

    assert (ours.image_id, [reference]) == (info.id, [plain(name) for name in info.references])


def test_an_image_without_a_name_is_loaded(runtime: Runtime, busybox: Path, tmp_path: Path) -> None:
    """It is known by its id."""
    image = fresh(busybox, format="oci")
    archive = tmp_path / "image.tar"
    archive.write_bytes(oci_layout(image, None))
    (info,) = runtime.load_images(archive)
    removed = runtime.remove_image(info.id)

    assert (image.image_id, (), True) == (info.id, info.references, removed)


def test_an_oci_layout_of_other_machines_has_nothing_for_us(runtime: Runtime, busybox: Path, tmp_path: Path) -> None:
    """It is said before anything is sent."""
    index = Index((fresh(busybox, format="oci", platform="linux/s390x"),), format="oci")
    archive = tmp_path / "image.tar"
    archive.write_bytes(oci_layout(index, "x:latest"))

    with pytest.raises(ImagePullError, match="no image for linux/"):
        runtime.load_images(archive)


def damaged(busybox: Path) -> dict[str, bytes]:
    """Return archives that cannot be loaded."""
    good = docker_archive({"x:latest": fresh(busybox)})
    return {
        "empty": b"",
        "text": b"this is not an archive\n" * 100,
        "cut": good[: len(good) // 2],
        "cut-gzip": gzip.compress(good)[:5000],
        "other-files": tar_of({"hello.txt": b"hello"}),
        "no-layers": tar_of({"manifest.json": b'[{"Config": "c.json", "RepoTags": ["x:latest"], "Layers": ["l"]}]'}),
        "junk-manifest": tar_of({"manifest.json": b"[5"}),
        "junk-index": tar_of({"oci-layout": b"{}", "index.json": b'{"manifests": [{"digest": "sha256:1"}]}'}),
    }


@pytest.mark.parametrize(
    "kind", ["empty", "text", "cut", "cut-gzip", "other-files", "no-layers", "junk-manifest", "junk-index"]
)
def test_a_damaged_archive_is_corrupt(runtime: Runtime, busybox: Path, tmp_path: Path, kind: str) -> None:
    """Whether we or the engine find out."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(damaged(busybox)[kind])

    with pytest.raises(ImagePullError) as caught:
        runtime.load_images(archive)

    assert ("corrupt", False, "docker", str(archive)) == (
        caught.value.reason,
        caught.value.retryable,
        caught.value.runtime,
        caught.value.subject,
    )
    assert not runtime.exists("x:latest")


def test_an_archive_that_is_not_there_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    """Before the engine is asked."""
    with pytest.raises(InvalidSpecError):
        runtime.load_images(tmp_path / "none.tar")


def test_a_load_can_be_cancelled(busybox: Path, tmp_path: Path) -> None:
    """Also when the engine takes nothing more."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"x:latest": busybox_image(busybox, layers=[random_layer(4, seed="big")])}))
    reached, cancel = threading.Event(), Cancel()

    def script(_connection: socket.socket, head: bytes) -> bool:
        if b"/images/load" in head:
            reached.set()
            assert cancel.wait(20)
        return False

    with ScriptedEngine(tmp_path / "engine.sock", script) as engine, runtime_on(engine.endpoint.url) as runtime:
        thread = threading.Thread(target=cancel_when, args=(reached, cancel))
        thread.start()
        with pytest.raises(ImagePullError) as caught:
            load(runtime, archive, cancel)
        thread.join()

    assert "cancelled" == caught.value.reason


def cancel_when(event: threading.Event, cancel: Cancel) -> None:
    """Cancel as soon as something has happened."""
    assert event.wait(20)
    cancel.cancel()


def load(runtime: Runtime, archive: Path, cancel: Cancel | None = None) -> Any:
    """Load past the guard, which would ask a scripted engine for its capabilities."""
    return runtime._call("load_images", archive=archive, progress=None, cancel=cancel)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (reply(b'{"message":"write /x: no space left on device"}', "500 Internal Server Error"), "no_space"),
        (CHUNKED + chunk(b'{"errorDetail":{"message":"no space left on device"}}') + chunk(b""), "no_space"),
        (CHUNKED + chunk(b'{"error":"invalid checksum digest"}') + chunk(b""), "corrupt"),
        (CHUNKED + chunk(b'{"status":"Loading layer"}') + chunk(b""), "corrupt"),
    ],
)
def test_a_refused_load_has_its_reason(busybox: Path, tmp_path: Path, answer: bytes, reason: str) -> None:
    """In a status or in the stream; and an end without a name is no success."""
    archive = tmp_path / "image.tar"
    archive.write_bytes(docker_archive({"x:latest": busybox_image(busybox)}))

    def script(connection: socket.socket, _head: bytes) -> bool:
        connection.sendall(answer)
        return False

    with (
        ScriptedEngine(tmp_path / "engine.sock", script) as engine,
        runtime_on(engine.endpoint.url) as runtime,
        pytest.raises(ImagePullError) as caught,
    ):
        load(runtime, archive)

    assert reason == caught.value.reason


# -- Save -------------------------------------------------------------------------------------------------------------


def test_what_is_saved_can_be_loaded(runtime: Runtime, busybox: Path, named: Named, tmp_path: Path) -> None:
    """An archive moves images to a machine without a registry."""
    references = [named("a"), named("b")]
    source = tmp_path / "source.tar"
    source.write_bytes(docker_archive({reference: fresh(busybox) for reference in references}))
    ids = {info.id for info in runtime.load_images(source)}
    archive = runtime.save_images(tuple(references), tmp_path / "saved.tar")
    for reference in references:
        runtime.remove_image(reference)
    found = runtime.load_images(archive)

    assert ids == {info.id for info in found}
    assert set(references) == {plain(reference) for info in found for reference in info.references}
    assert [tmp_path / "saved.tar", source] == sorted(tmp_path.iterdir())


def test_nothing_is_written_when_one_image_is_missing(runtime: Runtime, image: str, tmp_path: Path) -> None:
    """The archive that was there before stays."""
    archive = tmp_path / "saved.tar"
    archive.write_text("old")
    with pytest.raises(ImageNotFoundError) as caught:
        runtime.save_images((image, "oubliette-test-absent:latest"), archive)

    assert ("oubliette-test-absent:latest", "old", [archive]) == (
        caught.value.subject,
        archive.read_text(),
        list(tmp_path.iterdir()),
    )


def test_a_place_that_cannot_be_written_to_is_told(runtime: Runtime, image: str, tmp_path: Path) -> None:
    """It is our machine that refuses, not the engine."""
    with pytest.raises(RuntimeOperationError, match="cannot be written"):
        runtime.save_images((image,), tmp_path / "none" / "saved.tar")


@pytest.mark.parametrize("how", ["cut", "cancelled"])
def test_an_archive_appears_only_when_it_is_whole(tmp_path: Path, how: str) -> None:
    """A backup that breaks off must not replace the one of yesterday."""
    archive = tmp_path / "saved.tar"
    archive.write_text("old")
    cancel = Cancel()

    def script(connection: socket.socket, head: bytes) -> bool:
        if b"/images/get" not in head:
            connection.sendall(reply(b'{"Id": "sha256:1"}'))
            return True
        connection.sendall(CHUNKED + chunk(b"half"))
        if how == "cancelled":
            cancel.cancel()
        return False

    expected = OperationCancelledError if how == "cancelled" else RuntimeLostError
    with (
        ScriptedEngine(tmp_path / "engine.sock", script) as engine,
        runtime_on(engine.endpoint.url) as runtime,
        pytest.raises(expected),
    ):
        runtime._call("save_images", images=("x:latest",), archive=archive, cancel=cancel)

    assert "old" == archive.read_text()
    assert {"saved.tar", "engine.sock"} == {path.name for path in tmp_path.iterdir()}
