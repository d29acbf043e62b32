"""Building an image from a directory, with the engine's own builder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from oubliette_core.errors import (
    ImageBuildError,
    ImageNotFoundError,
    OperationCancelledError,
    OperationTimeoutError,
)
from oubliette_core.models import BuildSpec, ImageInfo, ProgressEvent
from oubliette_docker._errors import RUNTIME, EngineError, one_line, translated
from oubliette_docker._images import engine_reference
from oubliette_docker._progress import engine_messages, failure_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from oubliette_core.models import Cancel, ProgressCallback
    from oubliette_docker._connection import Connection
    from oubliette_docker._credentials import Credentials
    from oubliette_docker._images import Images

__all__ = ["Builder"]

SILENCE = 1800.0
"""Seconds without output after which a build is given up: a step may compile for long without a word."""
_OUTPUT = 16 * 1024
_CHUNK = 256 * 1024


class Builder:
    """Builds images on one engine."""

    def __init__(self, connection: Connection, images: Images, credentials: Credentials) -> None:
        self._connection, self._images, self._credentials = connection, images, credentials

    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """See `RuntimeSpec.build`."""
        log = _Log(spec.tag, progress)
        with translated("build", spec.tag):
            try:
                self._run(spec, log, cancel)
            except OperationCancelledError as error:
                raise log.failed("was cancelled") from error
            except OperationTimeoutError as error:
                raise log.failed(f"printed nothing for {SILENCE:g} s") from error
            except EngineError as error:
                raise log.failed(f"failed: {error.message}") from error
            if log.failure:
                raise log.failed(f"failed: {log.failure}")
            return self._built(spec, log)

    def _run(self, spec: BuildSpec, log: _Log, cancel: Cancel | None) -> None:
        with (
            _context(spec) as context,
            self._connection.stream(
                "POST",
                "/build",
                query=_query(spec),
                headers={"Content-Type": "application/x-tar", **self._credentials.for_build(cancel)},
                body=iter(lambda: context.read(_CHUNK), b""),
                timeout=None,
                idle_timeout=SILENCE,
                cancel=cancel,
            ) as chunks,
        ):
            for message in engine_messages(chunks):
                log.take(message)

    def _built(self, spec: BuildSpec, log: _Log) -> ImageInfo:
        """Return the image, if it is the one that the engine says it has built."""
        try:
            info = self._images.inspect(spec.tag, None)
        except ImageNotFoundError as error:
            raise log.failed("ended without an image") from error
        if not log.image_id or not info.id.removeprefix("sha256:").startswith(log.image_id):
            raise log.failed("ended before the engine said that it is complete")
        log.done()
        return info


class _Log:
    """What a build prints, and how it ends."""

    def __init__(self, tag: str, progress: ProgressCallback | None) -> None:
        self.failure = self.image_id = ""
        self._tag, self._progress = tag, progress
        self._tail = ""

    def take(self, message: Mapping[str, Any]) -> None:
        self.failure = self.failure or failure_in(message)
        text = str(message.get("stream") or "")
        aux = message.get("aux")
        if isinstance(aux, dict) and "ID" in aux:
            self.image_id = str(aux["ID"]).removeprefix("sha256:")
        elif text.startswith("Successfully built ") and not self.image_id:
            self.image_id = text.removeprefix("Successfully built ").strip()
        self._tail = (self._tail + text)[-_OUTPUT:]
        line = one_line(text or str(message.get("status") or ""), 500)
        if line and self._progress is not None:
            self._progress(ProgressEvent(image=self._tag, phase="building", detail=line))

    def done(self) -> None:
        if self._progress is not None:
            self._progress(ProgressEvent(image=self._tag, phase="done"))

    def failed(self, how: str) -> ImageBuildError:
        return ImageBuildError(f"the build of {self._tag} {how}", output=self._tail, runtime=RUNTIME, subject=self._tag)


def _query(spec: BuildSpec) -> dict[str, str | bool]:
    query: dict[str, str | bool] = {
        "t": engine_reference(spec.tag),
        "dockerfile": spec.dockerfile,
        "nocache": spec.no_cache,
        "rm": True,
        "forcerm": True,
        "buildargs": json.dumps(dict(spec.build_args)),
        "labels": json.dumps(dict(spec.labels)),
    }
    if spec.platform is not None:
        query["platform"] = spec.platform
    if spec.target is not None:
        query["target"] = spec.target
    return query


def _context(spec: BuildSpec) -> IO[bytes]:
    """Pack the directory into a temporary file, without what its ``.dockerignore`` names.

    :raises ImageBuildError: the directory or the Dockerfile cannot be read.
    """
    from docker.utils.build import tar  # noqa: PLC0415 - slow to import, and needed for builds only

    root = Path(spec.context)
    if not (root / spec.dockerfile).is_file():
        raise _unreadable(spec, f"there is no {root / spec.dockerfile}")
    try:
        exclude = _ignored(root, spec.dockerfile)
        return cast("IO[bytes]", tar(root, exclude=exclude, dockerfile=(spec.dockerfile, None)))
    except Exception as error:  # docker-py has no common base for what it raises on files that cannot be read
        raise _unreadable(spec, str(error)) from error


def _ignored(root: Path, dockerfile: str) -> list[str]:
    """Return the patterns of the build's own ignore file, or of the directory's."""
    for file in (root / f"{dockerfile}.dockerignore", root / ".dockerignore"):
        if file.is_file():
            lines = (line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


def _unreadable(spec: BuildSpec, why: str) -> ImageBuildError:
    return ImageBuildError(f"the build of {spec.tag} did not begin: {why}", runtime=RUNTIME, subject=spec.tag)
