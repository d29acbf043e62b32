"""The one server that a home has over HTTP: known to other processes, started in the background, stopped.

It holds a lock for as long as it lives, so that what its file says of it is never taken for the truth after it died.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import attrs

from oubliette_core._version import __version__
from oubliette_core.config import Home, write_private_file
from oubliette_core.errors import ConflictError, ServiceError
from oubliette_core.server.places import prepare, writing

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_POLL = 0.05


class NotStartedError(ServiceError):
    """A server in the background did not start.

    :param exit_code: of its process; negative where a signal ended that.
    """

    def __init__(self, message: str, exit_code: int, *, subject: str, hint: str) -> None:
        super().__init__(message, subject=subject, hint=hint)
        self.exit_code = exit_code


@attrs.frozen(kw_only=True)
class Running:
    """A server that runs.

    :param url: where its clients connect.
    """

    pid: int
    url: str
    version: str
    started_at: datetime


@contextlib.contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Be the server of a home.

    :raises ConflictError: it has one already.
    """
    # It imports asyncio, which a look at the state should not pay for.
    from filelock import FileLock, Timeout  # noqa: PLC0415

    lock = FileLock(_lock_file(home), timeout=0, mode=0o600)
    prepare(home)
    try:
        with writing(home):
            lock.acquire()
    except Timeout:
        running = find(home)
        where = f" at {running.url} (process {running.pid})" if running else ""
        raise ConflictError(
            f"a server runs already for {home.path}{where}",
            subject=str(home.path),
            hint="Stop it: oubliette serve stop",
        ) from None
    try:
        yield
    finally:
        _state_file(home).unlink(missing_ok=True)
        lock.release()


def announce(home: Home, url: str) -> None:
    """Tell other processes that this one serves the home."""
    state = {"pid": os.getpid(), "url": url, "version": __version__, "started_at": datetime.now(UTC).isoformat()}
    with writing(home):
        write_private_file(_state_file(home), json.dumps(state).encode())


def find(home: Home) -> Running | None:
    """Return the server that runs for a home, or None. One that is just starting does not count yet."""
    if not _is_held(_lock_file(home)):
        return None
    try:
        state = json.loads(_state_file(home).read_bytes())
        return Running(
            pid=int(state["pid"]),
            url=str(state["url"]),
            version=str(state["version"]),
            started_at=datetime.fromisoformat(state["started_at"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def stop(home: Home) -> Running | None:
    """Stop the server of a home and wait for its end; returns what it was, None where there was none.

    :raises ServiceError: it does not end.
    """
    running = find(home)
    if running is None:
        return None
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while _is_held(_lock_file(home)):
        if time.monotonic() > deadline:
            raise ServiceError(
                f"the server (process {running.pid}) did not end within {_STOP_SECONDS:g} s",
                subject=str(running.pid),
                hint=f"Look into {home.logs_dir / 'server.log'}; end it with: kill -9 {running.pid}",
            )
        time.sleep(_POLL)
    return running


def start_in_background(home: Home, arguments: Sequence[str], environ: Mapping[str, str]) -> Running:
    """Start a server that outlives this process; return once it answers.

    :param arguments: those of ``oubliette``. :raises NotStartedError: it ended or did not start in time; what it said
        is in the message.
    """
    output = home.logs_dir / "serve.out"
    with writing(home):
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            # Not the working directory, which may hold anything, is where its modules come from.
            [sys.executable, "-P", "-m", "oubliette_core", *arguments],
            env=dict(environ),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    deadline = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        running = find(home)
        if running is not None and running.pid == process.pid:
            return running
        time.sleep(_POLL)
    if process.returncode is None:
        process.kill()
        process.wait()
    message, hint = _why(output.read_text(encoding="utf-8", errors="replace"))
    raise NotStartedError(
        f"the server did not start: {message or f'it ended with code {process.returncode}'}",
        process.returncode,
        subject=str(home.path),
        hint=hint or f"Run it in the foreground to see more: oubliette --dir {home.path} serve",
    )


def _why(said: str) -> tuple[str, str]:
    """Return the error and the hint that a command ended with, from all that it printed."""
    text, _, hint = re.split(r"^error: ", said, flags=re.MULTILINE)[-1].partition("\n  hint: ")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())[-1000:], hint.strip()


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock_file(home: Home) -> Path:
    return home.locks_dir / "server.lock"


def _state_file(home: Home) -> Path:
    return home.data_dir / "server.json"
