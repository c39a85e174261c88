"""Stopping an agent: nothing that it started is left, whatever it did to hide."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import anyio
import pytest

from optio_agents.hosts.host import Host
from tests.support import proc
from tests.support.hosts.agent_ground import machine, ready, said, started, until

PYTHON = str(Path(sys.executable).resolve())
SURVIVORS = {
    "plain": "sleep {n} &",
    "setsid, holding its output": "setsid sleep {n} &",
    "double fork": "(setsid sh -c 'sleep {n} & exit' &);",
    "TERM ignored": "sh -c 'trap \"\" TERM; while :; do sleep {n}; done' &",
    "environment scrubbed, its parent alive": "env -i setsid sleep {n} &",
    "stopped": "sleep {n} & sleep 0.05; kill -STOP $!;",
}
SCRUBBED = {
    "double fork": "env -i sh -c 'setsid sleep {n} & exit' &",
    "double fork, TERM ignored": (
        'env -i sh -c \'trap "" TERM; setsid sh -c "while :; do sleep {n}; done" & exit\' &'
    ),
}
CHAIN = """
import os, signal, sys, time
life, deaf = float(sys.argv[1]), sys.argv[2] == "deaf"
if os.fork():
    signal.pause()
open(sys.argv[3], "w").close()
end = time.time() + 60
while time.time() < end:
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork():
        os._exit(0)
    os.setsid()
    time.sleep(life)
"""


@pytest.fixture(params=["dash", "ash"])
def host(request, tmp_path):
    """With perl and with nothing to make a subreaper of the launcher."""
    return Host(machine(request.param, tmp_path), str(tmp_path / "task"))


@pytest.fixture(params=["dash", "bash"])
def reaping_host(request, tmp_path):
    """With perl and with python3 to do so."""
    return Host(machine(request.param, tmp_path), str(tmp_path / "task"))


async def check(host, command):
    n = proc.unique()
    async with ready(host), started(host, f"{command} echo; read -r x".format(n=n)) as agent:
        await until(lambda: any(found.name == "sleep" for found in proc.running(n)))
        report = await agent.stop(grace=0.3)
        left = proc.running(n)
        proc.kill(*left)
        assert (report.empty, left) == (True, [])
        assert (await agent.status()).state == "exited"


@pytest.mark.parametrize("name", SURVIVORS)
async def test_nothing_survives(host, name):
    await check(host, SURVIVORS[name])


@pytest.mark.parametrize("name", SCRUBBED)
async def test_what_scrubbed_its_environment_and_left_its_parents_is_adopted(reaping_host, name):
    await check(reaping_host, SCRUBBED[name])


async def test_what_outlives_the_agent_is_found_too(reaping_host):
    """The agent has ended by itself; what it left is still a child of the launcher."""
    n = proc.unique()
    async with ready(reaping_host):
        async with started(reaping_host, SCRUBBED["double fork"].format(n=n)) as agent:
            assert (await agent.wait()).exit_code == 0
            launcher = (await agent.status()).launcher
            await until(lambda: proc.running(n))
        assert not proc.running(n)
        assert proc.process_is_gone(launcher.pid, launcher.start)


CHAINS = [("dash", "0.005"), ("dash", "0"), ("bash", "0.005"), ("bash", "0")]


@pytest.mark.parametrize("deaf", ["hears", "deaf"])
@pytest.mark.parametrize(("reaping_host", "life"), CHAINS, indirect=["reaping_host"])
async def test_a_chain_of_forks_is_caught(reaping_host, tmp_path, life, deaf):
    """Each generation forks, its parent exits, the child leaves the session."""
    program, begun = tmp_path / "chain.py", tmp_path / "begun"
    program.write_text(CHAIN)
    command = f"exec env -i {PYTHON} {program} {life} {deaf} {begun}"
    async with ready(reaping_host), started(reaping_host, command) as agent:
        await until(begun.exists)  # a walk over /proc seldom sees any of them
        report = await agent.stop(grace=0.1)
        left = proc.running(str(program))
        proc.kill(*left)
        assert (report.empty, left) == (True, [])
        assert (await agent.status()).state == "exited"


@pytest.mark.parametrize("reaping_host", ["dash"], indirect=True)
async def test_a_stop_that_was_frozen_for_a_while_leaves_nothing_either(reaping_host, tmp_path):
    """As on a machine that was put to sleep: all its seconds are over, and it did nothing yet."""
    program, begun = tmp_path / "chain.py", tmp_path / "begun"
    program.write_text(CHAIN)
    command = f"exec env -i {PYTHON} {program} 0.005 deaf {begun}"
    async with ready(reaping_host), started(reaping_host, command) as agent:
        await until(begun.exists)
        assert agent.process

        async def freeze() -> None:
            await until(lambda: proc.process_is_gone(agent.process.pid, agent.process.start))
            stopping = proc.running(f"OPTIO_SESSION={agent.session}")
            for process in stopping:
                process.send(signal.SIGSTOP)
            await anyio.sleep(8)
            for process in stopping:
                process.send(signal.SIGCONT)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(freeze)
            report = await agent.stop(grace=2)
        left = proc.running(str(program))
        proc.kill(*left)
        assert (report.empty, left) == (True, [])


async def test_the_journal_limit_stops_the_agent_and_says_so(tmp_path):
    endless = "while :; do echo 0123456789; done"
    host = Host(machine("ash", tmp_path), str(tmp_path / "task"))
    async with ready(host), started(host, endless, journal_limit=1000) as agent:
        end = await agent.wait()
        assert end.reason == "its output reached 1000 bytes"
        assert end.signal == "TERM"


async def test_a_stop_of_an_ended_agent_is_quiet(host):
    async with ready(host), started(host, "echo done") as agent:
        await agent.wait()
        assert (await agent.stop()).empty
        assert (await agent.stop()).empty
        assert await said(host, agent) == b"done\n"
