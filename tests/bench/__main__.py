"""`python -m tests.bench [NAME...]`: print ratios against the floor and the peers, all measured in this run."""

import argparse
import os
import platform
import sys

from tests.bench import embedded, engine_calls, mcp, pulls, startup
from tests.bench.measure import show
from tests.engine import running_engine

BENCHES = {**engine_calls.BENCHES, **startup.BENCHES, **mcp.BENCHES, **pulls.BENCHES, **embedded.BENCHES}


def main() -> int:
    """Run the benches that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(BENCHES)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiply the number of rounds (default: 1)")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHES]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; choose from {', '.join(BENCHES)}")
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.2f}, {platform.platform()}")
    with running_engine() as engine:
        os.environ.update(engine.environment())  # one engine for all of them
        for name in arguments.names or BENCHES:
            for outcome in BENCHES[name](arguments.scale):
                show(outcome)
                sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
