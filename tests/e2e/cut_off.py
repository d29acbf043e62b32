"""``python -m tests.e2e.cut_off ARCHIVE HOME``: the main job without a network, on an engine that knows no image.

It is run in a network namespace of its own (`test_offline`), so that whatever asks a registry fails at once.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.e2e.test_cli_docker import installed
from tests.engine import private_engine


def main(archive: str, home: str) -> None:
    """Load the archive of the configured types, and run a project on one."""
    routes = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    assert [] == routes, "there is a network"
    with private_engine() as engine, installed(engine, Path(home)) as oubliette:
        oubliette("init", "--no-pull")
        assert oubliette.json("image", "list")[0]["local"] is None
        oubliette("image", "load", archive)
        oubliette("project", "create", "demo")
        oubliette("container", "start", "demo")
        assert oubliette("container", "exec", "demo", "--", "cat", "/etc/carried")[0] == b"by hand\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
