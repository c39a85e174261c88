"""Functions of ours that an agent calls over its own stream: tools, hooks, and who serves them."""

# ruff: noqa: ASYNC110, ASYNC240  # files send no events, and nobody else needs the loop

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.conversation import Attachment, Hook, PermissionDecision, ToolCall
from optio_agents.conversation.approvals import Served
from optio_agents.store import Store
from optio_agents.supervision import Codex, Command, Gemini, events as happened
from optio_agents.supervision.supervise import supervise
from optio_agents.testing.model_server import ModelServer
from tests.supervision.test_supervise_claude import ENDS, bash, claude
from tests.support.claude.claude_cli import executable
from tests.support.components import CLAUDE, OLDER_CLAUDE
from tests.support.sessions.supervising import Case, Office, Watching
from tests.support.timeouts import BOUND

WEATHER = {"tool": "mcp__optio__weather", "input": {"city": "Oslo"}}


def answers_in(api: ModelServer) -> str:
    """What the model was given last."""
    return json.dumps(api.requests[-1]["messages"])


@pytest.mark.parametrize("version", [CLAUDE, OLDER_CLAUDE])
async def test_a_function_is_a_tool_and_a_hook_is_asked(office: Office, version: str) -> None:
    """With no permission asked, no port open, and what each gives told to the model."""
    asked, watching = list[ToolCall](), Watching()

    async def weather(city: str, days: int = 1) -> dict[str, Any]:
        """How it is there.

        Args:
            city: where
        """
        if city == "Atlantis":
            raise LookupError("it has sunk")
        return {"city": city, "days": days, "rain": True}

    def chart(city: str) -> list[object]:
        return [f"chart of {city}", Attachment("image/png", PNG)]

    async def no_nonsense(call: ToolCall) -> PermissionDecision | None:
        asked.append(call)
        wrong = "nonsense" in call.input["tool_input"]["command"]
        return PermissionDecision("deny", message="no such thing") if wrong else None

    steps = (
        WEATHER,
        {"tool": "mcp__optio__weather", "input": {"city": "Atlantis"}},
        {"tool": "mcp__optio__weather", "input": {"town": "Oslo"}},
        {"tool": "mcp__optio__chart", "input": {"city": "Oslo"}},
        bash("echo nonsense > nonsense"),
        *ENDS,
    )
    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.host() as host:
            spec = replace(
                claude(office.directory, api, *steps),
                executable=executable(version),
            )
            result = await supervise(
                host,
                spec,
                observer=watching,
                tools=[weather, chart],
                hooks=[Hook("PreToolUse", no_nonsense, matcher="Bash")],
            )
    assert result.outcome == "done"
    said = answers_in(api)
    assert json.dumps('{"city": "Oslo", "days": 1, "rain": true}')[1:-1] in said
    assert "it has sunk" in said
    assert "weather was not run" in said
    assert "chart of Oslo" in said
    assert '"image/png"' in said
    assert "no such thing" in said
    assert not Path(office.taskdir, "workdir/nonsense").exists()
    assert [call.event for call in asked] == ["PreToolUse", "PreToolUse"]
    assert watching.of(happened.RequestOpened) == []


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c49444154789c63f8cfc0"
    "000003010100c9fe92ef0000000049454e44ae426082"
)


@pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
async def test_a_call_that_is_open_when_its_supervisor_dies_is_served_by_the_next(
    case: Case,
) -> None:
    calls = list[tuple[str, str]]()

    class Weather:
        name, description = "weather", "How it is there."
        parameters: Mapping[str, Any] = {"type": "object"}

        async def call(self, arguments: Mapping[str, Any], *, id: str) -> str:  # noqa: A002
            calls.append((id, arguments["city"]))
            return "rain, says the second"

    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api:
            plan = case.plan_for(claude(case.ground.directory, api, WEATHER, *ENDS))
            child = case.start(replace(plan, serves=True))
            await case.says(child, "called for Oslo")
            child.kill()
            await anyio.to_thread.run_sync(child.wait)
            async with Store(case.directory / "j.sqlite3") as store:
                result = await case.resume(store, tools=[Weather()])
    assert result.outcome == "done"
    ((use, city),) = calls
    assert (use[:6], city) == ("toolu_", "Oslo")
    results = answers_in(api)
    assert results.count("rain, says the second") == 1
    assert len(list(case.file("answers").iterdir())) >= 1


async def test_who_has_no_such_tool_says_so_and_leaves_the_call_open(office: Office) -> None:
    """Until nobody has served it for as long as a permission waits."""
    watching, calls = Watching(), list[str]()

    async def weather(city: str) -> str:
        calls.append(city)
        await anyio.sleep_forever()
        raise AssertionError

    with anyio.fail_after(BOUND):
        async with ModelServer().serve() as api, office.store() as store:
            async with office.host() as host:
                spec = claude(office.directory, api, WEATHER, *ENDS)
                async with supervise(host, spec, store=store, tools=[weather]) as session:
                    while not calls:
                        await anyio.sleep(0.01)
                    await session.detach()
            result = await supervise(
                None,
                resume=session.id,
                store=store,
                observer=watching,
                permission_timeout=0.5,
            )
    assert result.outcome == "done"
    assert any("waits for weather" in one.text for one in watching.of(happened.Notice))
    assert "nobody serves weather" in answers_in(api)
    assert calls == ["Oslo"]


@pytest.mark.parametrize("spec", [Codex("x"), Gemini("x"), Command(["true"])])
def test_an_agent_that_cannot_call_them_is_given_none(spec: Any, office: Office) -> None:
    def tool() -> None:
        """Nothing."""

    with pytest.raises(ValueError, match="cannot call functions of ours: Claude can"):
        supervise(office.host(), spec, tools=[tool])


def test_names_that_cannot_be_are_refused() -> None:
    def tool() -> None:
        """Nothing."""

    with pytest.raises(ValueError, match="same name"):
        Served.of([tool, tool])
    with pytest.raises(ValueError, match="no tool can have the name '<lambda>'"):
        Served.of([lambda: None])
