"""The link breaks, stalls and comes back: nothing is taken for an end, nothing is done twice."""
# ruff: noqa: ASYNC220, SIM117  # small files; a block per machine and per script

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.errors import (
    CommandTimedOut,
    ConnectError,
    HostKeyRefused,
    HostLost,
    LoginRefused,
    PortClosed,
)
from optio_agents.hosts.machine import Process
from optio_agents.hosts.ssh import SshMachine
from optio_agents.hosts.ssh.pool import Attempts, Waking
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin, SshServer, make_key
from tests.support.leaks import no_leaks, no_process_left
from tests.support.proc import process as look_up
from tests.support.timeouts import BOUND

SshLogins = Callable[..., SshLogin]
FAST = {"keepalive": 0.1, "keepalive_count": 2}  # a dead link is found in 0.3 s


@pytest.fixture
def server(make_sshd: Callable[..., SshServer]) -> SshServer:
    return make_sshd()


@asynccontextmanager
async def linked(
    server: SshServer,
    ssh_login: SshLogins,
    user: str = "me",
    *,
    new_sshd: bool = False,
    **settings: Any,
) -> AsyncIterator[tuple[SshMachine, FaultProxy]]:
    """A machine that is connected through a faulty network."""
    login = ssh_login(user, server=server)
    unchanged = nullcontext() if new_sshd else no_leaks()
    with anyio.fail_after(BOUND):
        async with unchanged, FaultProxy(server.host, server.port) as proxy:
            login = login.at(proxy.port)
            machine = SshMachine(ssh_config(login, **{**FAST, **settings}))
            try:
                await machine.connect()
                yield machine, proxy
            finally:
                proxy.flow()
                proxy.accept()
                await machine.close()


async def until(machine: SshMachine, state: str) -> None:
    reached = anyio.Event()

    def look(now: str, _: str = "") -> None:
        if now == state:
            reached.set()

    stop = machine.link.watch(look)
    look(machine.link.state)
    await reached.wait()
    stop()


def break_it(how: str, server: SshServer, proxy: FaultProxy) -> None:
    match how:
        case "reset":
            proxy.cut()
        case "closed":
            proxy.close()
        case "stalled":
            proxy.stall()
        case "half-open":
            proxy.stall("server")
        case "sshd killed":
            server.kill_sessions()
        case "sshd frozen":
            server.freeze()


WAYS = ["reset", "closed", "stalled", "half-open", "sshd killed", "sshd frozen"]


@pytest.mark.parametrize("user", ["me", "dash"])
@pytest.mark.parametrize("how", WAYS)
async def test_a_broken_link_is_no_end_and_no_exit(
    server: SshServer, ssh_login: SshLogins, how: str, user: str
) -> None:
    text = "echo first; sleep 300; echo never"
    async with linked(server, ssh_login, user) as (machine, proxy):
        told = list[str]()
        machine.link.watch(lambda state, _: told.append(state))
        lost = list[str]()

        async def meets(what: str, act: Callable[[], Any]) -> None:
            with pytest.raises(HostLost, match=machine.name):
                await act()
            lost.append(what)

        async with machine.shell(text) as process:
            assert await process.read() == b"first\n"
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(meets, "read", process.read)
                tasks.start_soon(meets, "read_error", process.read_error)
                tasks.start_soon(meets, "wait", process.wait)
                tasks.start_soon(meets, "write", lambda: write_on(process))
                tasks.start_soon(meets, "ask", lambda: machine.ask("sleep 300"))
                await anyio.wait_all_tasks_blocked()
                break_it(how, server, proxy)
            assert set(lost) == {"read", "read_error", "wait", "write", "ask"}
            await meets("again", process.read)
            await meets("again", process.wait)
            await meets("again", lambda: process.write(b"x"))
        assert told == ["down"]
        assert machine.name in machine.link.reason
        proxy.flow()
        server.thaw()
        assert (await machine.ask("echo back")).stdout == b"back\n"
        assert told == ["down", "up"]
    # What was running when the link broke is ended when it is back.
    await no_process_left(server.tag)


async def write_on(process: Process) -> None:
    while True:
        await process.write(b"x" * 100_000)


async def read_on(process: Process, into: bytearray) -> None:
    while True:
        into += await process.read(3)


async def test_what_was_said_before_the_break_is_read_first(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login) as (machine, proxy):
        async with machine.shell("echo whole; echo half; printf h; sleep 300") as process:
            said = bytearray()
            assert await process.read(1) == b"w"
            await anyio.sleep(0.1)  # the rest lies here, unread
            proxy.cut()
            await until(machine, "down")
            with pytest.raises(HostLost):
                await read_on(process, said)
            assert said == b"hole\nhalf\nh"


async def test_an_exit_that_was_told_stays_told(server: SshServer, ssh_login: SshLogins) -> None:
    async with linked(server, ssh_login) as (machine, proxy):
        async with machine.shell("echo all; exit 4") as process:
            assert await process.read() == b"all\n"
            assert await process.read() == b""
            assert await process.wait() == 4
            proxy.cut()
            await anyio.wait_all_tasks_blocked()
            assert (await process.read(), await process.wait()) == (b"", 4)


async def test_output_cut_behind_a_known_exit_is_no_whole_output(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login) as (machine, proxy):
        async with machine.shell("setsid sleep 300 & exit 4") as process:
            assert await process.wait() == 4
            proxy.cut()
            with pytest.raises(HostLost):
                await process.read()
            assert await process.wait() == 4


async def test_a_connection_that_we_abort_is_no_end_either(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login) as (machine, _):
        async with machine.shell("echo first; sleep 300") as process:
            assert await process.read() == b"first\n"
            remote = machine._joined  # noqa: SLF001
            assert remote
            (await remote.pool.connection()).ssh.abort()
            with pytest.raises(HostLost):
                await process.read()
            with pytest.raises(HostLost):
                await process.wait()


async def test_a_connection_that_we_let_go_of_is_no_end_either(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login, keepalive=5) as (machine, proxy):
        async with machine.shell("setsid sleep 300 & exit 4") as process:
            assert await process.wait() == 4
            proxy.stall()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(machine.close)
                with pytest.raises(HostLost):
                    await process.read()


async def test_what_was_in_flight_is_never_repeated(
    server: SshServer, ssh_login: SshLogins, tmp_path: Path
) -> None:
    """At every round trip of a question, the link breaks: it ran once or not at all."""
    witness, ran = tmp_path / "witness", 0
    async with linked(server, ssh_login) as (machine, proxy):
        for cut_at in (1, 60, 150, 300, 600, 1200, 2400, 4000):
            await machine.ask("true")  # the link is up, and none of its faults is left
            fault = proxy.on_bytes(cut_at, source="client", then=proxy.cut)
            before = witness.stat().st_size if witness.exists() else 0
            try:
                await machine.ask('printf x >>"$1"; sleep 0.01', [str(witness)], data=b"d" * 3000)
                ran += 1
            except HostLost:
                assert fault.is_set()
            try:  # it may have fewer bytes left than this takes
                await machine.ask("true")
            except HostLost:
                assert fault.is_set()
            assert (witness.stat().st_size if witness.exists() else 0) - before in {0, 1}
    assert witness.stat().st_size >= ran


async def test_a_link_that_is_back_is_found_within_two_seconds(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login) as (machine, proxy):
        proxy.refuse()
        proxy.cut()
        await until(machine, "down")
        failures = list[ConnectError]()

        async def come_back() -> None:
            while True:
                try:
                    await machine.connect()
                    return
                except ConnectError as error:
                    failures.append(error)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(come_back)
            while (attempts := len(set(map(id, failures)))) < 3:  # noqa: ASYNC110
                await anyio.sleep(0.05)
            proxy.accept()
            with anyio.fail_after(BOUND):
                await until(machine, "up")
        assert all(isinstance(error, PortClosed) for error in failures)
        assert len(failures) >= 5 * attempts  # each told all who waited
        assert attempts <= 14  # one at a time for all ten, and not one after the other
        assert proxy.connections == 2


def test_pauses_grow_to_five_seconds_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("optio_agents.hosts.ssh.pool.time.monotonic", lambda: now)
    pauses = list[float]()
    attempts = Attempts()
    for _ in range(40):
        attempts.failed(ConnectError("x"))
        pauses.append(attempts.pause)
        now += pauses[-1]
    assert pauses[0] <= 0.1
    assert max(pauses[:10]) <= 1.0  # in the first seconds of an outage
    assert 2.5 <= max(pauses) <= 5.0
    assert len(set(pauses)) == len(pauses)
    attempts.failed(LoginRefused("x"))
    assert attempts.pause == 60
    attempts.succeeded()
    assert attempts.pause == 0


async def test_a_refused_login_waits_for_its_user(
    server: SshServer, ssh_login: SshLogins, tmp_path: Path
) -> None:
    login = ssh_login(server=server)
    key = make_key(tmp_path / "key")
    machine = SshMachine(ssh_config(replace(login, key_path=key)))
    told = list[tuple[str, str]]()
    machine.link.watch(lambda state, reason: told.append((state, reason)))
    with anyio.fail_after(BOUND):
        with pytest.raises(LoginRefused):
            await machine.connect()
        for _ in range(3):  # no attempt is made for these
            with pytest.raises(LoginRefused):
                await machine.ask("true")
        assert server.log.count("SshConnection from") <= 1
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(machine.connect)
            await anyio.wait_all_tasks_blocked()
            assert machine.link.state == "waiting for your login"
            key.write_bytes(login.key_path.read_bytes())
            key.with_name("key.pub").unlink()
            machine.link.retry_now()
        assert (await machine.ask("echo in")).stdout == b"in\n"
        await machine.close()
    assert [state for state, _ in told] == ["waiting for your login", "up", "closed"]
    assert "refused the login" in told[0][1]


async def test_a_host_key_that_changed_meanwhile_is_final(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login, new_sshd=True) as (machine, proxy):
        server.stop()
        server.host_key.unlink()
        server.host_key.with_suffix(".pub").unlink()
        make_key(server.host_key)
        server.start()
        await until(machine, "down")
        with pytest.raises(HostKeyRefused) as caught:
            await machine.connect()
        assert caught.value.reason == "changed"
        assert machine.link.state == "refused"
        connections = proxy.connections
        with pytest.raises(HostKeyRefused):
            await machine.ask("true")
        assert proxy.connections == connections


@pytest.mark.parametrize("how", ["reset", "stalled"])
async def test_a_tunnel_keeps_its_port_over_a_reconnect(
    server: SshServer, ssh_login: SshLogins, how: str
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        await reader.read()
        writer.close()

    far = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = far.sockets[0].getsockname()[1]
    async with linked(server, ssh_login) as (machine, proxy), machine.tunnel(port) as ours:
        for _ in range(2):
            async with await anyio.connect_tcp("127.0.0.1", ours) as stream:
                await stream.send(b"hello\n")
                assert await stream.receive() == b"hello\n"
                proxy.cut()
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
    far.close()


async def test_a_question_has_its_time_out_on_a_dead_link_too(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login, keepalive=5) as (machine, proxy):
        await machine.ask("true")
        proxy.stall()
        with pytest.raises(CommandTimedOut):
            await machine.ask("true", seconds=0.2)
        proxy.flow()
        assert (await machine.ask("echo back")).stdout == b"back\n"


async def test_after_a_sleep_all_connections_are_asked_at_once(
    server: SshServer, ssh_login: SshLogins, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keepalive alone would take far longer than the test."""
    monkeypatch.setattr("optio_agents.hosts.ssh.pool._PROBE", 0.2)
    async with linked(server, ssh_login, keepalive=60) as (machine, proxy):
        remote = machine._joined  # noqa: SLF001
        assert remote
        async with machine.shell("sleep 300") as process:
            remote.pool.check()
            await anyio.sleep(0.8)
            assert machine.link.state == "up"  # it answered
            proxy.stall()
            remote.pool.check()
            with anyio.fail_after(BOUND), pytest.raises(HostLost):
                await process.wait()


async def test_a_sleep_is_a_clock_that_ran_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    lead, woke = [0.0, 0.0], anyio.Event()
    monkeypatch.setattr("optio_agents.hosts.ssh.pool._lead", lambda: tuple(lead))
    monkeypatch.setattr("optio_agents.hosts.ssh.pool._EVERY", 0.001)
    waking = Waking(asyncio.get_running_loop(), woke.set)
    for drift in (0.0, 4.0, 7.0, 1.0):
        lead[0] = drift
        await anyio.sleep(0.005)
    assert not woke.is_set()
    lead[1] += 5
    with anyio.fail_after(BOUND):
        await woke.wait()
    waking.stop()


async def test_a_supervisor_that_was_stopped_goes_on(
    server: SshServer, ssh_login: SshLogins, tmp_path: Path
) -> None:
    login = ssh_login(server=server)
    program = tmp_path / "supervisor.py"
    program.write_text(
        "import sys, anyio\n"
        "from optio_agents.hosts.ssh import SSHConfig, SshMachine\n"
        "async def main(host, user, port, key, known):\n"
        "    machine = SshMachine(SSHConfig(host, user, int(port), key, known_hosts=known,\n"
        "        config=None, agent_path=None, keepalive=0.2, keepalive_count=1))\n"
        "    machine.link.watch(lambda state, _: print(state, flush=True))\n"
        "    async with machine.shell('echo first; read -r line; echo $line') as process:\n"
        "        print(await process.read(), flush=True)\n"
        "        await anyio.to_thread.run_sync(sys.stdin.readline)\n"
        "        await process.write(b'second\\n')\n"
        "        print(await process.read(), flush=True)\n"
        "    await machine.close()\n"
        "anyio.run(main, *sys.argv[1:])\n"
    )
    where = [login.user, str(login.port), str(login.key_path), str(login.known_hosts_path)]
    supervisor = subprocess.Popen(
        [sys.executable, str(program), login.host, *where],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert supervisor.stdin
    assert supervisor.stdout
    assert [supervisor.stdout.readline() for _ in range(2)] == ["up\n", "b'first\\n'\n"]
    os.kill(supervisor.pid, signal.SIGSTOP)
    await anyio.sleep(1.2)  # three times what a silent server gets
    os.kill(supervisor.pid, signal.SIGCONT)
    said, _ = supervisor.communicate("go\n", timeout=BOUND)
    assert said == "b'second\\n'\nclosed\n"


async def test_a_script_given_up_on_its_way_is_ended_all_the_same(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login, "dash", keepalive=5) as (machine, proxy):
        proxy.delay = 0.005
        for cut_at in (20, 150, 300, 900, 2000):
            with anyio.CancelScope() as scope:
                fault = proxy.on_bytes(cut_at, source="client", then=scope.cancel)
                async with machine.shell(f"setsid sleep 300 & sleep 300 # {'x' * 2000}"):
                    await anyio.sleep_forever()
            assert fault.is_set()
    await no_process_left(server.tag)


async def test_the_loss_of_a_jump_host_is_the_loss_of_what_is_behind(
    server: SshServer, ssh_login: SshLogins, sshd: SshServer
) -> None:
    async with FaultProxy(server.host, server.port) as proxy:
        gate = ssh_config(ssh_login(server=server).at(proxy.port), **FAST)
        machine = SshMachine(replace(ssh_config(ssh_login("dash")), jump=gate))
        with anyio.fail_after(BOUND):
            async with machine.shell("echo first; read -r line") as process:
                assert await process.read() == b"first\n"
                proxy.cut()
                with pytest.raises(HostLost):
                    await process.read()
            assert (await machine.ask("echo back")).stdout == b"back\n"
            await machine.close()
        assert proxy.connections == 2
        with anyio.fail_after(BOUND):
            while proxy.open_connections:  # noqa: ASYNC110
                await anyio.sleep(0.01)


async def test_a_second_connection_that_fails_is_not_the_link_that_breaks(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login, keepalive=5) as (machine, proxy):
        async with AsyncExitStack() as stack:
            for _ in range(9):
                process = await stack.enter_async_context(machine.shell("read -r line"))
                stack.push_async_callback(process.close_input)
            proxy.refuse()
            with pytest.raises(PortClosed):
                await machine.ask("true")
            assert machine.link.state == "up"
            proxy.accept()
            assert (await machine.ask("echo hi")).stdout == b"hi\n"


async def test_what_a_lost_link_left_running_is_ended_later(
    server: SshServer, ssh_login: SshLogins
) -> None:
    async with linked(server, ssh_login) as (machine, proxy):
        async with machine.shell("setsid sleep 300 & echo $!; wait") as process:
            child = look_up(int(await process.read()))
            assert child
            proxy.cut()
            with pytest.raises(HostLost):
                await process.wait()
        assert not child.gone
        await machine.connect()
    await no_process_left(server.tag)
    assert child.gone
