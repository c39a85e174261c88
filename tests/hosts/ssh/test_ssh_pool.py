"""Connections are shared and their channels counted: many sessions on one stock sshd just work."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from optio_agents.errors import HostError
from optio_agents.hosts.machine import Process
from optio_agents.hosts.ssh import SshMachine
from optio_agents.hosts.ssh.process import SshConnection
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.agent_ground import until
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin, SshServer
from tests.support.leaks import no_leaks
from tests.support.timeouts import BOUND

SshLogins = Callable[..., SshLogin]


@pytest.fixture
def server(make_sshd: Callable[..., SshServer]) -> SshServer:
    return make_sshd()


@asynccontextmanager
async def machines(login: SshLogin, count: int = 1) -> AsyncIterator[list[SshMachine]]:
    with anyio.fail_after(BOUND):
        async with no_leaks(), AsyncExitStack() as stack:
            made = [SshMachine(ssh_config(login)) for _ in range(count)]
            for machine in made:
                stack.push_async_callback(machine.close)
            yield made


def connections(server: SshServer) -> int:
    return server.log.count("Accepted publickey")


def taken(machine: SshMachine) -> list[int]:
    remote = machine._joined  # noqa: SLF001
    assert remote
    found: list[SshConnection] = remote.pool._connections  # noqa: SLF001
    return [each.taken for each in found]


async def until_taken(machine: SshMachine, wanted: list[int]) -> None:
    while taken(machine) != wanted:  # noqa: ASYNC110  # the server closes a channel when it does
        await anyio.sleep(0.01)


async def one_line(process: Process) -> bytes:
    said = b""
    while not said.endswith(b"\n"):
        said += await process.read(100)
    return said


async def test_a_hundred_sessions_at_once_on_a_stock_sshd(
    server: SshServer, ssh_login: SshLogins
) -> None:
    login = ssh_login("dash", server=server)
    async with machines(login, 100) as made:
        ready, go = 0, anyio.Event()

        async def session(machine: SshMachine) -> None:
            nonlocal ready
            async with machine.shell('echo ready; read -r line; echo "$line"') as process:
                assert await one_line(process) == b"ready\n"
                ready += 1
                if ready == len(made):
                    go.set()
                await go.wait()  # all hundred run at the same time
                await process.write(b"bye\n")
                assert await one_line(process) == b"bye\n"
                assert await process.wait() == 0

        async with anyio.create_task_group() as tasks:
            for machine in made:
                tasks.start_soon(session, machine)
        assert connections(server) == -(-100 // 9)
        assert "drop connection" not in server.log
        assert "no more sessions" not in server.log


async def test_everybody_shares_one_connection_and_one_warm_shell(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with machines(ssh_login("dash", server=server), 50) as made:
        pids = set[bytes]()

        async def ask(machine: SshMachine) -> None:
            pids.add((await machine.ask("echo $$")).stdout)

        for machine in made:
            await ask(machine)
        assert len(pids) == 1
        assert connections(server) == 1


async def test_other_settings_are_another_connection(
    server: SshServer, ssh_login: SshLogins
) -> None:
    login = ssh_login("dash", server=server)
    async with machines(login) as [one]:
        other = SshMachine(ssh_config(login, host_key_policy="accept-new"))
        await one.connect()
        await other.connect()
        assert connections(server) == 2
        await other.close()


async def test_a_server_that_allows_fewer_channels(
    make_sshd: Callable[..., SshServer], ssh_login: SshLogins
) -> None:
    server = make_sshd({"MaxSessions": "2"})
    async with machines(ssh_login("dash", server=server)) as [machine], AsyncExitStack() as stack:
        for _ in range(7):
            process = await stack.enter_async_context(machine.shell("echo hi; read -r line"))
            assert await one_line(process) == b"hi\n"
        assert taken(machine) == [2, 2, 2, 1]
        await stack.aclose()


async def test_a_server_that_allows_none(
    make_sshd: Callable[..., SshServer], ssh_login: SshLogins
) -> None:
    server = make_sshd({"MaxSessions": "0"})
    async with machines(ssh_login("dash", server=server)) as [machine]:
        with pytest.raises(HostError, match="opens no session"):
            await machine.ask("true")
        assert connections(server) == 1


async def test_a_channel_is_taken_until_its_process_has_ended(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with machines(ssh_login("dash", server=server)) as [machine]:
        block = machine.shell("setsid sleep 300 & exit 0")  # which holds the channel open
        process = await block.__aenter__()
        assert await process.wait() == 0
        await block.__aexit__(None, None, None)  # a normal end: it may go on
        assert taken(machine) == [1]
        await machine.ask('kill -KILL "$1"', [str(await sleeper(server))])
        await until_taken(machine, [1])  # the warm shell's


async def sleeper(server: SshServer) -> int:
    def asleep() -> list[int]:
        return [found.pid for found in server.running() if found.name == "sleep"]

    await until(asleep)  # its shell may have ended before it began to sleep
    return asleep()[0]


async def test_a_connection_beyond_the_first_goes_when_it_is_idle(
    server: SshServer, ssh_login: SshLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optio_agents.hosts.ssh.pool._SPARE", 0.05)
    async with machines(ssh_login("dash", server=server)) as [machine]:
        async with AsyncExitStack() as stack:
            for _ in range(12):
                process = await stack.enter_async_context(machine.shell("read -r line"))
                stack.push_async_callback(process.wait)
                stack.push_async_callback(process.close_input)
            assert taken(machine) == [9, 3]
        await until_taken(machine, [0])
        assert machine.link.state == "up"


async def test_an_opening_that_is_given_up_takes_no_channel_for_ever(
    server: SshServer, ssh_login: SshLogins
) -> None:
    login = ssh_login("dash", server=server)
    async with (
        FaultProxy(server.host, server.port) as proxy,
        machines(login.at(proxy.port)) as [machine],
    ):
        await machine.connect()
        for cut_at in range(20, 700, 40):
            with anyio.CancelScope() as scope:
                proxy.on_bytes(cut_at, source="client", then=scope.cancel)
                async with machine.shell("read -r line"):
                    await anyio.sleep_forever()
        await until_taken(machine, [0])
        async with AsyncExitStack() as stack:
            for _ in range(9):
                await stack.enter_async_context(machine.shell("read -r line"))
            assert taken(machine) == [9]


async def test_one_that_gives_up_connecting_does_not_spoil_it_for_others(
    server: SshServer, ssh_login: SshLogins
) -> None:
    login = ssh_login("dash", server=server)
    async with (
        FaultProxy(server.host, server.port) as proxy,
        machines(login.at(proxy.port), 3) as made,
    ):
        proxy.stall("server")
        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.05):
                tasks.start_soon(made[1].connect)
                tasks.start_soon(made[2].ask, "true")
                await made[0].connect()
            proxy.flow()
        assert [machine.link.state for machine in made[1:]] == ["up", "up"]


async def test_a_warm_question_is_one_round_trip(server: SshServer, ssh_login: SshLogins) -> None:
    login = ssh_login("dash", server=server)
    async with (
        FaultProxy(server.host, server.port) as proxy,
        machines(login.at(proxy.port)) as [machine],
    ):
        await machine.ask("true")
        before = proxy.round_trips()
        for _ in range(5):
            await machine.ask("echo hi", data=b"x" * 1000)
        assert proxy.round_trips() - before == 5
        before = proxy.round_trips()
        async with machine.shell("exit 0") as process:
            await process.wait()
        assert proxy.round_trips() - before <= 3


async def test_a_connection_may_be_used_again_after_all_have_left(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with machines(ssh_login("dash", server=server), 2) as [one, two]:
        for machine in (one, two, one):
            await machine.connect()
            await machine.close()
            assert server.sessions() == [] or machine.link.state == "closed"
        assert connections(server) == 3


async def test_who_comes_while_the_last_one_leaves_leaves_nothing_open(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with machines(ssh_login(server=server), 2) as (first, second):
        async with first.shell("read -r line; sleep 0.5"), anyio.create_task_group() as tasks:
            tasks.start_soon(first.close)  # which ends that script before it is done
            await anyio.lowlevel.checkpoint()
            await second.connect()
        assert (await second.ask("echo hi")).stdout == b"hi\n"
    assert connections(server) == 1
