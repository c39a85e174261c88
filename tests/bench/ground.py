"""An sshd of the benchmarks' own and a directory in memory, to compare with OpenSSH's clients."""

from __future__ import annotations

import getpass
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from tests.accounts import Accounts
from tests.bench import Unavailable
from tests.sshd import SSHD, SshLogin, SshServer, make_key

MEMORY = Path("/dev/shm")  # no disk in the way


@dataclass(frozen=True, slots=True)
class Ground:
    """A server, a login to it, and a directory that both ends see."""

    server: SshServer
    login: SshLogin
    directory: Path

    def arguments(self, port: int | None = None) -> Sequence[str]:
        """How a worker gets in: host, port, user, key, known_hosts, directory."""
        login = self.login.at(port) if port else self.login
        host, user = login.host, getpass.getuser()
        paths = (str(login.key_path), str(login.known_hosts_path), str(self.directory))
        return host, str(login.port), user, *paths


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
