"""MCP servers that are given to an agent: it uses them, and what they need to know stays hidden."""

# ruff: noqa: ASYNC110, ASYNC240  # files send no events, and nobody else needs the loop

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents import ToolServer
from optio_agents.conversation import PermissionDecision
from optio_agents.conversation.contract import variables_of
from optio_agents.supervision import Claude
from optio_agents.supervision.kinds.acp import _servers, _without_secrets
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer
from tests.supervision.test_supervise_agents import spec_of
from tests.supervision.test_supervise_claude import ENDS, claude
from tests.support import proc
from tests.support.claude.claude_cli import executable
from tests.support.components import CLAUDE, OLDER_CLAUDE
from tests.support.sessions.supervising import Office
from tests.support.timeouts import BOUND

SECRET = "sesame-4711-open"


@asynccontextmanager
async def mcp_server(headers: list[str]) -> AsyncIterator[str]:
    """One on loopback, without tools; *headers* collects the Authorization of each request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lines = [line.partition(": ") for line in head.split("\r\n")[1:]]
                known = {name.lower(): value for name, _, value in lines}
                body = await reader.readexactly(int(known.get("content-length", 0)))
                headers.append(known.get("authorization", ""))
                asked = json.loads(body) if body else {}
                writer.write(_response(asked))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp"
        server.close()


def _response(asked: dict[str, Any]) -> bytes:
    method, params = asked.get("method"), asked.get("params") or {}
    if method is None:
        return b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n"
    if "id" not in asked:
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    result: dict[str, Any] = {"tools": []} if method == "tools/list" else {}
    if method == "initialize":
        about = {"name": "docs", "version": "1"}
        result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}}
        result["serverInfo"] = about
    body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


@pytest.mark.parametrize("agent", [CLAUDE, OLDER_CLAUDE, "codex", "kimi"])
async def test_it_connects_with_its_headers_which_nobody_sees(office: Office, agent: str) -> None:
    headers = list[str]()
    with anyio.fail_after(BOUND):
        async with (
            ModelServer().serve() as api,
            mcp_server(headers) as url,
            office.store() as store,
            office.host() as host,
        ):
            held = {"text": "I wait.", "hold": "x"}
            spec: Any
            if agent[0].isdigit():
                spec = claude(office.directory, api, held, *ENDS)
                spec = replace(spec, executable=executable(agent))
            else:
                spec = spec_of(agent, office.directory, api, held)
            server = ToolServer("docs", url=url, headers={"Authorization": f"Bearer {SECRET}"})
            spec = replace(spec, mcp_servers=[server])
            assert SECRET not in repr((spec, server))
            allow = PermissionDecision("allow")
            supervising = supervise(host, spec, store=store, on_permission_request=lambda _: allow)
            async with supervising as session:
                while f"Bearer {SECRET}" not in headers:
                    await anyio.sleep(0.02)
                await api.held("x")
                assert not proc.running(SECRET)
                meta = Path(office.taskdir, "session/meta").read_text()
                assert SECRET not in meta
                api.release("x")
                await session.stop()
            assert SECRET.encode() not in Path(store.path).read_bytes()


def test_what_is_kept_of_a_server_is_no_secret_and_enough_for_who_knows_them() -> None:
    local = ToolServer("local", command=["serve", "-v"], env={"API_KEY": SECRET, "LEVEL": "3"})
    far = ToolServer("far", url="https://far", headers={"Authorization": SECRET})
    kept = json.loads(json.dumps([_without_secrets(one) for one in (local, far)]))
    assert SECRET not in str(kept)
    assert list(_servers(kept, variables_of([local, far]))) == [
        replace(local, command=["serve", "-v"]),
        replace(far, command=[]),
    ]
    assert list(_servers([{"name": "odd"}, 3], {})) == []
    spec = Claude("x", mcp_servers=[local, far])
    assert set(spec.env) == {"API_KEY", "LEVEL", "OPTIO_MCP_FAR_0_TOKEN"}
    with pytest.raises(ValueError, match="different values of LEVEL"):
        Claude("x", mcp_servers=[local, replace(local, name="other", env={"LEVEL": "4"})])
    with pytest.raises(ValueError, match="either a url or a command"):
        ToolServer("both", url="https://x", command=["x"])
