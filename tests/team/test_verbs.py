"""The verbs, by each mouth that speaks them: Python, a model's tools, lines of an agent's log."""

# ruff: noqa: ASYNC240  # nobody else needs the event loop meanwhile

import asyncio
import json
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from optio_agents.supervision.sessions import task_directory
from optio_agents.team import CallFailed, Team, TeamError, TurnContext, agent, model, tool
from optio_agents.team.participants.agent_sessions import session_of
from optio_agents.team.verbs import dispatch
from optio_agents.testing.model_server import ModelServer
from optio_agents.testing.scripted_model import scripted_model
from tests.support.timeouts import BOUND
from tests.team.test_agents import at_work, claude, echo, hears, program

# What is asked for, and what is said of it; the last one ends the turn.
TABLE: list[tuple[str, dict[str, Any], str]] = [
    ("call", {"name": "echo", "message": "hi"}, r"\[echo\]echo hi\[/echo\]"),
    ("call", {"name": "nobody", "message": "x"}, r"error: no participant 'nobody'.*echo"),
    ("call", {"name": "echo", "message": "bg", "background": True}, r"one-\w+\.\w+"),
    ("call", {"message": "x"}, "error: call needs name"),
    ("call", {"name": "echo", "message": 3}, "error: message of call is to be a string"),
    ("call", {"name": "echo", "message": "x", "at": 1}, "error: call has no 'at'"),
    ("send", {"to": "caller", "message": "half"}, "delivered"),
    ("send", {"to": "no-such", "message": "x"}, "error: this team has no turn 'no-such'"),
    ("send", {"to": "known", "message": "x"}, "error: turn known of echo is over"),
    ("status", {"turn": "known"}, '"status": "completed", "text": "echo known"'),
    ("status", {"turn": "../x"}, "error: this team has no turn"),
    ("sleep", {"seconds": 0.05}, "woken: time"),
    ("sleep", {}, "error: say how long to sleep"),
    ("sleep", {"until": ["no-such"]}, "error: .*called no turn 'no-such'"),
    ("finish", {"message": "all done"}, ""),
]


def check(found: list[str]) -> None:
    for (verb, arguments, wanted), said in zip(TABLE, found, strict=True):
        assert re.search(wanted, said), f"{verb} {arguments}: {said}"


async def run(people: dict[str, Any], store: Path | None = None) -> Any:
    told: list[str] = []
    team = Team({**people, "echo": echo}, store=store)
    team.on("told")(lambda turn, message: told.append(str(message)))
    async with team:
        await team.call("echo", "known", id="known")
        turn = team.call("one", "go", id=f"one-{secrets.token_hex(4)}")
        assert str(await turn) == "all done"
    assert told == ["half"]
    return turn


async def test_python_speaks_the_verbs() -> None:
    found: list[str] = []

    async def say(ctx: TurnContext, verb: str, given: dict[str, Any]) -> str:
        match verb:
            case "call":
                turn = ctx.call(given["name"], given["message"])
                return turn.id if given.get("background") else f"[echo]{await turn}[/echo]"
            case "send":
                await ctx.send(given["to"], given["message"])
                return "delivered"
            case "status":
                status = await ctx.status(given["turn"])
                return f'"status": "{status.status}", "text": "{status.text}"'
        turns = [ctx.find(one) for one in given.get("until", ())]
        return f"woken: {(await ctx.sleep(*turns, seconds=given.get('seconds'))).reason}"

    async def one(ctx: TurnContext) -> str:
        for verb, given, wanted in TABLE[:-1]:
            if " call " in f" {wanted} " and "error" in wanted:  # Python's own business
                found.append(wanted)
                continue
            try:
                found.append(await say(ctx, verb, given))
            except (TeamError, ValueError, CallFailed) as error:
                found.append(f"error: {error}")
        return "all done"

    await run({"one": one})
    check([*(re.sub("call (needs|has)", r"call \1", said) for said in found), ""])


async def test_a_model_speaks_the_verbs() -> None:
    replies = [{"call": verb, "arguments": given} for verb, given, _ in TABLE]
    async with scripted_model(*replies) as api:
        await run({"one": model("openai-chat:m", base_url=api.url)})
        said = [m["content"] for m in api.requests[-1].body["messages"] if m["role"] == "tool"]
    check([*said, ""])


async def test_what_is_needed_and_null_is_missing() -> None:
    async def one(ctx: TurnContext) -> list[str]:
        wrong = [("status", {"turn": None}), ("call", {"name": None, "message": "x"})]
        return [await dispatch(ctx, verb, given, key=verb) for verb, given in wrong]

    async with Team({"one": one}) as team:
        said = [str(message) async for message in team.call("one")]
    assert said == ["error: status needs turn", "error: call needs name"]


async def test_an_agent_speaks_the_verbs_by_its_log(tmp_path: Path) -> None:
    count, steps = "ls ../session/said | wc -l", []
    for number, (verb, given, _) in enumerate(TABLE, 1):
        line = f"CALLER_MESSAGE: {verb} {json.dumps({**given, 'id': f'use-{number}'})}"
        wait = f"while [ $({count}) -le $n ]; do sleep 0.05; done"
        steps.append(f"run n=$({count}); echo '{line}' >>$OPTIO_LOG; {wait}")
    journal = tmp_path / "journal.sqlite3"
    turn = await run({"one": program(*steps, "sleep 600")}, journal)
    said = Path(task_directory(session_of(turn.id)), "session/said").expanduser()
    words = [path.read_text() for path in sorted(said.iterdir(), key=lambda one: one.name)]
    check([*[text for text in words if ": " in text][-14:], ""])


async def test_a_use_that_is_new_after_a_restart_is_another_one(tmp_path: Path) -> None:
    """An agent is asked again for what was open, and not for what came before that."""
    told: list[str] = []
    took: list[float] = []

    async def one(ctx: TurnContext) -> str:
        key = f"use:{ctx.claim.epoch}"
        began = time.monotonic()
        assert "woken: time" in await dispatch(ctx, "sleep", {"seconds": 0.1}, key=key)
        took.append(time.monotonic() - began)
        await dispatch(ctx, "send", {"to": "caller", "message": key}, key=key)
        if len(took) == 1:
            ctx.suspend_for_mail()
        return "done"

    team = Team({"one": one}, store=tmp_path / "journal.sqlite3")
    team.on("told")(lambda turn, message: told.append(str(message)))
    async with team:
        turn = team.call("one")
        while turn.status != "sleeping":
            await turn.pieces.more()
        await turn.send("go on")
        assert str(await turn) == "done"
    assert len(set(told)) == 2
    assert min(took) >= 0.1


@pytest.mark.parametrize("verb", ["call", "send", "status", "sleep", "finish"])
def test_each_verb_stands_in_the_table(verb: str) -> None:
    assert verb in {name for name, _, _ in TABLE}


async def test_an_agent_speaks_the_verbs_over_its_own_stream(tmp_path: Path) -> None:
    steps = [{"tool": f"mcp__optio__{verb}", "input": given} for verb, given, _ in TABLE]
    async with ModelServer().serve() as api:
        one = agent(claude(tmp_path, api, *steps))
        turn = await run({"one": one}, tmp_path / "journal.sqlite3")
        results = tool_results(api.requests)
    assert at_work(turn.id) == []
    check([*results[:14], ""])


async def test_a_finish_of_ones_own_that_was_not_run_leaves_an_agent_at_work(
    tmp_path: Path,
) -> None:
    @tool
    def finish(answer: str) -> str:
        return f"it is {answer}"

    steps = [
        {"tool": "mcp__optio__finish", "input": {"wrong": "x"}},
        {"tool": "mcp__optio__finish", "input": {"answer": "42"}},
    ]
    async with ModelServer().serve() as api:
        people = {"one": agent(claude(tmp_path, api, *steps))}
        async with Team(people, tools=[finish], store=tmp_path / "journal.sqlite3") as team:
            assert str(await team.call("one", "go")) == "it is 42"


async def test_a_verb_that_is_switched_off_is_refused_to_a_line_of_a_log(tmp_path: Path) -> None:
    one = program('CALLER_MESSAGE: status {"turn": "x"}', hears("has.no.tool"), "DONE: ok")
    team = Team({"one": one}, store=tmp_path / "journal.sqlite3", without={"status"})
    async with asyncio.timeout(BOUND), team:
        assert str(await team.call("one", "go")) == "ok"


def tool_results(requests: list[dict[str, Any]]) -> list[str]:
    """What the model was given for its uses of tools, in order."""
    longest = max(requests, key=lambda asked: len(asked["messages"]))["messages"]
    blocks = [b for m in longest if isinstance(m["content"], list) for b in m["content"]]
    found = [block["content"] for block in blocks if block["type"] == "tool_result"]
    return [text if isinstance(text, str) else text[0]["text"] for text in found]


WORKER = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from optio_agents.team import Team, agent
from tests.team.test_agents import claude
from tests.team.test_verbs import CALLS

async def waits(ctx):
    print("waiting", flush=True)
    message = await ctx.receive()
    return f"waited for {message}"

async def main():
    root, url = Path(sys.argv[1]), sys.argv[2]
    one = agent(claude(root, SimpleNamespace(url=url, scripts={}), *CALLS))
    async with Team({"one": one, "waits": waits}, store=root / "journal.sqlite3") as team:
        print(await team.call("one", "go", id="killed"), flush=True)

asyncio.run(main())
"""
CALLS = (
    {"tool": "mcp__optio__call", "input": {"name": "waits", "message": "x"}},
    {"text": "I have it."},
)


async def test_killed_while_the_agent_waits_for_a_call_there_is_one_child(tmp_path: Path) -> None:
    async with ModelServer().serve() as api:
        api.scripts["plan"] = CALLS
        command = [sys.executable, "-u", "-c", WORKER, str(tmp_path), api.url]
        first = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert first.stdout is not None
        async with asyncio.timeout(BOUND):
            assert await first.stdout.readline() == b"waiting\n"
        [before, *_] = at_work("killed")
        first.kill()
        await first.wait()
        second = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert second.stdout is not None
        async with asyncio.timeout(BOUND):
            assert await second.stdout.readline() == b"waiting\n"
        assert not before.gone
        async with Team({"none": echo}, store=tmp_path / "journal.sqlite3") as team:
            [child] = await team.turns(name="waits")
            await team.send(child.turn, "tea")
        async with asyncio.timeout(BOUND):
            assert await second.stdout.readline() == b"I have it.\n"
        await second.wait()
        assert tool_results(api.requests) == ["[waits]waited for tea[/waits]"]
        async with Team({"none": echo}, store=tmp_path / "journal.sqlite3") as team:
            assert [one.name for one in await team.turns()] == ["one", "waits"]
        assert len([asked for asked in api.requests if asked.get("tools")]) == 2
