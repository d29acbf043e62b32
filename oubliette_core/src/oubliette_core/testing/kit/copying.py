"""Files into a container and out of it, as tar streams."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from oubliette_core.errors import ContainerNotFoundError, InvalidSpecError
from oubliette_core.runtime import Runtime
from oubliette_core.testing.kit.base import Cases
from oubliette_core.testing.kit.box import Box
from oubliette_core.testing.kit.stage import DATA, Maker, unique
from oubliette_core.testing.kit.talk import drained

_BINARY = bytes(range(256)) * 2000


class CopyCases(Cases):
    """copy_in and copy_out."""

    def test_copy_in(self, runtime: Runtime, box: Box) -> None:
        folder = _folder(box)
        runtime.copy_in(box.id, folder, _archive({"plain": b"text", "deep/down/binary": _BINARY}))

        assert "text" == box.says('cat "$1/plain"', folder)
        assert box.run("/bin/cat", f"{folder}/deep/down/binary").stdout == _BINARY
        assert "755" == box.says('stat -c %a "$1/plain"', folder)

    def test_copy_in_replaces(self, runtime: Runtime, box: Box) -> None:
        folder = _folder(box)
        for text in (b"old and longer", b"new"):
            runtime.copy_in(box.id, folder, _archive({"file": text}))

        assert "new" == box.says('cat "$1/file"', folder)

    def test_copy_in_mount(self, runtime: Runtime, make: Maker, kit_folder: Path) -> None:
        box = make.running(mounts=(make.bind(kit_folder),))
        runtime.copy_in(box.id, "/shared", _archive({"file": b"through the container"}))

        assert b"through the container" == (kit_folder / "file").read_bytes()

    def test_copy_in_no_directory(self, runtime: Runtime, box: Box) -> None:
        for path in ("/no/such/directory", "/kit/data"):
            with pytest.raises(InvalidSpecError):
                runtime.copy_in(box.id, path, _archive({"file": b"text"}))

    def test_copy_in_no_archive(self, runtime: Runtime, box: Box) -> None:
        folder = _folder(box)
        with pytest.raises(InvalidSpecError):
            runtime.copy_in(box.id, folder, io.BytesIO(b"this is no archive" * 100))

        assert "" == box.says('ls "$1"', folder)

    def test_copy_in_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            runtime.copy_in(name, "/kit", _archive({"file": b"text"}))

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)

    def test_copy_out_file(self, runtime: Runtime, box: Box) -> None:
        found = _files(drained(runtime.copy_out(box.id, "/kit/data")))

        assert {"data": DATA} == found

    def test_copy_out_directory(self, runtime: Runtime, box: Box) -> None:
        folder = _folder(box)
        runtime.copy_in(box.id, folder, _archive({"plain": b"text", "deep/down/binary": _BINARY}))
        name = folder.rpartition("/")[2]
        found = _files(drained(runtime.copy_out(box.id, folder)))

        assert found == {f"{name}/plain": b"text", f"{name}/deep/down/binary": _BINARY}

    def test_copy_out_missing(self, runtime: Runtime, box: Box) -> None:
        with pytest.raises(InvalidSpecError):
            drained(runtime.copy_out(box.id, "/no/such/file"))

    def test_copy_out_unknown(self, runtime: Runtime, make: Maker) -> None:
        name = make.name()
        with pytest.raises(ContainerNotFoundError) as failed:
            drained(runtime.copy_out(name, "/kit"))

        assert (name, runtime.name) == (failed.value.subject, failed.value.runtime)


def _folder(box: Box) -> str:
    folder = f"/kit/{unique()}"
    box.says('mkdir "$1"', folder)
    return folder


def _archive(files: dict[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for parent in sorted({str(above) for name in files for above in Path(name).parents} - {"."}):
            entry = tarfile.TarInfo(parent)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            archive.addfile(entry, io.BytesIO(data))
    buffer.seek(0)
    return buffer


def _files(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {
            entry.name.removeprefix("./"): found.read()
            for entry in opened.getmembers()
            if entry.isfile() and (found := opened.extractfile(entry)) is not None
        }
