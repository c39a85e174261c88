"""Agents that are left alone, in a real terminal: what a person finds who comes back."""

from __future__ import annotations

import json
import re
from contextlib import AsyncExitStack

from optio_agents.testing.model_server import ModelServer, scripted
from tests.support.terminal import Desk, agent


async def test_one_that_dies_is_started_again_before_ones_eyes(desk: Desk) -> None:
    dies = "run [ -e died ] || { touch died; kill -9 $$; }"
    async with desk.terminal(100) as terminal:
        await terminal.type(agent("STATUS: 30% on", dies, "DONE: again", flags="--restart 2"))
        seen = await terminal.ends(0)
    assert "restart" in seen
    assert "ended by KILL" in seen
    assert "for the 1. time of 2: " in seen
    assert "done again" in " ".join(seen.split())


async def test_a_limit_ends_it_and_says_which(desk: Desk) -> None:
    async with desk.terminal(100) as terminal:
        await terminal.type(agent("STATUS: 30% on", desk.hold("never"), flags="--max-time 1"))
        seen = await terminal.ends(3)
    assert "it has not been done within 1 s" in " ".join(seen.split())
    assert "over limit" in (await desk.runs("ls")).stdout


async def test_the_owner_is_told_who_interrupts(desk: Desk) -> None:
    trap = "run trap 'echo DONE: interrupted >>$OPTIO_LOG' INT"
    steps = (trap, "STATUS: 30% on", desk.hold("never"))
    async with desk.terminal(100) as owner, desk.terminal() as other:
        await owner.type(agent(*steps, flags="--name it"))
        await owner.until(r"status +30% on")  # not the command as typed
        await other.type("clear; optio-agents interrupt it")
        seen = await owner.ends(0)
    assert re.search(r"notice +\S+@\S+ .*interrupts the turn\n.* done +interrupted", seen)


async def test_one_that_waits_without_done_says_so_and_calls_for_a_person(desk: Desk) -> None:
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(ModelServer().serve())
        named = desk.has_claude(api)  # before the terminal, which has its environment
        terminal = await stack.enter_async_context(desk.terminal(100))
        (desk.home / "task").write_text(scripted({"text": "Which of the two?"}))
        notify = "--notify 'cat >>told'"
        run = f'optio-agents run --name it {named} {notify} --max-turns 2 "$(cat task)"'
        await terminal.type(f'clear; {run}; echo "exit $?"')
        await terminal.until(r"^it has ended its turn without DONE, and waits: optio-agents send")
        await terminal.until(r"idle without DONE")
        await terminal.key("q")
        assert "Which of the two?" in await terminal.ends(6)
        assert ": idle without DONE" in (await desk.runs("ls", "--waiting")).stdout
        await terminal.type(f'clear; optio-agents attach it {notify}; echo "exit $?"')
        await terminal.until(r"^it has ended its turn without DONE")
        assert (await desk.runs("send", "it", scripted({"text": "Still which?"}))).returncode == 0
        seen = await terminal.ends(3)
    assert "it has ended 2 turns without DONE" in " ".join(seen.split())
    told = [json.loads(line) for line in (desk.home / "told").read_text().splitlines()]
    kinds = [(one["kind"], one.get("text")) for one in told]
    assert kinds[0] == ("phase", "idle without DONE")
    assert kinds[-1][0] == "finished"
