"""Files into and out of a container, as tar streams."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, BinaryIO

from oubliette_core.errors import InvalidSpecError
from oubliette_docker._errors import EngineError, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oubliette_docker._connection import ByteStream, Connection

__all__ = ["copy_in", "copy_out"]

SILENCE = 120.0
"""Seconds without any progress after which a copy has stalled."""
_CHUNK = 256 * 1024


def copy_in(connection: Connection, container: str, path: str, archive: BinaryIO) -> bool:
    """See `RuntimeSpec.copy_in`."""
    with translated("copy_in", container):
        if connection.is_podman():
            _require_directory(connection, container, path)
        connection.request(
            "PUT",
            f"/containers/{container}/archive",
            query={"path": path},
            headers={"Content-Type": "application/x-tar"},
            body=iter(lambda: archive.read(_CHUNK), b""),
            timeout=None,
            idle_timeout=SILENCE,
        )
    return True


def _require_directory(connection: Connection, container: str, path: str) -> None:
    """Refuse a directory that is not there: Podman would make it."""
    try:
        connection.request("HEAD", f"/containers/{container}/archive", query={"path": path})
    except EngineError as error:
        if error.status != 404:
            raise
        connection.request("GET", f"/containers/{container}/json")  # or it is the container that is not there
        raise InvalidSpecError(f"there is no directory {path} in container {container}", value=path) from error


def copy_out(connection: Connection, container: str, path: str) -> Iterator[bytes]:
    """See `RuntimeSpec.copy_out`."""
    with contextlib.ExitStack() as stack, translated("copy_out", container):
        stream = stack.enter_context(
            connection.stream("GET", f"/containers/{container}/archive", query={"path": path}, idle_timeout=SILENCE)
        )
        chunks = _chunks(stream, container, stack.pop_all())
        next(chunks)  # from here on closing or dropping the iterator closes the connection
        return chunks


def _chunks(stream: ByteStream, container: str, stack: contextlib.ExitStack) -> Iterator[bytes]:
    with stack, translated("copy_out", container):
        yield b""
        yield from stream
