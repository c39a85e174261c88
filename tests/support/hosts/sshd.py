"""A real OpenSSH server to break, and logins to it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.components import unavailable
from tests.support.hosts.accounts import Account, Accounts
from tests.support.sweeping import RUN
from tests.support.timeouts import BOUND

SSHD = "/usr/sbin/sshd"


@dataclass(frozen=True, slots=True)
class SshLogin:
    """Where and as whom to log in."""

    host: str
    port: int
    user: str
    key_path: Path
    known_hosts_path: Path
    account: Account

    def ssh_argv(self, *command: str) -> list[str]:
        """The real ssh client with this identity, and nothing of this machine's configuration."""
        return ["ssh", *self._options("-p"), f"{self.user}@{self.host}", *command]

    def scp_argv(self, source: str, target: str) -> list[str]:
        """The real scp; a leading colon (``:/path``) stands for the server."""
        ends = (
            f"{self.user}@{self.host}{end}" if end[0] == ":" else end for end in (source, target)
        )
        return ["scp", "-q", *self._options("-P"), *ends]

    def at(self, port: int) -> SshLogin:
        """The same login through a proxy that listens on *port*."""
        known = self.known_hosts_path.read_text()
        path = self.known_hosts_path.with_name(f"known_hosts_{port}")
        path.write_text(known.replace(f":{self.port} ", f":{port} "))
        return replace(self, port=port, known_hosts_path=path)

    def _options(self, port: str) -> list[str]:
        settings = {
            "BatchMode": "yes",
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts_path),
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        return ["-F", "none", "-i", str(self.key_path), port, str(self.port), *options]


class SshServer:
    """A stock sshd on a loopback port of its own, which it keeps over every restart.

    *options* are lines of sshd_config that win over ours. *home* is $HOME for the user who runs
    the tests: nothing of theirs is read. Everything that runs in its sessions inherits
    ``OPTIO_TEST_SERVER=<tag>``.
    """

    host = "127.0.0.1"

    def __init__(
        self, directory: Path, *, key: Path, home: Path, options: Mapping[str, str] | None = None
    ) -> None:
        self.directory, self.tag = directory, uuid.uuid4().hex
        # Bound but never listening, it keeps the port ours while there is no sshd.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._reserved.bind((self.host, 0))
        self.port: int = self._reserved.getsockname()[1]
        self.host_key = make_key(directory / "host_key")
        shutil.copy(key.with_suffix(".pub"), directory / "authorized_keys")
        self._write_config(options or {}, home)
        self._listener: subprocess.Popen[bytes] | None = None
        self._known = dict[int, proc.Process]()  # sshd processes of sessions, by pid

    @property
    def known_hosts(self) -> str:
        """The line of known_hosts for this server."""
        kind, public, *_ = self.host_key.with_suffix(".pub").read_text().split()
        return f"[{self.host}]:{self.port} {kind} {public}\n"

    @property
    def log(self) -> str:
        """What sshd has said so far."""
        return (self.directory / "log").read_text(errors="replace")

    def start(self) -> None:
        """Listen; returns when it does."""
        assert self._listener is None, "it runs already"
        said = len(self.log)
        config = str(self.directory / "sshd_config")
        argv = [SSHD, "-D", "-f", config, "-E", str(self.directory / "log")]
        self._listener = subprocess.Popen(
            argv, env={}, stdin=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + BOUND
        # Asking the log costs no connection: a stray one counts towards MaxStartups and penalties.
        while "Server listening on" not in self.log[said:]:
            if self._listener.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"sshd does not start: {self.log[said:]}")
            time.sleep(0.002)

    def stop(self) -> None:
        """End the listener, its sessions and whatever runs in them."""
        self._stop_listening()
        self.kill_sessions()
        proc.kill(*proc.tagged(self.tag))

    def restart(self) -> None:
        """A new listener on the same port; sessions go on, as after an upgrade of sshd."""
        self._stop_listening()
        self.start()

    def sessions(self) -> list[proc.Process]:
        """The sshd processes of all connections; never what the users run in them."""
        everything = list(proc.processes())
        listener = self._listener.pid if self._listener else None
        # Each connection begins with a child of the listener that leads a session of its own,
        # and a user's command is in yet another one.
        leaders = {found.pid for found in everything if found.parent == listener}
        leaders |= {found.session for found in self._known.values() if not found.gone}
        found = [each for each in everything if {each.pid, each.session} & leaders]
        self._known = {each.pid: each for each in found if not each.gone}
        return list(self._known.values())

    def kill_sessions(self) -> int:
        """SIGKILL every connection's sshd; how many processes there were."""
        victims = self.sessions()
        proc.kill(*victims)
        return len(victims)

    def freeze(self) -> None:
        """SIGSTOP every connection's sshd: connections stay open and nothing answers."""
        frozen = self.sessions()
        for session in frozen:
            session.send(signal.SIGSTOP)
        proc.wait_until(lambda: all(each.stopped for each in frozen))

    def thaw(self) -> None:
        for session in self.sessions():
            session.send(signal.SIGCONT)

    def running(self) -> list[proc.Process]:
        """What its users still run here (as far as it kept its environment)."""
        return proc.tagged(self.tag)

    def close(self) -> None:
        """Stop for good and give the port back."""
        self.stop()
        self._reserved.close()

    def _stop_listening(self) -> None:
        if self._listener is None:
            return
        self._listener.send_signal(signal.SIGSTOP)  # no new session behind our back
        self.sessions()
        self._listener.kill()
        self._listener.wait()
        self._listener = None

    def _write_config(self, options: Mapping[str, str], home: Path) -> None:
        tag = f"OPTIO_TEST_SERVER={self.tag} {RUN}={os.environ[RUN]}"
        settings = {
            "ListenAddress": self.host,
            "Port": str(self.port),
            "HostKey": str(self.host_key),
            "AuthorizedKeysFile": str(self.directory / "authorized_keys"),
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PermitRootLogin": "prohibit-password",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "Subsystem": "sftp internal-sftp",
            "SetEnv": tag,
        }
        lines = [f"{name} {value}\n" for name, value in {**settings, **options}.items()]
        lines.append(f"Match LocalPort {self.port} User {Accounts(home).me.user}\n")
        lines.append(f"SetEnv {tag} HOME={home}\n")
        (self.directory / "sshd_config").write_text("".join(lines))
        (self.directory / "log").touch()


def make_key(path: Path) -> Path:
    """A new ed25519 key at *path*, its public half beside it with ``.pub``."""
    argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, timeout=BOUND)
    return path


@pytest.fixture(scope="session")
def client_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The private key that every account here lets in."""
    if not Path(SSHD).exists():
        unavailable("OpenSSH's sshd is not installed")
    return make_key(tmp_path_factory.mktemp("key") / "id_ed25519")


@pytest.fixture(scope="session")
def sshd(client_key: Path, accounts: Accounts) -> Iterator[SshServer]:
    """A running stock sshd that all tests share: use it, do not stop or break it."""
    with ExitStack() as stack:
        yield _enter(stack, client_key, accounts.me.home, {})


@pytest.fixture
def make_sshd(client_key: Path, accounts: Accounts) -> Iterator[Callable[..., SshServer]]:
    """``make_sshd({"MaxSessions": "2"}, home=…)``: a running sshd of this test's own, to break."""
    with ExitStack() as stack:

        def make(
            options: Mapping[str, str] | None = None, *, home: Path | None = None
        ) -> SshServer:
            return _enter(stack, client_key, home or accounts.me.home, options or {})

        yield make


@pytest.fixture
def ssh_login(
    sshd: SshServer, accounts: Accounts, client_key: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., SshLogin]:
    """``ssh_login("zsh", noisy=True, server=…, port=proxy.port)``: how to get in, as whom."""

    def login(
        name: str = "me",
        *,
        noisy: bool = False,
        server: SshServer = sshd,
        port: int | None = None,
    ) -> SshLogin:
        account = accounts(name, noisy=noisy)
        known_hosts = tmp_path_factory.mktemp("ssh") / "known_hosts"
        known_hosts.write_text(server.known_hosts)
        made = SshLogin(server.host, server.port, account.user, client_key, known_hosts, account)
        return made if port is None else made.at(port)

    return login


def _enter(stack: ExitStack, key: Path, home: Path, options: Mapping[str, str]) -> SshServer:
    if not os.getuid():
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd locks up its children
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="optio-sshd-")))
    directory.chmod(0o755)  # sshd reads authorized_keys as the user who logs in
    server = SshServer(directory, key=key, home=home, options=options)
    stack.callback(server.close)
    server.start()
    return server
