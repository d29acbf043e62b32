"""`build`: the engine builds, and the store takes the result."""

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.apple.emulator.archives import hand_over, take_over
from tests.apple.emulator.context import Context, quote
from tests.apple.emulator.failures import Failure, UsageError
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.images import find
from tests.apple.emulator.references import parse
from tests.apple.emulator.specs import labels
from tests.apple.emulator.store import native_platform

_USAGE = "build [<options>] [<context-dir>]"
_LARGEST = 16 * 1024
_FROM = re.compile(r"(?im)^(\s*FROM\s+(?:--\S+\s+)*)(\S+)")


def build(context: Context, parsed: Parsed) -> None:
    """`build`: what the builder says goes to standard error, the tags to standard output."""
    folder = Path(parsed.words[0] if parsed.words else ".")
    if not folder.is_dir():
        raise UsageError(f"context dir does not exist {folder}", _USAGE)
    file = Path(parsed.text("file") or folder / "Dockerfile")
    if not file.is_file():
        raise UsageError(f"dockerfile does not exist {file}", _USAGE)
    context.state.require_service()
    text = file.read_text()
    if len(text) >= _LARGEST:
        raise Failure("invalidArgument", "dockerfile is too large")
    tags = parsed.many("tag") or [os.urandom(8).hex()]
    references = [str(parse(tag)) for tag in tags]
    name = f"{context.engine_name('built')}:{os.urandom(6).hex()}"
    _run(context, parsed, folder, _FROM.sub(lambda match: match[1] + _base(context, match[2]), text), name)
    try:
        index = take_over(context.store, context.engine, name)
    finally:
        context.engine.open("DELETE", f"/images/{name}?force=1").body()
    with context.state.change() as data:
        data["images"].update(dict.fromkeys(references, index))
    for tag in tags:
        context.out(tag)


def _base(context: Context, name: str) -> str:
    """Return the name under which the engine has a base image; one of ours is handed over."""
    found = None if name == "scratch" or "$" in name else find(context, name)
    variant = found and context.store.variant(found[1]["digest"], native_platform())
    if not variant:
        return name
    tag = f"{context.engine_name('base')}:{variant['digest'].removeprefix('sha256:')[:20]}"
    hand_over(context.store, context.engine, variant["digest"], tag, settings=True)
    return tag


def _run(context: Context, parsed: Parsed, folder: Path, dockerfile: str, name: str) -> None:
    query = {
        "t": name,
        "dockerfile": ".emulator.Dockerfile",
        "rm": "1",
        "forcerm": "1",
        "nocache": "1" if parsed.flag("no-cache") else "0",
        "target": parsed.text("target") or "",
        "buildargs": json.dumps(dict(text.partition("=")[::2] for text in parsed.many("build-arg"))),
        "labels": json.dumps(labels(parsed)),
    }
    path = "/build?" + "&".join(f"{key}={quote(value)}" for key, value in query.items() if value)
    try:
        answer = context.engine.open("POST", path, body=_packed(folder, dockerfile))
    except EngineError as error:
        raise Failure("unknown", f"failed to solve: {error.text}") from None
    for line in _lines(answer.chunks()):
        said = json.loads(line)
        if "error" in said:
            raise Failure("unknown", f"failed to solve: {said['error']}")
        if text := str(said.get("stream", "")).rstrip("\n"):
            os.write(2, f"#1 {text}\n".encode())


def _packed(folder: Path, dockerfile: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, ".")
        entry = tarfile.TarInfo(".emulator.Dockerfile")
        content = dockerfile.encode()
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
    if rest.strip():
        yield rest
