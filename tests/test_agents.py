"""Detached agents: started, spoken to, found again and ended, on every kind of host."""

from __future__ import annotations

import anyio
import pytest

from optio_agents.errors import InputClosed, NameTaken
from optio_agents.hosts.agents import adopt_agent, start_agent
from optio_agents.hosts.host import LocalHost

SHELL = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


@pytest.fixture
def host(tmp_path):
    return LocalHost(str(tmp_path / "task"))


async def test_what_is_said_reaches_the_agent_and_its_end_is_known(host):
    with anyio.fail_after(10):
        async with host:
            await host.setup_workdir()
            argv = ["sh", "-c", "cat; exit 7"]
            async with start_agent(host, argv, env=SHELL, env_base="empty") as agent:
                await agent.say(b"one\n")
                await agent.say(b"two\n", name="b")
                await agent.say(b"two\n", name="b")
                with pytest.raises(NameTaken):
                    await agent.say(b"three\n", name="b")
                await agent.end_input()
                end = await agent.wait()
                assert (end.exit_code, end.how) == (7, "exited")
                with pytest.raises(InputClosed):
                    await agent.say(b"late\n")
            stdout = await host.ask('cat "$1"', f"{agent.directory}/stdout")
            assert stdout.stdout == b"one\ntwo\n"


async def test_leaving_the_block_stops_the_agent_and_detaching_does_not(host):
    with anyio.fail_after(10):
        async with host:
            await host.setup_workdir()
            async with start_agent(host, ["sleep", "1000"]) as agent:
                agent.detach()
            async with adopt_agent(host) as again:
                assert again.process == agent.process
                assert (await again.status()).state == "running"
            assert (await again.status()).state == "exited"
