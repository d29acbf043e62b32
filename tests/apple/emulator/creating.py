"""`create`, and what `run` has in common with it."""

import os
import time
from pathlib import Path

from tests.apple.emulator import specs
from tests.apple.emulator.archives import hand_over
from tests.apple.emulator.context import Context, quote
from tests.apple.emulator.failures import Failure
from tests.apple.emulator.grammar import Parsed
from tests.apple.emulator.http import EngineError
from tests.apple.emulator.images import local
from tests.apple.emulator.progress import Progress
from tests.apple.emulator.state import Record, maker_lives, new_id, now


def create(context: Context, parsed: Parsed) -> None:
    """`create`: prints the id alone."""
    specs.check(parsed)
    context.out(make(context, parsed, Progress(6, quiet=True)))


def make(context: Context, parsed: Parsed, progress: Progress) -> str:
    """Make a container that does not run and return its id."""
    context.state.require_service()
    context.faults.hang("create")
    if context.faults.take("xpc-timeout-create"):
        raise Failure("internalError", "XPC timeout for request to com.apple.container.apiserver/containerCreate")
    name = parsed.text("name") or new_id()
    context.check_name(name)
    image = local(context, parsed.words[0], parsed, progress)
    made = specs.configuration(context, parsed, name, image)
    if not context.state.read()["kernel"]:
        text = f"default kernel not configured for architecture {made['platform']['architecture']}"
        raise Failure("notFound", f"{text}, please use the `container system kernel set` command to configure it")
    context.containers()  # those that ended and are to be removed no longer hold their names
    _reserve(context, name, {"configuration": made, "rm": parsed.flag("rm")})
    try:
        with context.state.one_at_a_time():
            _make_in_engine(context, name, made, image[2]["digest"])
    except BaseException:
        with context.state.change() as data:
            data["containers"].pop(name, None)
        raise
    with context.state.change() as data:
        data["containers"][name]["maker"] = 0
    if path := parsed.text("cidfile"):
        Path(path).write_text(name)
    return name


def _reserve(context: Context, name: str, parts: Record) -> None:
    with context.state.change() as data:
        known = data["containers"].get(name)
        if known and maker_lives(known):
            exists = Failure("exists", f"container already exists: {name}")
            if context.profile.at_least(1, 2):
                raise exists
            raise Failure("internalError", "failed to create container", exists)
        fresh: Record = {
            "state": "stopped",
            "started": None,
            "attachments": [],
            "boot": 0,
            "created": now(),
            "maker": os.getpid(),
        }
        data["containers"][name] = {**fresh, **parts}


def _make_in_engine(context: Context, name: str, made: Record, manifest: str) -> None:
    tag = f"{context.engine_name('image')}:{manifest.removeprefix('sha256:')[:20]}"
    try:
        context.engine.call("GET", f"/images/{tag}/json")
    except EngineError:
        hand_over(context.store, context.engine, manifest, tag)
    path = f"/containers/create?name={quote(context.engine_name(name))}"
    wanted = specs.for_engine(context, made, tag)
    try:
        context.engine.call("POST", path, wanted)
    except EngineError as error:
        if error.status != 409:
            raise Failure("internalError", f"failed to create container: {error.text}") from None
        # What a killed create has left behind.
        context.engine.call("DELETE", f"/containers/{context.engine_name(name)}?force=1&v=1")
        time.sleep(0.1)
        context.engine.call("POST", path, wanted)
