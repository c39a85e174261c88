"""Agents behind a link that breaks, and supervisors that die: nothing torn, doubled or lost."""

from __future__ import annotations

import json
import logging
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest

from optio_agents import agents
from optio_agents.agents.input import FirstAnswer
from optio_agents.errors import HostLost, TransferFailed
from optio_agents.hosts.host import Host, LocalHost
from optio_agents.hosts.local import LocalMachine
from optio_agents.hosts.workdir import open_channel
from optio_agents.testing.proxy import FaultProxy
from tests.support import proc
from tests.support.hosts.agent_ground import (
    here,
    machine,
    ready,
    said,
    ssh_host,
    started,
    tags_in,
    until,
)
from tests.support.hosts.disks import disk_at
from tests.support.hosts.sshd import make_key
from tests.support.leaks import no_process_left
from tests.support.timeouts import BOUND


@pytest.fixture
async def server(make_sshd):
    return make_sshd()


@pytest.fixture
async def link(server, ssh_login):
    """Hands out a host that is ready, and the proxy that stands before it."""
    hosts = list[Host]()

    @asynccontextmanager
    async def connected() -> AsyncIterator[tuple[FaultProxy, Host]]:
        async with FaultProxy(server.host, server.port) as proxy:
            hosts.append(host := ssh_host(ssh_login("me", server=server, port=proxy.port)))
            async with ready(host):
                yield proxy, host

    yield connected
    for host in hosts:
        for tag in tags_in(host):
            await no_process_left(tag)


def waiting(agent) -> list[str]:
    """What the feeder has not taken, half messages included."""
    return sorted(path.name for path in here(agent, "in").iterdir())


async def test_links_cut_during_long_messages_tear_and_double_nothing(link, chance):
    data = [bytes([65 + n]) * 1_000_000 + b"\n" for n in range(1 + chance.rounds // 2)]
    async with link() as (proxy, host):
        async with started(host, "exec cat") as agent:
            for n, message in enumerate(data):
                side = "server" if n % 3 == 2 else "client"  # in the message, or its answer
                size = (
                    chance.random.randrange(1, 100)
                    if side == "server"
                    else chance.random.randrange(1, len(message))
                )
                cut = proxy.on_bytes(size, source=side, then=proxy.cut)
                await agent.say(message)
                assert cut.is_set()
                chance.hit(f"cut of the {side}'s bytes")
            await agent.end_input()
            assert (await agent.wait()).exit_code == 0
        assert here(agent, "stdout").read_bytes() == b"".join(data)
        assert waiting(agent) == ["~end.eof"]


async def test_of_two_answers_on_their_way_the_first_that_is_whole_wins(link):
    async with link() as (proxy, host), LocalHost(host.taskdir) as near:
        async with started(host, "exec cat") as agent, agents.adopt(near) as elsewhere:
            late, held = (
                list[FirstAnswer](),
                proxy.on_bytes(400_000, source="client", then=proxy.stall),
            )

            async def answer_over_the_link():
                late.append(await agent.answer("r", b"n" * 900_000 + b"\n", by="far"))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(answer_over_the_link)
                await held.wait()
                assert (await elsewhere.answer("r", b"yes\n", by="near")).won
                proxy.flow()
            assert late == [FirstAnswer(won=False, by="near", data=b"yes\n")]
            await agent.end_input()
            await agent.wait()
        assert here(agent, "stdout").read_bytes() == b"yes\n"


async def test_a_writer_that_thaws_late_is_not_heard_twice(server, link):
    """Its sshd stood still in mid-message; another connection has said the same since."""
    message = b"x" * 900_000 + b"\n"
    async with link() as (proxy, host):
        async with started(host, "exec cat") as agent:
            await agent.say(b"warm\n")

            def strand() -> None:
                server.freeze()
                proxy.cut()

            stranded = proxy.on_bytes(400_000, source="client", then=strand)
            await agent.say(message, name="m")
            assert stranded.is_set()
            server.thaw()
            await agent.say(b"after\n")
            await until(lambda: not waiting(agent))
            await agent.end_input()
            await agent.wait()
        assert here(agent, "stdout").read_bytes() == b"warm\n" + message + b"after\n"


# A start sends some 14,000 bytes, the last 5,000 of them to launch; it hears some 400.
STEPS = [("client", n) for n in (1, 5000, 10_000, 14_000)] + [("server", n) for n in (1, 200, 300)]


@pytest.mark.parametrize(("source", "at"), STEPS)
async def test_a_start_whose_link_is_cut_starts_one_agent(link, source, at):
    async with link() as (proxy, host):
        await host.ask("true")  # the warm shell is there: what follows is the start alone
        cut = proxy.on_bytes(at, source=source, then=proxy.cut)
        async with started(host, "echo started; read -r x") as agent:
            assert cut.is_set()
            assert (await agent.status()).process == agent.process
            await until(here(agent, "stdout").read_bytes)
            assert await said(host, agent) == b"started\n"
            assert tags_in(host) == [agent.session]


@pytest.mark.parametrize("source", ["client", "server"])
async def test_what_comes_before_and_behind_a_start_is_carried_over_a_cut(link, source):
    async with link() as (proxy, host):
        await host.ask("true")
        cut = proxy.on_bytes(1, source=source, then=proxy.cut)
        real = await open_channel(host, "start", set_up=True)
        assert (cut.is_set(), real) == (True, host.workdir)
        async with started(host, "read -r x") as agent:
            cut = proxy.on_bytes(1, source=source, then=proxy.cut)
            async with agent.own("me", journal="a") as lease:
                assert cut.is_set()
                await lease.confirm()
            cut = proxy.on_bytes(1, source=source, then=proxy.cut)
            async with agents.adopt(host) as found:
                assert (cut.is_set(), found.session) == (True, agent.session)
                found.detach()


async def test_a_start_whose_host_has_another_key_meanwhile_may_have_been_heard(link, server):
    """Nobody may take it for one that never was."""
    another = make_key(server.host_key.with_name("another"))

    def change() -> None:
        server.host_key.write_bytes(another.read_bytes())
        server.restart()
        proxy.cut()

    async with link() as (proxy, host):
        await host.ask("true")
        changed = proxy.on_bytes(200, source="server", then=change)
        with pytest.raises(HostLost, match="nobody knows whether"):
            async with started(host, "exec cat"):
                pass
        assert changed.is_set()
        (tag,) = tags_in(host)
        running = proc.tagged(tag)
        proc.kill(*running)
        assert running


async def test_a_start_takes_one_shell_beside_the_login_environment(make_sshd, ssh_login, tmp_path):
    """What somebody's profile costs is paid once."""
    (tmp_path / ".bashrc").write_text("echo one >>~/shells\n")
    (tmp_path / ".profile").write_text("echo one >>~/logins\n")
    host = ssh_host(ssh_login("me", server=make_sshd(home=tmp_path)))
    async with ready(host), agents.start(host, ["sh", "-c", "exec sleep 1000"]) as agent:
        counted = [(tmp_path / name).read_text().split() for name in ("shells", "logins")]
        assert (await agent.status()).running
    assert counted == [["one"], ["one"]]


async def test_what_is_said_while_the_link_is_down_waits_for_it(link):
    async with link() as (proxy, host), started(host, "exec cat") as agent:
        proxy.refuse()
        proxy.cut()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(agent.say, b"patience\n")
            await until(lambda: host.machine.link.state == "down")
            proxy.accept()
        await until(here(agent, "stdout").read_bytes)
        assert await said(host, agent) == b"patience\n"


async def test_the_end_is_known_to_one_who_was_away_and_to_one_who_waited(link):
    async with link() as (proxy, host), started(host, "read -r x; exit 9") as agent:
        ends = []

        async def wait() -> None:
            ends.append(await agent.wait())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await agent.say(b"\n", name="go")
            proxy.refuse()
            proxy.cut()
            await until(here(agent, "exit").exists)
            proxy.accept()
        assert [end.exit_code for end in ends] == [9]


async def test_a_lost_host_leaves_the_agent_running_and_says_how_to_come_back(link, caplog):
    async with link() as (proxy, host):
        with caplog.at_level(logging.WARNING):
            async with started(host, "exec cat") as agent:
                proxy.refuse()
                proxy.cut()
        assert f"agents.adopt(host, session_dir={agent.directory!r})" in caplog.text
        assert proc.tagged(agent.session)
        proxy.accept()
        async with agents.adopt(host) as again:
            await again.say(b"still there\n")
            await until(here(agent, "stdout").read_bytes)


async def test_an_agent_outlives_its_sshd(server, link):
    async with link() as (_proxy, host):
        async with started(host, "exec cat") as agent:
            server.restart()
            server.kill_sessions()
            await agent.say(b"on\n")
            await agent.end_input()
            assert (await agent.wait()).exit_code == 0
        assert await said(host, agent) == b"on\n"


SUPERVISOR = """
import json, sys, anyio
from optio_agents import agents
from optio_agents.hosts.host import LocalHost

async def main():
    host = LocalHost(sys.argv[1])
    async with host:
        await host.setup_workdir()
        argv = ["/bin/sh", "-c", "echo started; exec cat"]
        env = {"PATH": "/usr/bin:/bin"}
        async with agents.start(host, argv, env_base="empty", env=env) as agent:
            await agent.say(b"before\\n", name="1")
            print(json.dumps(agent.directory), flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""


async def test_after_kill_9_of_the_supervisor_the_agent_is_adopted(tmp_path):
    with anyio.fail_after(BOUND):
        argv = [sys.executable, "-c", SUPERVISOR, str(tmp_path / "task")]
        async with await anyio.open_process(argv, stderr=None) as supervisor:
            directory = json.loads(await supervisor.stdout.receive())
            supervisor.send_signal(signal.SIGKILL)
        async with LocalHost(str(tmp_path / "task")) as host:
            async with agents.adopt(host) as agent:
                assert agent.directory == directory
                assert (await agent.status()).state == "running"
                await agent.say(b"before\n", name="1")
                await agent.say(b"after\n", name="2")
                await agent.end_input()
                assert (await agent.wait()).exit_code == 0
            assert await said(host, agent) == b"started\nbefore\nafter\n"
        await no_process_left(agent.session)


@pytest.mark.parametrize("way", ["by a script", "in this process"])
async def test_a_full_disk_is_told_and_nothing_is_half_said(tmp_path, way):
    here_or_there = machine("ash", tmp_path) if way == "by a script" else LocalMachine()
    with disk_at(tmp_path / "disk") as disk:
        host = Host(here_or_there, str(disk / "task"))
        async with ready(host), started(host, "exec cat") as agent:
            ballast = disk / "ballast"
            with pytest.raises(OSError, match="space"):
                ballast.write_bytes(b"x" * (8 << 20))
            with pytest.raises(TransferFailed, match="space"):
                await agent.say(b"y" * 50_000, name="m")
            assert list(here(agent, "in").iterdir()) == []
            with pytest.raises(TransferFailed):
                await agent.answer("r", b"y" * 50_000, by="me")
            assert list(here(agent, "answers").iterdir()) == []
            ballast.unlink()
            await agent.say(b"said\n", name="m")
            await agent.end_input()
            assert (await agent.wait()).exit_code == 0
            assert await said(host, agent) == b"said\n"
        await no_process_left(agent.session)


async def test_a_full_disk_does_not_hide_how_an_agent_ended(tmp_path):
    with disk_at(tmp_path / "disk") as disk:
        host = Host(machine("dash", tmp_path), str(disk / "task"))
        async with ready(host), started(host, "cat >/dev/null; exit 5") as agent:
            await agent.end_input()
            with pytest.raises(OSError, match="space"):
                (disk / "ballast").write_bytes(b"x" * (8 << 20))
            assert (await agent.wait()).exit_code == 5
        await no_process_left(agent.session)
