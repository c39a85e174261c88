"""A session whose agent is a detached, journaled process of its own."""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import pytest

from optio_agents import agents
from optio_agents.errors import AgentExited, AgentReportedError, AgentStalled, WorkDirRefused
from optio_agents.session import run_log_protocol_session
from optio_agents.testing.scripted import scripted_agent
from tests.support.sessions.sessions import says
from tests.support.timeouts import BOUND

SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def started(sessions):
    """Starts an agent in a prepared directory: entered by the test."""

    @asynccontextmanager
    async def start(*steps):
        with anyio.fail_after(BOUND):
            async with sessions.host() as host:
                await host.setup_workdir()
                await host.ask("hosts/channel.sh", host.workdir, "start")
                argv = scripted_agent(*steps)
                async with agents.start(host, argv, env=SHELL, env_base="empty") as agent:
                    yield host, agent

    return start


async def test_the_end_of_the_agent_is_the_end_of_the_session(started, ctx):
    steps = ("STATUS: 50% half", "write a.txt hello", "DELIVERABLE: deliverables/a.txt", "hear")
    async with started(*steps, "DONE: all") as (host, agent):
        result = await run_log_protocol_session(host, ctx, agent=agent)
        heard = await host.ask('cat "$1/stdout"', agent.directory)
    assert (result.outcome, result.summary, result.replies) == ("done", "all", "agent")
    assert (result.agent.exit_code, result.agent.how) == (0, "exited")
    assert [d.taken for d in result.deliverables] == [True]
    assert heard.stdout == b"heard: System: deliverable a.txt: accepted.\n"


async def test_an_agent_that_exits_without_done_says_how(started, ctx):
    async with started("STATUS: x", "run echo broken >&2", "exit 7") as (host, agent):
        with pytest.raises(AgentExited, match="exit code 7") as failure:
            await run_log_protocol_session(host, ctx, agent=agent)
    assert failure.value.exit_code == 7
    assert failure.value.stderr == "broken\n"
    assert failure.value.last_lines == ("STATUS: x",)


async def test_what_a_dead_agent_announced_is_handed_over_however_long_that_takes(
    started, ctx, monkeypatch
):
    monkeypatch.setattr("optio_agents.session.run.BOUND", 2.1)  # of which 0.1 s for this
    shown = []

    async def on_deliverable(_, path, text):
        await anyio.sleep(0.3)
        shown.append(path)

    names = ["a.txt", "b.txt", "c.txt"]
    steps = [step for n in names for step in (f"write {n} x", f"DELIVERABLE: deliverables/{n}")]
    async with started(*steps, "exit 7") as (host, agent):
        with pytest.raises(AgentExited, match="exit code 7"):
            await run_log_protocol_session(host, ctx, agent=agent, on_deliverable=on_deliverable)
    assert shown == names


async def test_an_agent_that_is_killed_says_so(started, ctx):
    async with started("STATUS: x", "run kill -9 $$") as (host, agent):
        with pytest.raises(AgentExited, match="ended by") as failure:
            await run_log_protocol_session(host, ctx, agent=agent)
    assert failure.value.exit_code == 137
    assert failure.value.result.agent.signal == "KILL"


async def test_an_agent_that_hears_nothing_after_done_is_done(started, ctx):
    async with started("DONE", "hear") as (host, agent):
        result = await run_log_protocol_session(host, ctx, agent=agent, body_grace=0.2)
    assert result.outcome == "done"


async def test_an_error_does_not_wait_for_the_process(started, ctx):
    async with started("ERROR: no", "sleep 600") as (host, agent):
        with pytest.raises(AgentReportedError):
            await run_log_protocol_session(host, ctx, agent=agent)


async def test_output_is_no_silence_and_silence_is(started, ctx):
    says_something = [step for n in range(5) for step in ("sleep 0.7", f"say {n}")]
    async with started(*says_something, "sleep 600") as (host, agent):
        with pytest.raises(AgentStalled):
            await run_log_protocol_session(host, ctx, agent=agent, stall_after=2)
        said = await host.ask('cat "$1/stdout"', agent.directory)
    assert said.stdout == b"0\n1\n2\n3\n4\n"


async def test_a_directory_in_which_an_agent_works_is_not_emptied(started, ctx):
    async with started("sleep 600") as (host, _):
        with pytest.raises(WorkDirRefused, match="still lives"):
            await run_log_protocol_session(host, ctx, body=says("DONE"))


async def test_a_reply_is_said_once_however_often_it_is_repeated(started, ctx):
    """Two supervisors, the first of which never learnt that its reply was taken."""
    from optio_agents.store.memory import MemoryJournal

    class Forgetful(MemoryJournal):
        """One that was killed before it could mark anything."""

        async def mark_done(self, entries):
            pass

    journal = Forgetful()
    steps = ("write a.txt x", "DELIVERABLE: deliverables/a.txt", "hear", "DONE", "hear")
    async with started(*steps) as (host, agent):
        given = {"agent": agent, "journal": journal, "body_grace": 0.2}
        await run_log_protocol_session(host, ctx, **given)
        await run_log_protocol_session(host, ctx, resuming=True, **given)
        await agent.end_input()
        await agent.wait()
        heard = await host.ask('cat "$1/stdout"', agent.directory)
    assert heard.stdout == b"heard: System: deliverable a.txt: accepted.\n"
