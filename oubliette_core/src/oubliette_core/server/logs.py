"""The server's logs: one JSON object a line, in files that several processes of one home share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

from oubliette_core.config import Config, Home
from oubliette_core.config.redaction import Redactor, secrets_of
from oubliette_core.server.audit import AUDIT_LOGGER
from oubliette_core.server.places import prepare, writing

_LARGEST = 10 * 2**20
_OLD_FILES = 5


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON, in ASCII: no text in it can pass for another record or steer a terminal."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__()
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry |= fields
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(self._redacted(entry), ensure_ascii=True)

    def _redacted(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self._redacted(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._redacted(inner) for inner in value]
        return value if value is None or isinstance(value, bool | int | float) else self._redact(str(value))


class SharedFileHandler(logging.handlers.RotatingFileHandler):
    """A rotated log file (0600) that several processes write to: each write and rotation holds a lock.

    :param path: the file. :param lock: the lock's file.
    """

    def __init__(self, path: Path, lock: Path) -> None:
        self._lock_descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        super().__init__(path, maxBytes=_LARGEST, backupCount=_OLD_FILES, encoding="utf-8")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, into the file that has the name now: another process may have rotated it."""
        fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX)
        try:
            if self.stream is not None and self._was_moved(self.stream):
                self.stream.close()
                self.stream = self._open()
            super().emit(record)
        finally:
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        super().close()
        descriptor, self._lock_descriptor = self._lock_descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")

    def _was_moved(self, stream: TextIO) -> bool:
        try:
            now = os.stat(self.baseFilename)  # noqa: PTH116 - beside fstat
        except FileNotFoundError:
            return True
        opened = os.fstat(stream.fileno())
        return (now.st_dev, now.st_ino) != (opened.st_dev, opened.st_ino)


@contextlib.contextmanager
def logging_to(home: Home, config: Config, *, stderr: TextIO | None = None) -> Iterator[None]:
    """Log to the files of a home for as long as this is entered: ``server.log`` and ``audit.log``.

    :param stderr: where warnings go as well, as text.
    """
    formatter = JsonFormatter(Redactor(secrets_of(config)))
    level = config.server.log_level.upper()
    root, audit = logging.getLogger(), logging.getLogger(AUDIT_LOGGER)
    before = (root.level, root.handlers[:], audit.level, audit.propagate)
    prepare(home)
    with writing(home):
        server_file = SharedFileHandler(home.logs_dir / "server.log", home.locks_dir / "logs.lock")
        audit_file = SharedFileHandler(home.logs_dir / "audit.log", home.locks_dir / "logs.lock")
    handlers: list[logging.Handler] = [server_file, audit_file]
    for handler in handlers:
        handler.setFormatter(formatter)
    root.setLevel(level)
    # Libraries have their say when something is wrong.
    quiet = {name: logging.getLogger(name).level for name in ("uvicorn", "mcp", "sse_starlette", "httpx", "urllib3")}
    for name in quiet:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    root.handlers[:] = [server_file]
    if stderr is not None:
        plain = logging.StreamHandler(stderr)
        plain.setLevel(logging.WARNING)
        plain.setFormatter(formatter)
        handlers.append(plain)
        root.addHandler(plain)
    audit.setLevel(logging.INFO)
    audit.propagate = False
    audit.addHandler(audit_file)
    try:
        yield
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
        audit.removeHandler(audit_file)
        audit.setLevel(before[2])
        audit.propagate = before[3]
        for name, old in quiet.items():
            logging.getLogger(name).setLevel(old)
        for handler in handlers:
            handler.close()
