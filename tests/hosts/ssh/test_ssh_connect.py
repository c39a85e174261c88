"""Getting in: every reason why not is told apart, names the host and says what to do."""
# ruff: noqa: ASYNC221  # small files, and ssh-keygen

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.errors import (
    ConnectError,
    LoginRefused,
    PortClosed,
    ServerSilent,
    UnknownHostName,
)
from optio_agents.hosts.ssh import SSHConfig, SshMachine
from optio_agents.hosts.ssh.login import dial
from optio_agents.hosts.ssh.route import route
from optio_agents.testing.proxy import FaultProxy
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin, SshServer, make_key
from tests.support.leaks import no_leaks
from tests.support.timeouts import BOUND

SshLogins = Callable[..., SshLogin]


async def failure(config: SSHConfig) -> ConnectError:
    machine = SshMachine(config)
    with anyio.fail_after(BOUND):
        async with no_leaks():  # sockets above all
            with pytest.raises(ConnectError) as caught:
                await machine.connect()
            await machine.close()
    assert config.host in str(caught.value)
    return caught.value


@pytest.fixture
def login(ssh_login: SshLogins) -> SshLogin:
    return ssh_login()


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_server_is_not_silent_because_we_were_busy(login: SshLogin, monkeypatch) -> None:
    loop = asyncio.get_running_loop()
    connect = loop.sock_connect

    async def connect_late(sock: socket.socket, address: object) -> None:
        time.sleep(2.2)  # noqa: ASYNC251 - a turn of ours that takes longer than it may …
        await asyncio.sleep(0)  # … and another, which sees that
        await connect(sock, address)

    monkeypatch.setattr(loop, "sock_connect", connect_late)
    way = await route(ssh_config(login))
    with await dial(way, 2.0) as sock:
        assert sock.getpeername() == (login.host, login.port)


async def test_a_refused_key(login: SshLogin, tmp_path: Path) -> None:
    stranger = replace(login, key_path=make_key(tmp_path / "stranger"))
    error = await failure(ssh_config(stranger))
    assert isinstance(error, LoginRefused)
    assert "ssh-add" in str(error)


async def test_a_refused_user(login: SshLogin) -> None:
    assert isinstance(await failure(ssh_config(replace(login, user="nobody-here"))), LoginRefused)


async def test_a_key_that_is_not_there_or_has_a_passphrase(login: SshLogin, tmp_path: Path) -> None:
    error = await failure(ssh_config(replace(login, key_path=tmp_path / "none")))
    assert isinstance(error, LoginRefused)
    assert "none cannot be read" in str(error)
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "pass", "-f", str(tmp_path / "locked")]
    subprocess.run(argv, check=True)
    assert isinstance(
        await failure(ssh_config(replace(login, key_path=tmp_path / "locked"))), LoginRefused
    )
    (tmp_path / "rubbish").write_text("no key\n")
    assert isinstance(
        await failure(ssh_config(replace(login, key_path=tmp_path / "rubbish"))), LoginRefused
    )


@pytest.mark.parametrize("name", ["a..b", "x" * 64])
async def test_a_name_that_no_resolver_knows(name: str) -> None:
    assert isinstance(await failure(SSHConfig(name, config=None)), UnknownHostName)


async def test_an_address_of_the_wrong_family_has_no_host(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("AddressFamily inet\n")
    assert isinstance(await failure(SSHConfig("::1", config=tmp_path / "config")), UnknownHostName)


async def test_a_closed_port(login: SshLogin) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        port = unheard.getsockname()[1]
        error = await failure(ssh_config(replace(login, port=port)))
    assert isinstance(error, PortClosed)
    assert f":{port}" in str(error)


async def test_a_server_that_says_nothing(login: SshLogin, silent: int) -> None:
    error = await failure(ssh_config(replace(login, port=silent), login_timeout=0.2))
    assert isinstance(error, ServerSilent)


async def test_a_server_that_swallows_the_connection(login: SshLogin) -> None:
    with socket.socket() as full:  # nobody accepts, and the queue is full
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(3):
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(full.getsockname())
        port = full.getsockname()[1]
        error = await failure(ssh_config(replace(login, port=port), connect_timeout=0.3))
        for each in waiting:
            each.close()
    assert isinstance(error, ServerSilent)


async def test_a_server_that_speaks_something_else(login: SshLogin) -> None:
    async def greet(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await anyio.sleep(0.05)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, greet)
            await anyio.wait_all_tasks_blocked()
            machine = SshMachine(ssh_config(replace(login, port=port), login_timeout=1))
            with anyio.fail_after(BOUND), pytest.raises(ConnectError, match="before the login"):
                await machine.connect()
            await machine.close()
            tasks.cancel_scope.cancel()


async def test_a_busy_server_is_asked_again(login: SshLogin, sshd: SshServer) -> None:
    async with FaultProxy(sshd.host, sshd.port) as proxy:
        dropped = 0

        async def drop_two() -> None:
            nonlocal dropped
            while dropped < 2:
                await proxy.on_bytes(1, source="server", then=proxy.cut).wait()
                dropped += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drop_two)
            machine = SshMachine(ssh_config(login.at(proxy.port)))
            with anyio.fail_after(BOUND):
                await machine.connect()
            await machine.close()
        assert dropped == 2


async def test_an_account_that_runs_no_commands(
    make_sshd: Callable[..., SshServer], ssh_login: SshLogins
) -> None:
    server = make_sshd({"ForceCommand": "/bin/sh -c 'echo go\\ away >&2; exit 1'"})
    machine = SshMachine(ssh_config(ssh_login(server=server)))
    await machine.connect()
    with anyio.fail_after(BOUND), pytest.raises(ConnectError, match="go away"):
        await machine.ask("true")
    await machine.close()


async def test_a_profile_that_never_ends_is_not_waited_for(
    make_sshd: Callable[..., SshServer], ssh_login: SshLogins, tmp_path: Path
) -> None:
    server = make_sshd({"ForceCommand": "exec sleep 300"})
    machine = SshMachine(ssh_config(ssh_login(server=server), shell_timeout=0.3))
    with anyio.fail_after(BOUND), pytest.raises(ServerSilent, match="profile"):
        async with machine.shell("true"):
            pytest.fail("it ran")
    await machine.close()


# The user's configuration


def write_config(path: Path, login: SshLogin, *lines: str) -> SSHConfig:
    """A machine called "box" whose every detail stands in the file."""
    facts = {
        "HostName": login.host,
        "Port": str(login.port),
        "User": login.user,
        "IdentityFile": str(login.key_path),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": str(login.known_hosts_path),
        "GlobalKnownHostsFile": "/dev/null",
    }
    path.write_text("\n".join([*lines, "Host box jump", *(f"{k} {v}" for k, v in facts.items())]))
    return SSHConfig("box", config=path, agent_path=None)


async def answer(config: SSHConfig) -> bytes:
    machine = SshMachine(config)
    with anyio.fail_after(BOUND):
        try:
            return (await machine.ask("echo $SSH_CONNECTION $SSH_AUTH_SOCK")).stdout
        finally:
            await machine.close()


async def test_everything_may_stand_in_the_users_configuration(
    login: SshLogin, tmp_path: Path
) -> None:
    config = write_config(
        tmp_path / "config",
        login,
        "Host *",
        "ForwardAgent yes",
        "RequestTTY force",
        "RemoteCommand echo mine",
        "StrictHostKeyChecking no",
        "Compression yes",
    )
    config = replace(config, agent_path=str(tmp_path / "agent"))
    assert len((await answer(config)).split()) == 4  # nothing of the agent behind it


async def test_no_known_hosts_file_does_not_mean_no_check(login: SshLogin, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", login, "Host box", "UserKnownHostsFile none")
    assert "unknown" in str(getattr(await failure(config), "reason", ""))


async def test_a_configuration_that_is_missing_or_nonsense(tmp_path: Path) -> None:
    await failure(SSHConfig("box", config=tmp_path / "none"))
    (tmp_path / "bad").write_text("Port many\n")
    await failure(SSHConfig("box", config=tmp_path / "bad"))


@pytest.mark.parametrize("how", ["by the file", "by argument"])
async def test_through_a_jump_host(
    login: SshLogin,
    make_sshd: Callable[..., SshServer],
    ssh_login: SshLogins,
    tmp_path: Path,
    how: str,
) -> None:
    jump = make_sshd()
    through = ssh_login(server=jump)
    with login.known_hosts_path.open("a") as known:
        known.write(jump.known_hosts)
    if how == "by the file":
        path = tmp_path / "config"
        config = write_config(
            path, login, "Host box", "ProxyJump gate", "Host gate", f"Port {jump.port}"
        )
        path.write_text(path.read_text().replace("Host box jump", "Host box gate"))
        path.write_text(path.read_text() + "\n")
    else:
        config = ssh_config(login)
        config = replace(config, jump=ssh_config(through))
    port = int((await answer(config)).split()[3])
    assert port == login.port
    assert "Accepted publickey" in jump.log


async def test_through_a_proxy_command(login: SshLogin, sshd: SshServer, tmp_path: Path) -> None:
    command = f"/usr/sbin/sshd -i -f {sshd.directory}/sshd_config -E {tmp_path}/log"
    config = write_config(tmp_path / "config", login, "Host box", f"ProxyCommand {command}")
    async with no_leaks():
        assert await answer(config)


async def test_jump_hosts_that_lead_back_are_told(login: SshLogin, tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "config", login, "Host box", "ProxyJump jump", "Host jump", "ProxyJump box"
    )
    assert "lead back" in str(await failure(config))


async def test_a_jump_host_for_all_is_not_jumped_to_itself(login: SshLogin, tmp_path: Path) -> None:
    config = write_config(tmp_path / "config", login, "Host *", "ProxyJump jump")
    assert await answer(config)


async def test_a_jump_host_that_cannot_reach_the_other(login: SshLogin, tmp_path: Path) -> None:
    config = replace(ssh_config(replace(login, port=1)), jump=ssh_config(login))
    assert "jump host" in str(await failure(config))


async def test_a_jump_host_that_is_not_trusted(
    login: SshLogin, ssh_login: SshLogins, tmp_path: Path
) -> None:
    gate = ssh_login()
    gate.known_hosts_path.write_text("")
    config = replace(ssh_config(login), jump=ssh_config(gate))
    assert getattr(await failure(config), "reason", "") == "unknown"


@pytest.mark.parametrize(
    "bad",
    [
        {"host": ""},
        {"host": "-oProxyCommand=x"},
        {"host": "a b"},
        {"host": "a", "port": 0},
        {"host": "a", "port": 65536},
        {"host": "a", "host_key_policy": "off"},
    ],
)
def test_a_config_that_cannot_be_meant(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"cannot be|one of"):
        SSHConfig(**bad)


def test_a_machine_is_named_without_asyncssh() -> None:
    program = (
        "import sys; from optio_agents.hosts.ssh import SSHConfig, SshMachine; "
        "SshMachine(SSHConfig('box')); print('asyncssh' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    assert said == b"False\n"


def test_a_config_has_a_name_and_can_be_compared(tmp_path: Path) -> None:
    assert SSHConfig("box", "me", 2222).name == "me@box:2222"
    assert SSHConfig("box").name == "box"
    one = SSHConfig("box", key_path=tmp_path / "key", config=tmp_path / "config")
    assert one == SSHConfig("box", key_path=str(tmp_path / "key"), config=[tmp_path / "config"])  # type: ignore[arg-type]
    assert len({one, SSHConfig("box", config=None)}) == 2
