"""All tools of the server."""

from __future__ import annotations

from oubliette_core.server import containers, projects, sessions, tokens

TOOLS = {tool.name: tool for tool in (*projects.TOOLS, *containers.TOOLS, *sessions.TOOLS, *tokens.TOOLS)}
