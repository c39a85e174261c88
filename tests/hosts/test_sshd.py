"""The test ground itself: a server that tests may trust to break as told."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import anyio
import pytest

from optio_agents.testing.proxy import FaultProxy
from tests.support import proc
from tests.support.hosts.accounts import NOISE, SHELLS, Accounts, make_noisy
from tests.support.hosts.sshd import SshLogin, SshServer
from tests.support.leaks import Census, no_process_left
from tests.support.timeouts import BOUND

Login = Callable[..., SshLogin]
MakeSshd = Callable[..., SshServer]
Leaks = Callable[..., AbstractAsyncContextManager[Census]]

_WELCOME = NOISE.partition('"')[2].partition('"')[0]


def ask(login: SshLogin, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        login.ssh_argv(*command),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
        stdin=subprocess.DEVNULL,
    )


async def start_cat(login: SshLogin) -> asyncio.subprocess.Process:
    """`cat` over ssh that has answered once."""
    pipe = subprocess.PIPE
    cat = await asyncio.create_subprocess_exec(
        *login.ssh_argv("cat"), stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert await echoed(cat, b"hello\n") == b"hello\n"
    return cat


async def echoed(cat: asyncio.subprocess.Process, line: bytes) -> bytes:
    assert cat.stdin
    assert cat.stdout
    cat.stdin.write(line)
    return await cat.stdout.readline()


async def end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    with anyio.fail_after(BOUND):
        await process.communicate()


@pytest.mark.parametrize("noisy", [False, True], ids=["quiet", "noisy"])
@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_runs_a_command(ssh_login: Login, shell: str, noisy: bool) -> None:
    login = ssh_login(shell, noisy=noisy)
    answer = ask(login, 'echo "user=$USER home=$HOME shell=$SHELL"')
    assert answer.returncode == 0
    facts = f"user={login.user} home={login.account.home} shell={login.account.shell}\n"
    assert answer.stdout.endswith(facts)
    assert (_WELCOME in answer.stdout) == noisy


def test_whoever_runs_the_tests_gets_a_home_of_its_own(ssh_login: Login) -> None:
    login = ssh_login()
    assert ask(login, "echo $HOME").stdout == f"{login.account.home}\n"
    assert login.account.home != Path.home()


def test_a_home_of_ones_own_can_be_made_noisy(
    make_sshd: MakeSshd, ssh_login: Login, tmp_path: Path
) -> None:
    make_noisy(tmp_path, rc=True)
    make_noisy(tmp_path)
    server = make_sshd(home=tmp_path)
    assert _WELCOME in ask(ssh_login(server=server), "true").stdout


def test_a_directory_of_an_account_is_its_own(ssh_login: Login) -> None:
    login = ssh_login("dash")
    made = login.account.make_dir()
    assert ask(login, f"touch {made}/here").returncode == 0
    assert (made / "here").stat().st_uid == login.account.uid != 0


def test_scp_copies_both_ways(ssh_login: Login, tmp_path: Path) -> None:
    login = ssh_login()
    (tmp_path / "here").write_text("text")
    there = f":{tmp_path}/there"
    subprocess.run(login.scp_argv(str(tmp_path / "here"), there), check=True, timeout=BOUND)
    subprocess.run(login.scp_argv(there, str(tmp_path / "back")), check=True, timeout=BOUND)
    assert (tmp_path / "back").read_text() == "text"


def test_another_servers_host_key_is_refused(make_sshd: MakeSshd, ssh_login: Login) -> None:
    stranger = make_sshd()
    answer = ask(ssh_login(port=stranger.port), "true")
    assert answer.returncode == 255
    assert "Host key verification failed" in answer.stderr


def test_options_win_over_ours(make_sshd: MakeSshd, ssh_login: Login) -> None:
    server = make_sshd({"ForceCommand": "echo forced"})
    assert ask(ssh_login(server=server), "echo free").stdout == "forced\n"


def test_a_stopped_server_refuses_and_comes_back_on_its_port(
    make_sshd: MakeSshd, ssh_login: Login
) -> None:
    server = make_sshd()
    login = ssh_login(server=server)
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port))
    server.start()
    assert ask(login, "echo back").stdout == "back\n"


@pytest.mark.parametrize("name", ["me", "bash"])
async def test_sessions_survive_a_restart_and_end_when_killed(
    make_sshd: MakeSshd, ssh_login: Login, name: str
) -> None:
    server = make_sshd()
    with anyio.fail_after(BOUND):
        cat = await start_cat(ssh_login(name, server=server))
        server.restart()
        assert await echoed(cat, b"still here\n") == b"still here\n"
        assert server.kill_sessions() >= 1
        assert server.sessions() == []
        assert await cat.wait() == 255
    await end(cat)


@pytest.mark.parametrize("name", ["me", "bash"])
async def test_a_frozen_session_answers_when_it_thaws(
    make_sshd: MakeSshd, ssh_login: Login, name: str
) -> None:
    server = make_sshd()
    with anyio.fail_after(BOUND):
        cat = await start_cat(ssh_login(name, server=server))
        server.freeze()
        assert {each.state for each in server.sessions()} == {"T"}
        assert cat.stdin
        assert cat.stdout
        cat.stdin.write(b"later\n")
        with anyio.move_on_after(0.1) as waited:
            await cat.stdout.readline()
        assert waited.cancelled_caught
        server.thaw()
        assert await cat.stdout.readline() == b"later\n"
    await end(cat)


@pytest.mark.parametrize("name", ["me", "fish"])
async def test_stopping_ends_what_sessions_left_behind(
    make_sshd: MakeSshd, ssh_login: Login, name: str
) -> None:
    server = make_sshd()
    ask(ssh_login(name, server=server), "sh -c 'setsid sleep 600 </dev/null >/dev/null 2>&1 &'")
    proc.wait_until(lambda: "sleep" in {each.name for each in server.running()})
    server.stop()
    assert server.running() == []


async def test_the_real_client_works_through_a_proxy(sshd: SshServer, ssh_login: Login) -> None:
    async with FaultProxy(sshd.host, sshd.port) as proxy:
        with anyio.fail_after(BOUND):
            cat = await start_cat(ssh_login(port=proxy.port))
            proxy.cut()
            assert await cat.wait() == 255
        assert proxy.connections == 1
        await end(cat)


def test_accounts_are_the_same_when_asked_for_again(accounts: Accounts) -> None:
    assert accounts("zsh") == accounts("zsh") != accounts("zsh", noisy=True)


async def test_leaks_shows_what_stayed_open(leaks: Leaks) -> None:
    keep = list[socket.socket]()
    with pytest.raises(AssertionError, match="descriptor"):
        async with leaks(within=0.05):
            keep.append(socket.socket())
    keep.pop().close()
    with pytest.raises(AssertionError, match="task"):
        async with leaks(within=0.05):
            task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    with pytest.raises(AssertionError, match="child"):
        async with leaks(within=0.05):
            child = await asyncio.create_subprocess_exec("sleep", "60")
    await end(child)


async def test_leaks_shows_a_busy_thread_and_no_idle_one(leaks: Leaks) -> None:
    release = anyio.Event()
    async with leaks():
        await anyio.to_thread.run_sync(os.getpid)
        await asyncio.to_thread(os.getpid)
    async with anyio.create_task_group() as tasks:
        before = Census.take()
        tasks.start_soon(anyio.to_thread.run_sync, anyio.from_thread.run, release.wait)
        await anyio.wait_all_tasks_blocked()
        assert any(entry.startswith("thread") for entry in before.since())
        release.set()


async def test_a_tagged_process_is_found_until_it_is_gone() -> None:
    ready = "import time; print(flush=True); time.sleep(60)"  # exec has happened, and its environ
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ready),
        env={"OPTIO_SESSION": "a-tag-of-this-test"},
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    await child.stdout.readline()
    started = proc.start_time(child.pid)
    with pytest.raises(AssertionError, match=str(child.pid)):
        await no_process_left("a-tag-of-this-test", within=0.05)
    assert not proc.process_is_gone(child.pid, started)
    assert proc.process_is_gone(child.pid, started + 1)
    await end(child)
    await no_process_left("a-tag-of-this-test")
    assert proc.process_is_gone(child.pid, started)


def test_a_zombie_is_gone() -> None:
    with subprocess.Popen(["true"]) as child:
        started = proc.start_time(child.pid)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        found = proc.process(child.pid)
        assert found
        assert found.state == "Z"
        assert proc.process_is_gone(child.pid, started)
