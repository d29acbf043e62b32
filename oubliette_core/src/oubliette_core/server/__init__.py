"""The MCP server: Oubliette's services as tools for any client of the Model Context Protocol.

`toolbox` says what a tool is and `tools` lists them all; `dispatch` is the one way to them: it checks arguments and
access, calls the tool's function in a worker thread, and tells metrics, audit log and client what came of it. `http`
and `stdio` carry it. Nothing here is imported before it is needed: the MCP library alone takes most of a second.
"""
