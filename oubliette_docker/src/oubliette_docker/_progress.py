"""What an engine says while it pulls, loads or builds: JSON objects, one a line, errors among them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from oubliette_core.errors import RuntimeLostError
from oubliette_core.models import ProgressEvent
from oubliette_docker._errors import RUNTIME, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from oubliette_core.models import ProgressCallback

__all__ = ["PullReport", "engine_messages", "failure_in"]

_PHASES = (
    ("Pulling fs layer", "waiting"),
    ("Waiting", "waiting"),
    ("Downloading", "downloading"),
    ("Verifying Checksum", "verifying"),
    ("Download complete", "verifying"),
    ("Loading layer", "extracting"),
    ("Extracting", "extracting"),
    ("Pull complete", "done"),
    ("Already exists", "exists"),
    ("Retrying in", "retrying"),
)
_LONGEST_LINE = 4 * 1024 * 1024
_CONFIRMED = ("Status: Downloaded newer image", "Status: Image is up to date")


def engine_messages(chunks: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a stream.

    :raises RuntimeLostError: what comes is not what an engine says.
    """
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (_message(line) for line in lines if line.strip())
        if len(rest) > _LONGEST_LINE:
            raise _strange(rest)
    if rest.strip():
        yield _message(rest)


def _message(line: bytes) -> Mapping[str, Any]:
    try:
        message = json.loads(line)
    except ValueError as error:
        raise _strange(line) from error
    if not isinstance(message, dict):
        raise _strange(line)
    return message


def _strange(line: bytes) -> RuntimeLostError:
    shown = line[:200].decode(errors="replace")
    return RuntimeLostError(f"the engine said something that is no message: {shown!r}", runtime=RUNTIME)


def failure_in(message: Mapping[str, Any]) -> str:
    """Return what a message says went wrong, on one line; empty for any other message.

    Engines give it under two keys; some Podman versions give only one of them.
    """
    detail = message.get("errorDetail")
    said = detail.get("message") if isinstance(detail, dict) else None
    text = said or message.get("error") or ""
    return one_line(str(text))


class PullReport:
    """Follows a pull or a load by the engine's messages, and tells a callback of it.

    :ivar failure: the engine's words, when it has failed. :ivar confirmed: the engine has said that it is complete.
    :ivar digest: of what was pulled, where the engine named it. :ivar last_id: id in the last message, which is the
        image's with Podman.
    """

    def __init__(self, image: str, progress: ProgressCallback | None) -> None:
        self.failure = self.digest = self.last_id = ""
        self.confirmed = False
        self._image, self._progress = image, progress
        self._reached: dict[tuple[str, str], int] = {}

    def begin(self) -> None:
        """Tell that the registry is being asked: engines do so late or never."""
        if self._progress is not None:
            self._progress(ProgressEvent(image=self._image, phase="resolving"))

    def take(self, message: Mapping[str, Any]) -> None:
        """Take one message in."""
        self.failure = self.failure or failure_in(message)
        status, layer = str(message.get("status") or ""), str(message.get("id") or "")
        if status.startswith("Digest: "):
            self.digest = status.removeprefix("Digest: ").strip()
        self.confirmed = self.confirmed or bool(self.digest) or status.startswith(_CONFIRMED)
        self.last_id = layer if status in ("Download complete", "Pull complete") else ""
        phase = next((phase for beginning, phase in _PHASES if status.startswith(beginning)), "")
        if phase:
            self._tell(phase, layer, message)

    def done(self) -> None:
        """Tell that everything is there."""
        if self._progress is not None:
            self._progress(ProgressEvent(image=self._image, phase="done"))

    def _tell(self, phase: str, layer: str, message: Mapping[str, Any]) -> None:
        detail = message.get("progressDetail")
        numbers = detail if isinstance(detail, dict) else {}
        current, total = _whole(numbers.get("current")) or 0, _whole(numbers.get("total"))
        # A download that is begun anew goes back in the engine's words; what was told does not.
        current = self._reached[layer, phase] = max(current, self._reached.get((layer, phase), 0))
        if self._progress is not None:
            said = one_line(str(message["status"]), 200)
            event = ProgressEvent(
                image=self._image, layer=layer, phase=phase, current=current, total=total, detail=said
            )
            self._progress(event)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None
