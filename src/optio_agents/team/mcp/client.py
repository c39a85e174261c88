"""What an MCP server offers, as tools of a team or of one model.

async with mcp_tools(["npx", "some-server"]) as tools, Team({…}, tools=tools) as team: ...
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from optio_agents.team.messages import Attachment
from optio_agents.team.participants.tools import Tool, ToolRefused, ToolResult


@asynccontextmanager
async def mcp_tools(
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = 300.0,  # noqa: ASYNC109 - of each use
    prefix: str = "",
) -> AsyncIterator[list[Tool]]:
    """The tools of an MCP *server*, a command or an address, while the block lasts.

    *env* is what a command gets beside what any program needs, *headers* go with each request to
    an address; *prefix* stands in front of each tool's name. Raises ImportError without `[mcp]`.
    """
    try:
        from mcp import ClientSession
    except ImportError as error:
        raise ImportError(
            f"for tools of MCP servers install optio-agents[mcp] ({error})"
        ) from error
    async with AsyncExitStack() as stack:
        streams = await stack.enter_async_context(_connected(server, env, headers))
        session = await stack.enter_async_context(ClientSession(*streams))
        await session.initialize()
        offered = (await session.list_tools()).tools
        yield [_tool(session, one, timeout=timeout, prefix=prefix) for one in offered]


@asynccontextmanager
async def _connected(
    server: str | Sequence[str], env: Mapping[str, str] | None, headers: Mapping[str, str] | None
) -> AsyncIterator[tuple[Any, Any]]:
    if isinstance(server, str):
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        async with AsyncExitStack() as stack:
            http = httpx2.AsyncClient(headers=dict(headers or {}), timeout=None)
            client = await stack.enter_async_context(http)
            streams = streamable_http_client(server, http_client=client)
            yield await stack.enter_async_context(streams)
    else:
        from mcp.client.stdio import StdioServerParameters, stdio_client

        command, *arguments = server
        wanted = StdioServerParameters(command=command, args=arguments, env=dict(env or {}) or None)
        async with stdio_client(wanted) as (read, write):
            yield read, write


def _tool(session: Any, offered: Any, *, timeout: float | None, prefix: str) -> Tool:
    async def use(**arguments: Any) -> ToolResult:
        result = await session.call_tool(offered.name, arguments)
        texts = [block.text for block in result.content if block.type == "text"]
        files = tuple(
            Attachment(block.mime_type, base64.b64decode(block.data))
            for block in result.content
            if block.type in {"image", "audio"}
        )
        text = "\n".join(texts)
        if result.is_error:
            raise ToolRefused(f"{offered.name}: {text}")
        return ToolResult(text, text, result.structured_content, files)

    return Tool(
        use,
        name=f"{prefix}{offered.name}",
        description=offered.description or offered.name,
        parameters=offered.input_schema,
        timeout=timeout,
    )
