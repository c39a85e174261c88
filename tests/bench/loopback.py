"""A real sshd on the loopback, for benchmarks that need a link."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optio_agents.hosts.ssh_config import SSHConfig
from tests.bench import Unavailable
from tests.sshd import SSHD, SshServer, make_key


@contextmanager
def loopback() -> Iterator[tuple[SSHConfig, Path]]:
    """How to log in as whoever runs this, and a directory there; nothing of theirs is read."""
    if not Path(SSHD).exists():
        raise Unavailable("OpenSSH's sshd is not installed")
    if not os.getuid():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="optio-bench-") as name:
        home = Path(name)
        for directory in "sshd", "there":
            (home / directory).mkdir(mode=0o755)
        key = make_key(home / "id_ed25519")
        server = SshServer(home / "sshd", key=key, home=home / "there")
        known = home / "known_hosts"
        known.write_text(server.known_hosts)
        try:
            server.start()
            yield _login(server, key, known), home / "there"
        finally:
            server.close()


def _login(server: SshServer, key: Path, known: Path) -> SSHConfig:
    return SSHConfig(
        server.host,
        port=server.port,
        key_path=key,
        known_hosts=known,
        config=None,
        agent_path=None,
    )
