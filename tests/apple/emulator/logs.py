"""`logs`: one file for both streams, from the last start on, as text."""

import sys
import time

from tests.apple.emulator.context import Context
from tests.apple.emulator.failures import Failure
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.state import Record

_HEADER = 8


def logs(context: Context, parsed: Parsed) -> None:
    """`logs`."""
    name = parsed.words[0]
    context.faults.hang("logs")
    record = context.container(name)
    if record is None:
        raise _failed(context, name, f'notFound: "container with ID {name} not found"')
    if record["started"] is None:
        raise _failed(context, name, 'Error Domain=NSPOSIXErrorDomain Code=2 "No such file or directory"')
    if parsed.flag("boot"):
        context.out("[    0.000000] Linux version 6.18.15")
        return
    count = parsed.number("n")
    if parsed.flag("follow"):
        _follow(context, record, count)
        return
    content = _all(context, record)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise Failure("internalError", "failed to convert container logs to utf8") from None
    if count is None:
        context.out(text.strip("\n"))
        return
    for line in [line for line in text.split("\n") if line][-count if count else len(text) :]:
        context.out(line)


def _failed(context: Context, name: str, words: str) -> Failure:
    if context.profile.at_least(0, 10):
        cause = Failure("internalError", f"failed to open container logs: {words}")
        return Failure("internalError", f"failed to get logs for container {name}", cause)
    return Failure("internalError", f"failed to fetch container logs for {name}: {words}")


def _path(context: Context, record: Record, *, follow: bool) -> str:
    query = f"stdout=1&stderr=1&follow={int(follow)}&since={record['since']}"
    return f"/containers/{context.engine_name(record['configuration']['id'])}/logs?{query}"


def _all(context: Context, record: Record) -> bytes:
    try:
        body = context.engine.open("GET", _path(context, record, follow=False)).body()
    except EngineError:
        return b""
    return body if record["configuration"]["initProcess"]["terminal"] else _merged(body)[0]


def _merged(body: bytes) -> tuple[bytes, bytes]:
    """Join the frames of both streams; return what is not a whole frame, too."""
    found, start = bytearray(), 0
    while len(body) >= start + _HEADER:
        end = start + _HEADER + int.from_bytes(body[start + 4 : start + _HEADER], "big")
        if end > len(body):
            break
        found += body[start + _HEADER : end]
        start = end
    return bytes(found), body[start:]


def _follow(context: Context, record: Record, count: int | None) -> None:
    """Print lines as they come, and go on after the container's end: nothing ends this but a signal."""
    terminal = record["configuration"]["initProcess"]["terminal"]
    earlier = _all(context, record)
    rest, skipped = b"", len(earlier)
    lines = [line for line in earlier.split(b"\n") if line]
    _print_lines(context, lines if count is None else lines[-count:] if count else [])
    line = b""
    for chunk in context.engine.open("GET", _path(context, record, follow=True)).chunks():
        content, rest = (chunk, b"") if terminal else _merged(rest + chunk)
        fresh = content[skipped:]
        skipped = max(0, skipped - len(content))
        *whole, line = (line + fresh).split(b"\n")
        _print_lines(context, whole)
    _print_lines(context, [line])
    while True:
        time.sleep(3600)


def _print_lines(context: Context, lines: list[bytes]) -> None:
    for line in lines:
        if line:
            try:
                context.out(line.decode("utf-8"))
            except UnicodeDecodeError:
                continue
    sys.stdout.flush()
