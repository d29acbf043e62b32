"""The tables of the page about agent sessions are complete. Its blocks are checked with those of all pages."""

from __future__ import annotations

import re

from oubliette_core.config.schema import SHIPPED_AGENTS
from oubliette_core.server.tools import TOOLS
from tests.docs.blocks import ROOT

TEXT = (ROOT / "docs" / "how-to" / "agent-sessions.md").read_text(encoding="utf-8")


def test_the_shipped_agents_are_in_the_table() -> None:
    """Each with its command."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w -]+)` \|", TEXT, flags=re.MULTILINE))

    assert {name: " ".join(agent["command"]) for name, agent in SHIPPED_AGENTS.items()} == rows


def test_the_tools_are_in_the_table() -> None:
    """And none that is not there."""
    named = set(re.findall(r"`(session_[a-z]+)`", TEXT)) - {"session_log"}

    assert {name for name in TOOLS if name.startswith("session_")} == named
