"""Write every page that is made: the only command to know after a change of what the pages describe.

python -m docs.generate          write what is not as it would be written
python -m docs.generate --check  write nothing, and fail if there is such a page
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from docs.generate import commands, configuration, errors, hooks, tools
from oubliette_core.config import template_text
from tests.docs import capabilities

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
PAGES: dict[str, Callable[[], str]] = {
    "config/oubliette.jsonc.example": template_text,
    "docs/CONFIGURATION.md": configuration.page,
    "docs/reference/capabilities.md": lambda: capabilities.page(capabilities.read_stored()),
    "docs/reference/commands.md": commands.page,
    "docs/reference/errors.md": errors.page,
    "docs/reference/hooks.md": hooks.page,
    "docs/reference/tools.md": tools.page,
}


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    stale = False
    for name, make in PAGES.items():
        file, text = ROOT / name, make()
        if file.exists() and file.read_text(encoding="utf-8") == text:
            continue
        stale = True
        if "--check" in arguments:
            sys.stderr.write(f"{name} is not what would be written: run python -m docs.generate\n")
        else:
            file.write_text(text, encoding="utf-8")
            sys.stderr.write(f"wrote {name}\n")
    return int(stale and "--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
