"""The verbs of one turn over HTTP on loopback, for a program that speaks MCP.

    async def reviewer(ctx):
        async with serve_verbs(ctx) as endpoint:
            await run_program(url=endpoint.url, token=endpoint.token)

Whoever has the token of the turn may use its verbs while the block lasts. The n-th use by the n-th
client is the same call when the participant runs again, as if its function had made it.

An agent that outlives us has the same address and token for its whole turn, and *tools* beside the
verbs. A use that it heard no answer to, since we died or it was not so patient, is the same one
when it is repeated.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from optio_agents.team.participants.agent_verbs import StreamTool
from optio_agents.team.participants.tools import ToolResult
from optio_agents.team.verbs import VERBS, Finished, dispatch, schema

if TYPE_CHECKING:
    from optio_agents.team.context import TurnContext
    from optio_agents.team.messages import Message

_MOST = 1 << 22  # bytes of a request
_SLOW = 60.0  # seconds for a request to come whole
_VERSION = "2025-06-18"
_STATUS = {200: "OK", 202: "Accepted", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden"}
_STATUS |= {404: "Not Found", 405: "Method Not Allowed", 413: "Content Too Large"}
# Who may be spoken to is decided by the team, and a tool of its own asks the approver itself.
_HARMLESS = {"destructiveHint": False, "openWorldHint": False}
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class McpEndpoint:
    """Where the verbs of a turn are to be had, and by which token (`Authorization: Bearer …`)."""

    def __init__(
        self, context: TurnContext, tools: Sequence[StreamTool] = (), token: str | None = None
    ) -> None:
        self._context, self._counted = context, not tools
        verbs = [StreamTool(verb, VERBS[verb][0], schema(verb), self._use_verb) for verb in VERBS]
        self._tools = {tool.name: tool for tool in tools or verbs}
        self.url, self.token = "", token or secrets.token_urlsafe(32)
        self.port = 0
        self.finished: Message | None = None  # what the client finished the work with
        self._clients: dict[str, int] = {}  # by the id of its session: how often it has called

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        try:
            while True:
                async with asyncio.timeout(_SLOW):
                    head = await reader.readuntil(b"\r\n\r\n")
                    line, headers = _parsed(head)
                    size = int(headers.get("content-length", "0"))
                    body = await reader.readexactly(size) if size <= _MOST else b""
                status, answer, more = await self._answer(line, headers, body, size)
                data = b"" if answer is None else json.dumps(answer).encode()
                kind = {"content-type": "application/json"} if data else {}
                fields = {**kind, **more, "content-length": str(len(data))}
                text = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                writer.write(f"HTTP/1.1 {status} {_STATUS[status]}\r\n{text}\r\n".encode() + data)
                await writer.drain()
                if not self._counted and not reader.at_eof():
                    await self._heard(line, body)
                if status >= 400:
                    return
        except (OSError, ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client has gone, or speaks something else
        finally:
            writer.close()

    async def _answer(
        self, line: list[str], headers: Mapping[str, str], body: bytes, size: int
    ) -> tuple[int, Any, dict[str, str]]:
        if status := self._refused(line, headers, size):
            return status, None, {"www-authenticate": "Bearer"} if status == 401 else {}
        if line[0] == "DELETE":  # the client has ended its session
            return 200, None, {}
        try:
            asked = json.loads(body)
        except ValueError:
            return 400, _error(None, -32700, "this is no JSON"), {}
        if not isinstance(asked, dict):
            return 400, _error(None, -32600, "one request at a time"), {}
        more: dict[str, str] = {}
        client = headers.get("mcp-session-id", "")
        if asked.get("method") == "initialize":
            client = more["mcp-session-id"] = f"{len(self._clients) + 1}-{secrets.token_hex(8)}"
            self._clients[client] = 0
        if client not in self._clients and self._counted:
            return 404, _error(asked.get("id"), -32000, "say initialize first"), {}
        if "id" not in asked:  # a notification
            return 202, None, more
        return 200, await self._result(client, asked), more

    def _refused(self, line: list[str], headers: Mapping[str, str], size: int) -> int:
        """The status of what is not served; 0 for what is."""
        origin = headers.get("origin")
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return 401
        if origin and urlsplit(origin).hostname not in _LOOPBACK:  # a page of somebody's
            return 403
        if line[1] != "/mcp":
            return 404
        if line[0] not in ("POST", "DELETE"):
            return 405
        return 413 if size > _MOST else 0

    async def _result(self, client: str, asked: Mapping[str, Any]) -> Any:
        params = asked.get("params")
        params = params if isinstance(params, dict) else {}
        match asked.get("method"):
            case "initialize":
                about = {"name": "optio-agents", "version": "1"}
                version = params.get("protocolVersion")
                result: Any = {
                    "protocolVersion": version if isinstance(version, str) else _VERSION,
                    "capabilities": {"tools": {}},
                    "serverInfo": about,
                }
            case "ping":
                result = {}
            case "tools/list":
                listed = [
                    {
                        "name": one.name,
                        "description": one.description,
                        "inputSchema": one.parameters,
                        "annotations": _HARMLESS,
                    }
                    for one in self._tools.values()
                ]
                result = {"tools": listed}
            case "tools/call":
                result = await self._use(client, params)
            case method:
                return _error(asked["id"], -32601, f"there is no method {str(method)[:80]!r} here")
        return {"jsonrpc": "2.0", "id": asked["id"], "result": result}

    async def _use(self, client: str, params: Mapping[str, Any]) -> Any:
        name, given = str(params.get("name")), params.get("arguments")
        if self._counted:
            self._clients[client] += 1
            key = f"mcp:{client.partition('-')[0]}:{self._clients[client]}"
        else:
            digest = _digest(params)
            key = f"mcp:{digest}:{self._answered(digest)}"
        if (tool := self._tools.get(name)) is not None:
            result = await tool.call(given if isinstance(given, dict) else {}, id=key)
        else:
            there = ", ".join(self._tools)
            result = ToolResult(f"error: there is no tool {name!r}: there are {there}")
        return {"content": list(_blocks(result)), "isError": result.failed}

    async def _use_verb(self, verb: str, arguments: Mapping[str, Any], key: str) -> ToolResult:
        try:
            return ToolResult(await dispatch(self._context, verb, arguments, key=key))
        except Finished as finished:
            self.finished = finished.message
            return ToolResult("Your work is ended.")

    def _answered(self, digest: str) -> int:
        return sum(key.startswith(f"heard:{digest}:") for key in self._context.claim.records)

    async def _heard(self, line: list[str], body: bytes) -> None:
        """The agent has the answer to *body*: the same words are another use from now on."""
        asked = json.loads(body) if line[0] == "POST" else {}
        if isinstance(asked, dict) and asked.get("method") == "tools/call":
            digest = _digest(asked.get("params") or {})
            await self._context.record(f"heard:{digest}:{self._answered(digest)}", True)


@asynccontextmanager
async def serve_verbs(
    context: TurnContext, *, tools: Sequence[StreamTool] = (), at: tuple[int, str] | None = None
) -> AsyncIterator[McpEndpoint]:
    """Serve the verbs of the turn of *context* on a loopback port while the block lasts.

    Or *tools*, *at* a port and with a token. Raises OSError where that port is another's by now.
    """
    port, token = at or (0, None)
    endpoint = McpEndpoint(context, tools, token)
    open_: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_.add(task)
        try:
            await endpoint.serve(reader, writer)
        finally:
            open_.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    endpoint.port = server.sockets[0].getsockname()[1]
    endpoint.url = f"http://127.0.0.1:{endpoint.port}/mcp"
    stays, context.stays = context.stays, True  # the client waits, and so do we
    try:
        yield endpoint
    finally:
        context.stays = stays
        server.close()
        for task in tuple(open_):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*open_, return_exceptions=True)


def _parsed(head: bytes) -> tuple[list[str], dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines if line)
    words = first.split(" ")
    if len(words) != 3:
        raise ValueError("no HTTP")
    return words, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _digest(params: Mapping[str, Any]) -> str:
    words = json.dumps([params.get("name"), params.get("arguments")], sort_keys=True)
    return hashlib.sha256(words.encode()).hexdigest()[:24]


def _blocks(result: ToolResult) -> Iterator[dict[str, Any]]:
    yield {"type": "text", "text": result.text}
    for one in result.attachments:
        sense, kind = one.media_type.partition("/")[0], one.media_type
        if one.data is not None and sense in ("image", "audio"):
            data = base64.b64encode(one.data).decode()
            yield {"type": sense, "data": data, "mimeType": kind}


def _error(ident: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": ident, "error": {"code": code, "message": message}}
