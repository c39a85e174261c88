"""Every kind of host that the contract holds for: this machine, and one account per login shell."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from optio_agents.hosts import Host, SSHConfig, make_host
from tests.support.hosts.accounts import SHELLS, Account
from tests.support.hosts.sshd import SshLogin
from tests.support.timeouts import BOUND

KINDS = ("local", "me", *SHELLS)
USUAL = ("local", "me", "ash")  # where the shell makes no difference


@dataclass(frozen=True, slots=True)
class Ground:
    """A host to be entered by the test, as often as it likes, and what lies there."""

    kind: str
    directory: Path  # on the host, of its user alone
    ssh: SSHConfig | None
    login: SshLogin | None

    @property
    def account(self) -> Account | None:
        return self.login and self.login.account

    def through(self, port: int, **settings: Any) -> Ground:
        """The same host behind a proxy that listens on *port*."""
        assert self.login
        return replace(self, ssh=ssh_config(self.login.at(port), **settings))

    @property
    def is_root(self) -> bool:
        return os.getuid() == 0 and self.kind in {"local", "me"}

    def host(self, name: str = "task", *, workdir: str | None = None) -> Host:
        return make_host(self.ssh, taskdir=str(self.directory / name), workdir=workdir)

    @asynccontextmanager
    async def ready(self, name: str = "task") -> AsyncIterator[Host]:
        """Entered and set up, for as long as a test may take."""
        with anyio.fail_after(BOUND):
            async with self.host(name) as host:
                await host.setup_workdir()
                yield host

    def give(self, path: Path) -> Path:
        """Have a file that the test made belong to the user of the host."""
        if self.account:
            os.chown(path, self.account.uid, self.account.gid, follow_symlinks=False)
        return path


def ssh_config(login: SshLogin, **settings: Any) -> SSHConfig:
    """How to get in, with nothing of this machine's configuration."""
    return SSHConfig(
        login.host,
        user=login.user,
        port=login.port,
        key_path=login.key_path,
        known_hosts=login.known_hosts_path,
        config=None,
        agent_path=None,
        **settings,
    )


@pytest.fixture
def ground(
    request: pytest.FixtureRequest, tmp_path: Path, ssh_login: Callable[..., SshLogin]
) -> Ground:
    """The host of each kind; ``@every_kind`` or ``@usual_kinds`` says of which."""
    kind = request.param
    if kind == "local":
        return Ground(kind, tmp_path, None, None)
    login = ssh_login(kind)
    return Ground(kind, login.account.make_dir(), ssh_config(login), login)


every_kind = pytest.mark.parametrize("ground", KINDS, indirect=True)
usual_kinds = pytest.mark.parametrize("ground", USUAL, indirect=True)
both_ways = pytest.mark.parametrize("ground", ["local", "me"], indirect=True)
over_ssh = pytest.mark.parametrize("ground", ["me"], indirect=True)
