"""Images: pull, look, build, remove, save and load."""

from __future__ import annotations

import contextlib
import errno
import os
import platform as host
import re
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

from oubliette_apple import _errors, _labels, _layout, _read
from oubliette_apple._cli import Cli, Completed, end, kill
from oubliette_core.errors import (
    ImageBuildError,
    ImageNotFoundError,
    ImagePullError,
    InUseError,
    OperationCancelledError,
    OublietteError,
)
from oubliette_core.models import BuildSpec, Cancel, ImageInfo, ProgressCallback, ProgressEvent

if TYPE_CHECKING:
    from pathlib import Path

_STALLED = 120.0
"""Seconds without an event after which a pull is given up."""
_WITHOUT_PROGRESS = 3600.0
"""The same for versions that print no progress, where nothing can be seen of a pull that goes on."""
_BUILD = 3600.0
_KEPT = 16 * 1024
_LINE = re.compile(
    r"^\[(?P<step>\d+)/(?P<steps>\d+)\] (?P<what>[^\[(0-9]+?)\s*(?:(?P<percent>\d+)%)?"
    r"\s*(?:\((?P<detail>[^)]*)\))?\s*(?:\[[^\]]*\])?$"
)
_BYTES = re.compile(r"(?:(?P<done>[\d.]+)(?: (?P<done_unit>[KMGT]?B))?/)?(?P<all>[\d.]+) (?P<unit>[KMGT]?B)(?!/s)")
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def default_platform() -> str:
    """Return the platform of this machine's own containers."""
    machine = host.machine().lower()
    return f"linux/{ {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(machine, machine) }"


class Images:
    """The image hooks.

    :param cli: the command.
    """

    def __init__(self, cli: Cli) -> None:
        self._cli = cli

    def find(self, image: str, platform: str | None) -> ImageInfo | None:
        """Describe a local image; None when it is not here for this platform (or the machine's own)."""
        item = self.item(image)
        return _read.image(item, platform or default_platform()) if item else None

    def item(self, image: str) -> dict[str, Any] | None:
        """Return what the command says of a local image; None when there is none.

        The command knows images by the name that they were pulled under. Ids, and digests of what was pulled by tag,
        are looked for among all of them.
        """
        found = None if image.startswith("sha256:") else self._inspect(image)
        if found is None and "sha256:" in image:
            reference = next(iter(self._by_digest(image)), None)
            found = self._inspect(reference) if reference else None
        return found

    def _inspect(self, image: str) -> dict[str, Any] | None:
        answer = self._cli.run("image", "inspect", image, operation="image inspect", subject=image)
        if answer.code:
            error = _errors.translate(answer.error, operation="image inspect", subject=image)
            if isinstance(error, ImageNotFoundError):
                return None
            raise error
        found = _read.document(answer.stdout, "image inspect")
        return found[0] if found else None

    def _by_digest(self, image: str) -> list[str]:
        """Return the references of the images that have this id, or this digest and repository."""
        answer = self._cli.check("image", "list", "--format=json", operation="image list", subject=image)
        repository, _, digest = image.rpartition("@")
        found = []
        for item in _read.document(answer.stdout, "image list"):
            reference, digests = _read.names(item)
            if digest in digests and (not repository or _read.same_repository(reference, repository)):
                found.append(reference)
        return sorted(found)

    def inspect(self, image: str, platform: str | None) -> ImageInfo:
        """Describe a local image. :raises ImageNotFoundError: it is not here for this platform."""
        found = self.find(image, platform)
        if found is None:
            where = f" for {platform}" if platform else ""
            raise ImageNotFoundError(f"image {image} is not present{where}", runtime=_errors.NAME, subject=image)
        return found

    def pull(
        self,
        image: str,
        platform: str | None,
        progress: ProgressCallback | None,
        cancel: Cancel | None,
        timeout: float | None,
    ) -> ImageInfo:
        """Download an image; what is reported as done has been looked at."""
        self._cli.ready()
        wanted = platform or default_platform()
        pulling = _Pull(self._cli, image, progress)
        pulling.begin()
        pulling.run(
            ["image", "pull", f"--platform={wanted}", *self._cli.version().fetching(image), image], cancel, timeout
        )
        try:
            found = self.inspect(image, wanted)
        except ImageNotFoundError as error:
            raise _errors.pull_error(image, "no_platform", f"it is not there for {wanted}") from error
        pulling.done(found)
        return found

    def remove(self, image: str) -> bool:
        """Remove a reference. :raises InUseError: a container was made from it (the command itself does not look)."""
        item = self.item(image)
        if item is None:
            return False
        references = self._by_digest(image) if image.startswith("sha256:") else [_read.names(item)[0]]
        used = self._cli.check("list", "--all", "--format=json", operation="list", subject=image)
        for container in _read.document(used.stdout, "list"):
            made = _read.container(container)
            if made.image in references and made.image_id in _read.names(item)[1]:
                raise InUseError(f"image {image} is used by container {made.id}", runtime=_errors.NAME, subject=image)
        self._cli.check("image", "delete", *references, operation="image delete", subject=image)
        return True

    def build(self, spec: BuildSpec, progress: ProgressCallback | None, cancel: Cancel | None) -> ImageInfo:
        """Build an image; every line that the builder prints is an event."""
        self._cli.ready()
        pulling = _Pull(self._cli, spec.tag, progress, phase="building")
        try:
            pulling.run(["build", *_build_options(spec), str(spec.context)], cancel, _BUILD)
        except ImagePullError as error:
            output = "\n".join(pulling.lines)[-_KEPT:]
            raise ImageBuildError(
                f"building {spec.tag} failed: {_errors.detail(output) if error.reason == 'other' else error.message}",
                output=output,
                runtime=_errors.NAME,
                subject=spec.tag,
            ) from error
        found = self.inspect(spec.tag, spec.platform)
        pulling.done(found)
        return found

    def load(self, archive: Path, progress: ProgressCallback | None, cancel: Cancel | None) -> tuple[ImageInfo, ...]:
        """Load an archive and describe what was in it."""
        try:
            with _layout.as_layout(archive) as layout:
                arguments = ("image", "load", f"--input={layout}")
                answer = self._cli.run(
                    *arguments, operation="image load", subject=str(archive), timeout=_BUILD, cancel=cancel
                )
        except (ValueError, OSError) as error:
            raise _unreadable(archive, error) from error
        except OperationCancelledError as error:
            raise _errors.pull_error(str(archive), "cancelled", "it was cancelled") from error
        if answer.code:
            raise _load_error(answer, archive)
        names = [line for line in answer.stdout.decode().splitlines() if line.strip() and not line.endswith(":")]
        loaded = tuple(self.inspect(name.strip(), None) for name in names)
        for info in loaded:
            if progress:
                progress(ProgressEvent(image=info.references[0], phase="done", current=info.size, total=info.size))
        return loaded

    def save(self, images: tuple[str, ...], archive: Path, cancel: Cancel | None) -> Path:
        """Write images into an archive, which appears when it is whole."""
        for image in images:
            self.inspect(image, None)
        partial = archive.with_name(f".{archive.name}.{os.getpid()}-{threading.get_ident()}")
        try:
            self._cli.check(
                *("image", "save", f"--platform={default_platform()}", f"--output={partial}", *images),
                operation="image save",
                subject=str(archive),
                timeout=_BUILD,
                cancel=cancel,
            )
            partial.replace(archive)
        finally:
            partial.unlink(missing_ok=True)
        return archive


class _Pull:
    """One call of the command that reports progress on standard error."""

    def __init__(self, cli: Cli, image: str, progress: ProgressCallback | None, *, phase: str = "") -> None:
        self.lines: list[str] = []
        self._cli = cli
        self._image = image
        self._progress = progress
        self._phase = phase
        self._changed = time.monotonic()
        self._latest: ProgressEvent | None = None
        self._raised: BaseException | None = None

    def begin(self) -> None:
        """Report the first event, which is all that there is before the end where the command prints no progress."""
        self._latest = ProgressEvent(image=self._image, phase="resolving")
        self._report(self._latest)

    def run(self, arguments: list[str], cancel: Cancel | None, timeout: float | None) -> None:
        """Call the command, watch it, and raise what its failure means."""
        child = self._cli.spawn(*arguments)
        forget = cancel.on_cancel(lambda: kill(child)) if cancel else lambda: None
        readers = [
            threading.Thread(target=self._read, args=(pipe, child), daemon=True)
            for pipe in (child.stderr, child.stdout)
        ]
        for reader in readers:
            reader.start()
        try:
            self._watch(child, timeout, cancel)
            for reader in readers:
                reader.join(1)
        finally:
            forget()
            end(child)
        if self._raised is not None:
            raise self._raised
        if cancel and cancel.cancelled:
            raise _errors.pull_error(self._image, "cancelled", "it was cancelled")
        if child.returncode:
            raise self._failure()

    def done(self, info: ImageInfo) -> None:
        """Report the one event that ends what succeeded."""
        self._report(ProgressEvent(image=self._image, phase="done", current=info.size, total=info.size))

    def _watch(self, child: subprocess.Popen[bytes], timeout: float | None, cancel: Cancel | None) -> None:
        started = time.monotonic()
        idle = _STALLED if self._cli.version().at_least(0, 12) or self._phase else _WITHOUT_PROGRESS
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.5)
                return
            now = time.monotonic()
            if cancel and cancel.cancelled:
                return
            if timeout is not None and now - started > timeout:
                raise _errors.pull_error(self._image, "stalled", f"it did not end within {timeout:g} s", retryable=True)
            if now - self._changed > idle:
                raise _errors.pull_error(self._image, "stalled", f"nothing happened for {idle:g} s", retryable=True)

    def _read(self, pipe: Any, child: subprocess.Popen[bytes]) -> None:
        try:
            for line in _lines(pipe):
                self._take(line)
        except Exception as error:  # noqa: BLE001 - what the callback raises reaches the caller
            self._raised = error
            kill(child)

    def _take(self, line: str) -> None:
        self.lines.append(line)
        del self.lines[:-500]
        event = _event(self._image, line, self._phase)
        if event is None or event == self._latest:
            return
        # A line that differs only in the seconds that have passed is no sign of life.
        self._latest = event
        self._changed = time.monotonic()
        self._report(event)

    def _report(self, event: ProgressEvent) -> None:
        if self._progress:
            self._progress(event)

    def _failure(self) -> OublietteError:
        text = "\n".join(line for line in self.lines if not _LINE.match(line))
        return _errors.translate_pull(text, self._image)


def _lines(pipe: Any) -> Any:
    """Yield lines of a pipe as they come; a line without an end is one too."""
    rest = b""
    with contextlib.suppress(ValueError, OSError):
        while chunk := pipe.read(8192):
            *whole, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
            yield from (line.decode("utf-8", "replace") for line in whole if line)
    if rest:
        yield rest.decode("utf-8", "replace")


def _event(image: str, line: str, phase: str) -> ProgressEvent | None:
    """Read a line such as ``[1/2] Fetching image 45% (3 of 8 blobs, 12.0/27.1 MB, 5.0 MB/s) [2s]``."""
    if phase:
        return ProgressEvent(image=image, phase=phase, detail=" ".join(line.split())[:200])
    match = _LINE.match(line.strip())
    if match is None:
        return None
    what = match["what"].strip()
    amount = _BYTES.search(match["detail"] or "")
    total = int(float(amount["all"]) * _UNITS[amount["unit"]]) if amount and amount["done"] else None
    unit = (amount["done_unit"] or amount["unit"]) if amount else "B"
    current = int(float(amount["done"]) * _UNITS[unit]) if amount and amount["done"] else 0
    kind = "extracting" if "npack" in what else "downloading" if "etch" in what else "resolving"
    # Its steps are the nearest there is to layers: within one, the number only grows.
    return ProgressEvent(
        image=image, layer=f"step {match['step']}", phase=kind, current=current, total=total, detail=what
    )


def _build_options(spec: BuildSpec) -> list[str]:
    options = [
        f"--tag={spec.tag}",
        f"--file={spec.context / spec.dockerfile}",
        "--progress=plain",
        f"--platform={spec.platform or default_platform()}",
    ]
    options += [f"--build-arg={name}={value}" for name, value in spec.build_args.items()]
    options += _labels.arguments(spec.labels)
    options += [f"--target={spec.target}"] if spec.target else []
    return [*options, "--no-cache"] if spec.no_cache else options


def _unreadable(archive: Path, error: Exception) -> ImagePullError:
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return _errors.pull_error(str(archive), "no_space" if full else "corrupt", str(error))


def _load_error(answer: Completed, archive: Path) -> OublietteError:
    for pattern in (_errors.SERVICE_DOWN, _errors.CONNECTION_LOST, _errors.BUSY):
        if pattern.search(answer.error):
            return _errors.translate(answer.error, operation="image load", subject=str(archive))
    no_space = "no space left" in answer.error.lower()
    return _errors.pull_error(str(archive), "no_space" if no_space else "corrupt", _errors.detail(answer.error))
