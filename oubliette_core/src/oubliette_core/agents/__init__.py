"""Agent sessions: clients of the Agent Client Protocol for agents that run in the projects' containers.

`AgentHost` is what front ends use. An agent is a program in a container that speaks JSON-RPC over its standard input
and output (https://agentclientprotocol.com); it is reached through `Runtime.open_exec`, so every runtime can host
every agent. The protocol's library is imported when the first agent is started.
"""

from oubliette_core.agents.host import AgentHost
from oubliette_core.agents.turns import Turn

__all__ = ["AgentHost", "Turn"]
