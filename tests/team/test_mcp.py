"""The Model Context Protocol both ways, by the published library."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from optio_agents.store import Store
from optio_agents.team import Attachment, Team, TurnContext, agent, model, tool
from optio_agents.team.mcp import McpEndpoint, mcp_tools, serve_verbs
from optio_agents.team.participants.agent_verbs import AgentVerbs
from optio_agents.team.stores.journal import TurnJournal
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.scripted_model import scripted_model
from tests.supervision.test_supervise_agents import spec_of
from tests.support.timeouts import BOUND
from tests.team.test_agents import echo

SERVER = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("archive")

@server.tool()
def search(query: str) -> str:
    "Search the archive."
    if query == "fire":
        raise ValueError("not that")
    return f"three books on {query}"

server.run()
"""


@asynccontextmanager
async def client_of(endpoint: McpEndpoint) -> AsyncIterator[ClientSession]:
    """A client of the published library."""
    headers = {"authorization": f"Bearer {endpoint.token}"}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        streamable_http_client(endpoint.url, http_client=http) as streams,
        ClientSession(*streams) as session,
    ):
        await session.initialize()
        yield session


async def use(endpoint: McpEndpoint, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    async with client_of(endpoint) as session:
        names = [one.name for one in (await session.list_tools()).tools]
        assert names == ["call", "send", "status", "sleep", "finish"]
        results = [await session.call_tool(name, arguments) for name, arguments in calls]
        return [result.content[0].text for result in results]


async def test_a_foreign_client_has_the_verbs_of_its_turn() -> None:
    found: list[str] = []

    async def outside(ctx: TurnContext) -> Any:
        async with serve_verbs(ctx) as endpoint:
            found[:] = await use(
                endpoint,
                ("call", {"name": "echo", "message": "hi"}),
                ("call", {"name": "nobody", "message": "x"}),
                ("finish", {"message": "all done"}),
            )
            return endpoint.finished

    async with Team({"outside": outside, "echo": echo}) as team:
        turn = team.call("outside")
        assert str(await turn) == "all done"
    assert found[0] == "[echo]echo hi[/echo]"
    assert found[1].startswith("error: no participant 'nobody'")
    assert [child.id for child in turn.children] == [f"{turn.id}.{turn.children[0].id[-13:]}"]


async def test_a_picture_that_a_tool_gives_reaches_its_client() -> None:
    @tool
    def photo() -> list[Any]:
        return ["here it is", Attachment("image/png", b"\x89PNG")]

    async def outside(ctx: TurnContext) -> list[str]:
        tools = AgentVerbs(ctx).tools()
        async with serve_verbs(ctx, tools=tools) as endpoint, client_of(endpoint) as session:
            words, picture = (await session.call_tool("photo", {})).content
        return [words.text, f"{picture.mime_type} {picture.data}"]

    async with asyncio.timeout(BOUND), Team({"outside": outside}, tools=[photo]) as team:
        said = [str(message) async for message in team.call("outside")]
    assert said == ["here it is", "image/png iVBORw=="]


async def test_without_the_token_or_from_a_page_nobody_is_served() -> None:
    async def outside(ctx: TurnContext) -> str:
        async with serve_verbs(ctx) as endpoint, httpx2.AsyncClient() as http:
            bearer = {"authorization": f"Bearer {endpoint.token}"}
            tries: list[dict[str, str]] = [
                {},
                {"authorization": "Bearer x"},
                {**bearer, "origin": "https://evil.example"},
            ]
            ask = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
            for headers in tries:
                refused = await http.post(endpoint.url, json=ask, headers=headers)
                assert refused.status_code in (401, 403)
            uninvited = await http.post(endpoint.url, json={**ask, "method": "x"}, headers=bearer)
            assert uninvited.status_code == 404
            wrong = await http.post(endpoint.url, content=b"{", headers=bearer)
            assert wrong.status_code == 400
            assert (await http.get(endpoint.url, headers=bearer)).status_code == 405
            return "ok"

    async with Team({"outside": outside}) as team:
        assert str(await team.call("outside")) == "ok"


async def test_a_client_that_comes_again_after_a_crash_makes_no_second_child(
    tmp_path: Path,
) -> None:
    asked: list[str] = []

    async def counted(ctx: TurnContext) -> str:
        asked.append(ctx.text)
        return ctx.text

    async def outside(ctx: TurnContext) -> str:
        async with serve_verbs(ctx) as endpoint:
            [said] = await use(endpoint, ("call", {"name": "counted", "message": "x"}))
        if len(asked) == ctx.claim.epoch:  # the first time
            await ctx.record("pause", True)
            ctx.suspend_for_mail()
        return said

    async with Team({"outside": outside, "counted": counted}, store=tmp_path / "j") as team:
        turn = team.call("outside")
        while turn.status != "sleeping":
            await turn.pieces.more()
        await turn.send("go on")
        assert str(await turn) == "[counted]x[/counted]"
    assert asked == ["x"]


async def test_what_a_server_offers_is_a_tool_of_models(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    replies = [
        {"call": "books_search", "arguments": {"query": "tea"}},
        {"call": "books_search", "arguments": {"query": "fire"}},
        "done",
    ]
    command = [sys.executable, str(tmp_path / "server.py")]
    async with scripted_model(*replies) as api, mcp_tools(command, prefix="books_") as tools:
        scout = model("openai-chat:m", base_url=api.url)
        async with Team({"scout": scout}, tools=tools) as team:
            assert str(await team.call("scout", "find")) == "done"
            assert (await team.call(tools[0], {"query": "rice"})).text == "three books on rice"
        first, second, third = (json.dumps(asked.body) for asked in api.requests)
    assert '"query"' in first
    assert "three books on tea" in second
    assert "error: search: " in third


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    monkeypatch.setitem(sys.modules, "mcp", None)

    async def connect() -> None:
        async with mcp_tools(["x"]):
            pass

    with pytest.raises(ImportError, match=r"install optio-agents\[mcp\]"):
        asyncio.run(connect())


async def slow(ctx: TurnContext) -> str:
    """Waits for a word."""
    return f"{await ctx.receive()}, said slow"


def coder(make: str, root: Path, api: Any, *steps: dict[str, Any]) -> Any:
    return agent(spec_of(make, root, api, *steps))


async def test_an_agent_that_takes_an_mcp_server_has_the_verbs_as_tools(tmp_path: Path) -> None:
    asked: list[str] = []
    uses = {"tool": "mcp__optio__call", "input": {"name": "echo", "message": "hi"}}
    async with asyncio.timeout(BOUND), ModelServer().serve() as api:
        people = {"coder": coder("kimi", tmp_path, api, uses, {"text": "Well."}), "echo": echo}
        async with Team(people, store=tmp_path / "j.sqlite3", approve=asked.append) as team:
            turn = team.call("coder", "x")
            assert str(await turn) == "Well."
        assert "[echo]echo hi[/echo]" in json.dumps(api.requests[-1])
    assert [child.name for child in turn.children] == ["echo"]
    assert asked == []


CALL = {"tool": "mcp__optio/call", "input": {"name": "slow", "message": "hi"}}
STEPS = (CALL, {**CALL, "hold": "again"}, {"text": "Well."})
WORKER = """
import asyncio, sys
from pathlib import Path
from tests.team.test_mcp import *

class Api:
    url = sys.argv[2]

async def main():
    root = Path(sys.argv[1])
    people = {"coder": coder("codex", root, Api, *STEPS), "slow": slow}
    async with Team(people, store=root / "j.sqlite3") as team:
        await team.call("coder", "x", id="killed")

asyncio.run(main())
"""


async def test_a_call_that_was_open_when_its_team_was_killed_is_found_again(tmp_path: Path) -> None:
    """At the same address: repeated by the agent, it is the same turn."""
    path = tmp_path / "j.sqlite3"
    async with asyncio.timeout(BOUND), ModelServer().serve() as api, Store(path) as store:
        command = [sys.executable, "-c", WORKER, str(tmp_path), api.url]
        first = subprocess.Popen(command)  # noqa: ASYNC220  # nobody else needs the loop
        async with TurnJournal(path) as journal, aclosing(journal.changes()) as news:
            async for _ in news:
                if any(one.row.name == "slow" for one in await journal.turns(running=True)):
                    break
        first.kill()
        first.wait()
        await api.held("again")
        people = {"coder": coder("codex", tmp_path, api, *STEPS), "slow": slow}
        async with Team(people, store=path) as team:
            turn = team.call("coder", "x", id="killed")
            while store.owner("killed") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            api.release("again")
            [called] = await team.turns(name="slow")
            await team.send(called.turn, "late")
            assert str(await turn) == "Well."
            assert [status.name for status in await team.turns()] == ["coder", "slow"]
        assert "[slow]late, said slow[/slow]" in json.dumps(api.requests[-1])
