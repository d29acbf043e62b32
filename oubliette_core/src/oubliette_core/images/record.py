"""One pull for all processes that share a home, and its outcome for those who waited.

Each image has a lock file, which the kernel lets go of when its holder dies in whatever way, and beside it a record of
how the last pull ended. A record that was not there when the waiting began tells of a pull that ended meanwhile: its
outcome is shared, a failure too. A holder that is killed, or cancelled, leaves none, and the next one pulls.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from typing import TYPE_CHECKING, Any

import attrs

from oubliette_core import errors
from oubliette_core.errors import ImagePullError, OublietteError, RuntimeOperationError
from oubliette_core.images.attempts import cancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from oubliette_core.models import Cancel

__all__ = ["Record", "Turns"]

_POLL = 0.05
"""Seconds between two looks at a lock that another process holds."""
_FIELDS = ("hint", "runtime", "subject", "reason", "retryable", "retry_after", "operation", "timeout")


@attrs.frozen(kw_only=True)
class Record:
    """How a pull ended.

    :param unchanged: the registry had what was here. :param previous_id: id of the local image before the pull.
    :param error: why it failed; None when it did not.
    """

    unchanged: bool = False
    previous_id: str = ""
    error: OublietteError | None = None
    token: str = attrs.field(factory=lambda: secrets.token_hex(16))


class Turns:
    """The order in which processes pull images.

    :param directory: where lock files and records are; made when it is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def take(self, key: str, *, subject: str, waiting: Callable[[], None], cancel: Cancel) -> Iterator[Record | None]:
        """Wait for the turn and hold it; gives the record of a pull that ended meanwhile, if one did.

        :param waiting: called once when another process is at it.
        :raises ImagePullError: cancelled, or the lock file cannot be made.
        """
        lock, file = self._paths(key)
        before = _read(file)
        with self._hold(lock, subject, waiting, cancel):
            after = _read(file)
            news = after is not None and (before is None or after.token != before.token)
            yield after if news else None

    def publish(self, key: str, record: Record) -> None:
        """Leave a record for those who wait. Called while the turn is held."""
        _, file = self._paths(key)
        temporary = file.with_suffix(f".{record.token}")
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:  # noqa: PTH123 - the mode counts from the first moment
                json.dump(_to_json(record), out)
            temporary.replace(file)
        except OSError:
            # Without a record (a full disk) those who wait try for themselves.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def _paths(self, key: str) -> tuple[Path, Path]:
        # A hash: references have slashes and colons, and may be longer than a file's name.
        name = f"image-{hashlib.sha256(key.encode()).hexdigest()}"
        return self._directory / f"{name}.lock", self._directory / f"{name}.json"

    @contextlib.contextmanager
    def _hold(self, path: Path, subject: str, waiting: Callable[[], None], cancel: Cancel) -> Iterator[None]:
        # It imports asyncio, which commands that pull nothing should not pay for.
        from filelock import FileLock, Timeout  # noqa: PLC0415

        lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
        told = False
        while True:
            try:
                self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock.acquire()
                break
            except Timeout:
                if not told:
                    waiting()
                    told = True
            except OSError as error:
                raise _no_lock(path, subject, error) from error
            if cancel.wait(_POLL):
                raise cancelled(subject)
        try:
            yield
        finally:
            lock.release()


def _no_lock(path: Path, subject: str, error: OSError) -> ImagePullError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return ImagePullError(
        f"{subject} cannot be pulled: the lock file {path} cannot be made: {error.strerror}",
        reason="no_space" if full else "other",
        subject=subject,
        hint="Free some space." if full else f"Make {path.parent} writable for you.",
    )


def _read(file: Path) -> Record | None:
    """Return the record; one that cannot be read is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Record(
            token=str(content["token"]),
            unchanged=bool(content["unchanged"]),
            previous_id=str(content["previous_id"]),
            error=_from_json(content["error"]),
        )
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _to_json(record: Record) -> dict[str, Any]:
    content = {"token": record.token, "unchanged": record.unchanged, "previous_id": record.previous_id, "error": None}
    error = record.error
    if error is not None:
        values = {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)}
        content["error"] = {"class": type(error).__name__, "message": error.message, **values}
    return content


def _from_json(content: dict[str, Any] | None) -> OublietteError | None:
    """Make the error again that another process had; one of an unknown class comes back as its base."""
    if content is None:
        return None
    values = dict(content)
    kind = getattr(errors, values.pop("class"), None)
    if not (isinstance(kind, type) and issubclass(kind, RuntimeOperationError)):
        kind = RuntimeOperationError
    error: OublietteError = kind(values.pop("message"))
    for name, value in values.items():
        if name in _FIELDS and hasattr(error, name):
            setattr(error, name, value)
    return error
