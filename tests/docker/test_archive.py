"""Files go in and out whole; what cannot be is refused with its reason."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core.errors import ContainerNotFoundError, InvalidSpecError
from oubliette_core.models import ContainerInfo
from oubliette_core.runtime import Runtime
from tests.docker.conftest import MakeContainer

BIG = bytes(range(256)) * 20_000


def tar_of(**files: bytes) -> io.BytesIO:
    """Put files into a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o640
            tar.addfile(entry, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def members(chunks: Iterator[bytes]) -> dict[str, bytes]:
    """Read the files of a tar stream."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {one.name: file.read() for one in tar if one.isfile() and (file := tar.extractfile(one)) is not None}


@pytest.fixture(params=["created", "running"])
def container(request: pytest.FixtureRequest, runtime: Runtime, make_container: MakeContainer) -> ContainerInfo:
    """A container in either state: files can be copied in both."""
    made = make_container()
    return runtime.start(made.id) if request.param == "running" else made


def test_what_goes_in_comes_out(runtime: Runtime, container: ContainerInfo) -> None:
    """Five megabytes of every byte there is, and an empty file."""
    runtime.copy_in(container.id, "/etc", tar_of(big=BIG, empty=b""))
    directory = members(runtime.copy_out(container.id, "/etc"))
    file = members(runtime.copy_out(container.name, "/etc/big"))

    assert (BIG, b"", BIG) == (directory["etc/big"], directory["etc/empty"], file["big"])


@pytest.mark.parametrize(
    ("path", "archive"),
    [
        ("/none", tar_of(a=b"x")),
        ("/etc/passwd", tar_of(a=b"x")),
        ("/etc", io.BytesIO(b"this is no archive\n" * 200)),
        ("/etc", io.BytesIO(tar_of(a=BIG).getvalue()[:5000])),
    ],
    ids=["no directory", "a file", "no archive", "cut"],
)
def test_what_cannot_go_in_is_refused(
    runtime: Runtime, container: ContainerInfo, path: str, archive: io.BytesIO
) -> None:
    """With the engine's words, and as the caller's mistake."""
    archive.seek(0)
    with pytest.raises(InvalidSpecError):
        runtime.copy_in(container.id, path, archive)


def test_what_is_not_there_cannot_come_out(runtime: Runtime, container: ContainerInfo) -> None:
    """It is told at the call, and not when somebody reads."""
    with pytest.raises(InvalidSpecError):
        runtime.copy_out(container.id, "/none")


def test_a_read_only_container_takes_nothing(runtime: Runtime, make_container: MakeContainer) -> None:
    """Its image is not ours to change."""
    made = runtime.start(make_container(read_only=True).id)
    with pytest.raises(InvalidSpecError, match="read-only"):
        runtime.copy_in(made.id, "/etc", tar_of(a=b"x"))


def test_an_unknown_container_is_not_found(runtime: Runtime) -> None:
    """In both directions."""
    with pytest.raises(ContainerNotFoundError):
        runtime.copy_in("oubliette-test-unknown", "/etc", tar_of(a=b"x"))
    with pytest.raises(ContainerNotFoundError):
        runtime.copy_out("oubliette-test-unknown", "/etc")


def test_the_beginning_of_an_id_names_nothing(runtime: Runtime, make_container: MakeContainer) -> None:
    """As everywhere."""
    made = make_container()
    with pytest.raises(ContainerNotFoundError):
        runtime.copy_out(made.id[:12], "/etc")


def test_dropping_the_iterator_ends_the_copy(runtime: Runtime, make_container: MakeContainer) -> None:
    """Whoever reads half of it leaves no connection behind, read or not."""
    made = make_container()
    runtime.copy_in(made.id, "/etc", tar_of(big=BIG))
    runtime.inspect(made.id)
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for number in range(20):
        chunks = runtime.copy_out(made.id, "/etc/big")
        if number % 2:
            next(chunks)
        del chunks

    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) <= before


def test_an_archive_that_cannot_be_read_is_the_callers_error(runtime: Runtime, make_container: MakeContainer) -> None:
    """The engine is not lost because a file is."""

    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _buffer: object) -> int:
            raise PermissionError("not yours")

    with pytest.raises(PermissionError):
        runtime.copy_in(make_container().id, "/etc", io.BufferedReader(Broken()))


def test_a_copy_may_last_longer_than_a_call(runtime: Runtime, make_container: MakeContainer) -> None:
    """Only silence ends it; the stream is read when it is there."""
    made = make_container()
    pace = threading.Event()
    data = tar_of(big=BIG)

    class Slow(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            pace.wait(0.01)
            return data.readinto(buffer)

    runtime.copy_in(made.id, "/etc", io.BufferedReader(Slow(), 65536))

    assert BIG == members(runtime.copy_out(made.id, "/etc/big"))["big"]
