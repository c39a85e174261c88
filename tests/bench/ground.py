"""An sshd of the benchmarks' own and a directory in memory, to compare with OpenSSH's clients."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from optio_agents.hosts import RemoteHost, SSHConfig, make_host
from optio_agents.testing.proxy import FaultProxy
from tests.bench import Unavailable
from tests.support.hosts.accounts import Account, Accounts
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SSHD, SshLogin, SshServer, make_key

MEMORY = Path("/dev/shm")  # no disk in the way


@dataclass(frozen=True, slots=True)
class Ground:
    """A server, a login to it, and a directory that both ends see."""

    server: SshServer
    login: SshLogin
    directory: Path

    def config(self, port: int | None = None) -> SSHConfig:
        """How we get in, through a proxy on *port* if there is one."""
        return ssh_config(self.login.at(port) if port else self.login)

    def arguments(self, port: int | None = None) -> Sequence[str]:
        """The same for a worker, see `login_of`."""
        login = self.login.at(port) if port else self.login
        host, user = login.host, getpass.getuser()
        paths = (str(login.key_path), str(login.known_hosts_path), str(self.directory))
        return host, str(login.port), user, *paths

    @asynccontextmanager
    async def through_proxy(self) -> AsyncIterator[tuple[FaultProxy, RemoteHost]]:
        """A host there, and what its link can be slowed down with."""
        async with (
            FaultProxy(self.server.host, self.server.port) as proxy,
            make_host(self.config(proxy.port), taskdir=str(self.directory / "task")) as host,
        ):
            yield proxy, host


def login_of(arguments: Sequence[str]) -> tuple[SshLogin, Path]:
    """What `Ground.arguments` stands for: the login, and the directory that both ends see."""
    host, port, user, *paths = arguments
    key, known_hosts, directory = map(Path, paths)
    account = Account(user, directory, "/bin/sh", os.getuid(), os.getgid())
    return SshLogin(host, int(port), user, key, known_hosts, account), directory


@contextmanager
def ground() -> Iterator[Ground]:
    if not Path(SSHD).exists() or shutil.which("scp") is None:
        raise Unavailable("OpenSSH is not installed")
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="optio-bench-") as small,
        tempfile.TemporaryDirectory(prefix="optio-bench-", dir=place) as large,
    ):
        home = Path(small)
        key = make_key(home / "key")
        (home / "server").mkdir(mode=0o755)
        home.chmod(0o755)
        if not os.getuid():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        server = SshServer(home / "server", key=key, home=home)
        server.start()
        try:
            (home / "known_hosts").write_text(server.known_hosts)
            me = Accounts(home).me
            known_hosts = home / "known_hosts"
            login = SshLogin(server.host, server.port, me.user, key, known_hosts, me)
            yield Ground(server, login, Path(large))
        finally:
            server.close()


async def run_seconds(argv: Sequence[str]) -> float:
    """How long a command takes that must succeed."""
    began = anyio.current_time()
    await anyio.run_process(argv)
    return anyio.current_time() - began
