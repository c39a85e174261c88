"""Remote MCP servers that a task's agent may use.

Their headers carry tokens: no repr and no error shows one.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, TypeAlias

__all__ = ["McpConfigMixin", "McpServer", "McpServersProvider", "resolve_mcp_servers"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class McpServer:
    """An MCP server behind HTTP."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"MCP server: the name {self.name!r} is not of letters, digits, _, -")
        if not isinstance(self.url, str) or not self.url.startswith(("http://", "https://")):
            raise ValueError(f"MCP server {self.name}: its url begins with http:// or https://")
        if not isinstance(self.headers, Mapping) or not all(
            isinstance(part, str) and "\n" not in part and "\r" not in part
            for header in self.headers.items()
            for part in header
        ):
            raise ValueError(f"MCP server {self.name}: its headers map one line to one line")
        object.__setattr__(self, "headers", dict(self.headers))


McpServersProvider: TypeAlias = Callable[[str], Awaitable[list[McpServer]]]
"""`provider(process_id)`: asked at every launch, so that a token may be new each time."""


@dataclass(frozen=True)
class McpConfigMixin:
    """A task's servers, or who knows them."""

    _: KW_ONLY
    mcp_servers: list[McpServer] | McpServersProvider | None = field(default=None, repr=False)

    def _validate_mcp(self, *, supported: bool, agent: str) -> None:
        if self.mcp_servers is None:
            return
        if not supported:
            raise ValueError(f"{agent} does not support mcp_servers yet")
        if not callable(self.mcp_servers):
            _check(self.mcp_servers)


async def resolve_mcp_servers(config: McpConfigMixin, process_id: str) -> list[McpServer]:
    """The servers of this launch. Raises ValueError, and whatever a provider raises."""
    servers = config.mcp_servers
    if servers is None:
        return []
    return _check(await servers(process_id) if callable(servers) else servers)


def _check(servers: Any) -> list[McpServer]:
    if not isinstance(servers, list | tuple) or not all(
        isinstance(server, McpServer) for server in servers
    ):
        raise ValueError("mcp_servers is a list of McpServer")
    names = [server.name for server in servers]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"duplicate MCP server name: {twice}")
    return list(servers)
