"""``python -m tests.embedded.careless ROOT IMAGE SEED``: works with containers until it is killed.

Before it does something it says what, and after it that it was done, one line of JSON each on standard output: who
kills it knows what had been done by then.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

from oubliette_core.errors import OublietteError
from oubliette_core.models import ContainerSpec, ExecSpec, RuntimeSettings
from oubliette_core.plugins import build_runtime
from oubliette_core.runtime import Runtime
from oubliette_embedded import EmbeddedRuntime

_NAMES = tuple(f"box-{number}" for number in range(4))


def say(**fields: Any) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def act(runtime: Runtime, image: str, name: str, what: str, word: str) -> None:
    """Do one thing with one container."""
    if what == "create":
        runtime.create(ContainerSpec(image=image, name=name))
    elif what == "start":
        runtime.start(name)
    elif what == "write":
        script = 'echo "$1" > /kept.new && mv /kept.new /kept'
        done = runtime.exec(name, ExecSpec(command=("/bin/sh", "-c", script, "sh", word)))
        assert done.exit_code == 0, done
    elif what == "stop":
        runtime.stop(name, grace=0)
    else:
        runtime.remove(name, force=True)


def main(root: str, image: str, seed: str) -> None:
    """Go on for ever."""
    chance = random.Random(seed)  # noqa: S311 - has to be the same each time
    runtime = build_runtime("embedded", EmbeddedRuntime(RuntimeSettings(options={"root": root})))
    number = 0
    while True:
        name = chance.choice(_NAMES)
        what = chance.choice(("create", "start", "start", "write", "write", "write", "stop", "remove"))
        number += 1
        word = f"{seed}-{number}"
        say(begun=what, name=name, word=word)
        try:
            act(runtime, image, name, what, word)
        except OublietteError as error:
            say(failed=what, name=name, why=type(error).__name__)
        else:
            say(done=what, name=name, word=word)


if __name__ == "__main__":
    main(*sys.argv[1:])
