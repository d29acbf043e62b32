"""``python -m tests.demo``: the main job of the README, on an engine that is reachable, or without any.

With ``--svg`` what it prints becomes the picture in the README, too.
"""

from __future__ import annotations

import signal
import subprocess
import sys

from tests.demo.recording import PICTURE, draw
from tests.demo.stage import stage
from tests.demo.story import tell
from tests.demo.transcript import DemoError
from tests.engine import EngineUnavailableError


def main(arguments: list[str]) -> int:
    """Run the demo; return its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if "--svg" in arguments:
            return _record()
        with stage() as played_on:
            print(f"Oubliette on {played_on.told}", flush=True)
            tell(played_on)
    except (DemoError, EngineUnavailableError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print("\nAll came out as it has to.")
    return 0


def _record() -> int:
    done = subprocess.run([sys.executable, "-m", "tests.demo"], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, end="")
    if done.returncode == 0:
        PICTURE.write_text(draw(done.stdout), encoding="utf-8")
        print(f"Drawn: {PICTURE}")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
