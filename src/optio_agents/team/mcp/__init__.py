"""The Model Context Protocol, both ways: verbs for foreign clients, foreign servers as tools.

`server` gives the verbs of one turn to a program that speaks MCP; it needs nothing beside us.
`client` makes tools of what a server offers, by the library of the extra `[mcp]`.
"""

from .client import mcp_tools
from .server import McpEndpoint, serve_verbs

__all__ = ["McpEndpoint", "mcp_tools", "serve_verbs"]
