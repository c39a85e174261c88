"""One owner dispatches for a session, by a lease on the agent's host."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents.directory import Directory
from optio_agents.agents.input import SMALL
from optio_agents.agents.launch import launch, plan_start, prepare
from optio_agents.errors import AlreadyOwned
from optio_agents.hosts.host import Host
from tests.support.hosts.agent_ground import here, machine, ready, started, until
from tests.support.leaks import no_process_left
from tests.support.timeouts import BOUND


@pytest.fixture(params=["dash", "ash"])
def host(request, tmp_path):
    return Host(machine(request.param, tmp_path), str(tmp_path / "task"))


@asynccontextmanager
async def with_agent(host):
    async with ready(host), started(host, "read -r x") as agent:
        yield agent


def silent(agent, *, seconds=61):
    """Whoever owns it has not been heard of for so long."""
    for lease in here(agent, "owner").iterdir():
        then = lease.stat().st_mtime - seconds
        os.utime(lease, (then, then))


async def test_a_second_owner_is_refused_and_told_who_the_first_is(host):
    async with with_agent(host) as agent:
        async with agent.own("me@laptop 'pid 1'\n", journal="/a/journal"):
            with pytest.raises(AlreadyOwned) as refused:
                async with agent.own("you", journal="another"):
                    pass
            assert refused.value.owner == "me@laptop 'pid 1'\n"
        async with agent.own("you", journal="another") as lease:
            assert lease.epoch == 2


async def test_what_an_owner_finds_never_started_cannot_start_late(host):
    async with ready(host):
        directory = Directory(host.machine, f"{host.taskdir}/session")
        options = {"name": None, "limit": None, "meta": {}}
        plan = await plan_start(host, ["/bin/cat"], None, {}, "empty", **options)
        await prepare(directory, plan)
        async with agents.adopt(host) as agent, agent.own("the next", journal="a"):
            assert (await agent.wait()).how == "never-started"
            assert (
                await launch(directory, plan) is None
            )  # of a supervisor that died: still on its way
            assert (await agent.wait()).how == "never-started"
        await no_process_left(plan.session)


async def test_a_clock_that_was_set_back_keeps_a_lease_for_a_minute_and_not_for_ever(host):
    async with with_agent(host) as agent, agent.own("before", journal="a"):
        silent(agent, seconds=-3600)
        for _ in range(2):
            with pytest.raises(AlreadyOwned):
                async with agent.own("eager", journal="b"):
                    pass
            silent(agent, seconds=40)
        async with agent.own("eager", journal="b") as lease:
            assert lease.epoch == 2


async def test_the_same_journal_reclaims_at_once_and_the_former_owner_finds_out(host):
    async with with_agent(host) as agent, agent.own("before the crash", journal="j") as old:
        async with agent.own("after it", journal="j") as new:
            assert new.epoch == old.epoch + 1
            await new.confirm()
            with pytest.raises(AlreadyOwned, match="after it"):
                await old.confirm()
            assert old.lost.is_set()
        assert not new.lost.is_set()


async def test_a_minute_of_silence_ends_a_lease(host):
    async with with_agent(host) as agent, agent.own("asleep", journal="a") as old:
        silent(agent, seconds=40)
        with pytest.raises(AlreadyOwned):
            async with agent.own("eager", journal="b"):
                pass
        await old.confirm()
        silent(agent)
        async with agent.own("eager", journal="b"):
            with pytest.raises(AlreadyOwned, match="eager"):
                await old.confirm()


async def test_a_take_over_does_not_wait(host):
    async with (
        with_agent(host) as agent,
        agent.own("first", journal="a"),
        agent.own("boss", journal="b", take_over=True) as lease,
    ):
        await lease.confirm()


async def test_who_is_ousted_learns_it_from_the_host_and_can_say_no_more(host, monkeypatch):
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 1000.0)
    async with (
        with_agent(host) as agent,
        agent.own("first", journal="a") as old,
        agents.adopt(host) as again,
        again.own("boss", journal="b", take_over=True),
    ):
        with anyio.fail_after(BOUND):
            await old.lost.wait()
            for refused in (
                lambda: agent.say(b"small\n"),
                lambda: agent.say(b"x" * (SMALL + 1)),
                lambda: agent.answer("request", b"yes\n", by="me"),
                lambda: agent.signal("TERM"),
                agent.end_input,
                agent.stop,
            ):
                with pytest.raises(AlreadyOwned):
                    await refused()
            assert not [*here(agent, "in").iterdir(), *here(agent, "answers").iterdir()]
            assert (await again.status()).state == "running"


async def test_nothing_is_dispatched_before_an_old_lease_is_renewed(host, monkeypatch):
    monkeypatch.setattr("optio_agents.agents.lease._TRUSTED", -1.0)
    async with with_agent(host) as agent, agent.own("me", journal="a") as lease:
        silent(agent, seconds=1000)
        with anyio.fail_after(BOUND):
            await lease.hold()
        assert silence(agent) < 900
        async with agent.own("another", journal="b", take_over=True):
            with anyio.move_on_after(0.1) as waiting:
                await lease.hold()
            assert waiting.cancelled_caught


LINK = """#!/bin/sh
case "$*" in *" owner/"*)
    : >arrived.$$
    until [ "$(ls | grep -c ^arrived)" -ge 8 ]; do sleep 0.01; done ;;
esac
exec ${0%/ln}/busybox ln "$@"
"""


async def test_of_many_who_claim_at_once_one_wins(tmp_path):
    """All have seen that nobody owns it before the first of them links its claim."""
    host = Host(machine("ash", tmp_path), str(tmp_path / "task"))
    link = tmp_path / "tools-ash/ln"
    link.with_name("busybox").symlink_to(link.readlink())
    link.unlink()
    link.write_text(LINK)
    link.chmod(0o755)
    won, lost, done = list[int](), list[int](), anyio.Event()

    async def claim(number):
        try:
            async with agent.own(str(number), journal=str(number)):
                won.append(number)
                await done.wait()
        except AlreadyOwned:
            lost.append(number)
        if len(lost) == 7:
            done.set()

    async with with_agent(host) as agent, anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(claim, number)
    assert len(won) == 1


async def test_the_owner_is_heard_of_while_its_block_lasts(host, monkeypatch):
    monkeypatch.setattr("optio_agents.agents.lease._RENEWED", 0.05)
    async with with_agent(host) as agent, agent.own("me", journal="a") as lease:
        silent(agent, seconds=1000)
        await until(lambda: silence(agent) < 900)
        async with agent.own("another", journal="b", take_over=True):
            with anyio.fail_after(BOUND):
                await lease.lost.wait()


def silence(agent) -> float:
    """Seconds from the owner's last word to the agent's start."""
    newest = max(here(agent, "owner").iterdir())
    return here(agent, "pid").stat().st_mtime - newest.stat().st_mtime


async def test_an_error_in_the_block_comes_out_as_it_is(host):
    async with with_agent(host) as agent:
        with pytest.raises(ZeroDivisionError):
            async with agent.own("me", journal="a"):
                raise ZeroDivisionError
