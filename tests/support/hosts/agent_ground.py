"""Hosts for agents: every shell and every set of tools that a script of ours must live with."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from optio_agents import agents
from optio_agents.agents import Agent
from optio_agents.hosts.host import Host
from optio_agents.hosts.local import LocalMachine, LocalProcess
from optio_agents.hosts.ssh import SshMachine
from tests.support.components import unavailable
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin
from tests.support.timeouts import BOUND

TOOLS = """awk cat chmod cmp cut date dd df env find grep head id ln ls mkdir mkfifo mv rm sed
    setsid sleep sort stat tail touch tr uname wc"""
SHELLS = ("dash", "bash", "ash")
LOGINS = ("ssh-me", "ssh-zsh")
PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


class ShellMachine(LocalMachine):
    """This machine as it would be with another /bin/sh, and with other tools."""

    is_local = False  # all goes through the scripts, which are to be tried

    def __init__(self, shell: str, path: str) -> None:
        super().__init__()
        self._sh, self._path = shell, path
        self.login: Mapping[str, str] | None = None

    async def login_environment(self) -> Mapping[str, str]:
        return await super().login_environment() if self.login is None else self.login

    @asynccontextmanager
    async def shell(
        self,
        script: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        bulk: bool = False,
        stops: bool = True,
    ) -> AsyncIterator[LocalProcess]:
        ours = [text.replace("/bin/sh", self._sh) for text in (script, *args)]
        enter = 's=$1; shift; exec "$0" -c "$s" "$0" "$@"'.replace('"$0"', self._sh)
        path = {"PATH": self._path, **(env or {})}
        async with super().shell(enter, ours, env=path, bulk=bulk, stops=stops) as process:
            yield process


def machine(shell: str, directory: Path) -> ShellMachine:
    """Have dash with perl at hand, bash with python3 alone, busybox with nothing but itself."""
    found = shutil.which("busybox" if shell == "ash" else shell)
    if found is None:
        unavailable(f"{shell} is not installed")
    if shell == "dash":
        return ShellMachine(found, PLAIN["PATH"])
    tools = directory / f"tools-{shell}"
    tools.mkdir()
    if shell == "ash":
        subprocess.run([found, "--install", "-s", str(tools)], check=True)
        return ShellMachine(str(tools / "ash"), str(tools))
    for name in TOOLS.split():
        (tools / name).symlink_to(shutil.which(name) or unavailable(f"there is no {name}"))
    (tools / "python3").symlink_to(Path(sys.executable).resolve())
    return ShellMachine(found, str(tools))


def ssh_host(login: SshLogin) -> Host:
    """A host behind *login*, with a task directory of that account."""
    return Host(SshMachine(ssh_config(login)), str(login.account.make_dir() / "task"))


@asynccontextmanager
async def ready(host: Host) -> AsyncIterator[None]:
    """Entered and set up, for as long as a test may take."""
    with anyio.fail_after(BOUND):
        async with host:
            await host.setup_workdir()
            yield


@asynccontextmanager
async def started(host: Host, command: str, **options: Any) -> AsyncIterator[Agent]:
    """An agent that is a shell command, in an environment of nothing but a PATH."""
    env = {**PLAIN, **options.pop("env", {})}
    argv = ["sh", "-c", command]
    async with agents.start(host, argv, env=env, env_base="empty", **options) as agent:
        yield agent


async def said(host: Host, agent: Agent, name: str = "stdout") -> bytes:
    """What the agent has written so far."""
    return (await host.ask('cat "$1"', f"{agent.directory}/{name}")).stdout


async def until(condition: Callable[[], Any]) -> None:
    """Look every few milliseconds: neither files nor processes tell us of themselves."""
    while True:
        found = condition()
        if found if not hasattr(found, "__await__") else await found:
            return
        await anyio.sleep(0.005)


def here(agent: Agent, name: str) -> Path:
    return Path(agent.directory, name)


def beside(host: Host) -> Path:
    """The directory that the task directory stands in: its user may enter it."""
    return Path(host.taskdir).parent


def text_of(*parts: str) -> str:
    return Path(*parts).read_text()


def tags_in(host: Host) -> list[str]:
    """Of every session that was prepared in the task directory."""
    return [tag.read_text().strip() for tag in Path(host.taskdir).glob("session*/tag")]


def pid_in(agent: Agent, name: str) -> int:
    return int(here(agent, name).read_text().split()[0])
