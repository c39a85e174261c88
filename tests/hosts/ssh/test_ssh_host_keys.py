"""Host keys: what is trusted, what is refused and with which words, what is written down."""
# ruff: noqa: ASYNC220, ASYNC221  # small files, and ssh-keygen

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest

from optio_agents.errors import HostKeyRefused
from optio_agents.hosts.ssh import SshMachine
from optio_agents.hosts.ssh.known_hosts import KnownHosts
from tests.support.hosts.hosts import ssh_config
from tests.support.hosts.sshd import SshLogin, SshServer, make_key
from tests.support.timeouts import BOUND

SshLogins = Callable[..., SshLogin]


@asynccontextmanager
async def entered(login: SshLogin, **settings: Any) -> AsyncIterator[SshMachine]:
    machine = SshMachine(ssh_config(login, **settings))
    with anyio.fail_after(BOUND):
        try:
            await machine.connect()
            yield machine
        finally:
            await machine.close()


async def refused(login: SshLogin, **settings: Any) -> HostKeyRefused:
    with pytest.raises(HostKeyRefused) as caught:
        async with entered(login, **settings):
            pytest.fail("it connected")
    assert f"{login.host}:{login.port}" in str(caught.value)
    return caught.value


async def accepted(login: SshLogin, **settings: Any) -> None:
    async with entered(login, **settings) as machine:
        assert (await machine.ask("echo hi")).stdout == b"hi\n"


@pytest.fixture
def login(ssh_login: SshLogins) -> SshLogin:
    return ssh_login()


@pytest.fixture
def other(tmp_path: Path) -> str:
    """The public half of some other key."""
    return _public(make_key(tmp_path / "other"))


def _public(key: Path) -> str:
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def _fingerprint(public: str) -> str:
    argv = ["ssh-keygen", "-l", "-f", "-"]
    return subprocess.run(argv, input=public, capture_output=True, text=True).stdout.split()[1]


def here(login: SshLogin) -> str:
    return f"[{login.host}]:{login.port}"


def write(login: SshLogin, *lines: str) -> None:
    login.known_hosts_path.write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("policy", ["strict", "accept-new", "insecure"])
async def test_a_known_key_lets_us_in_and_nothing_is_written(login: SshLogin, policy: str) -> None:
    before = login.known_hosts_path.read_bytes()
    await accepted(login, host_key_policy=policy)
    assert login.known_hosts_path.read_bytes() == before


async def test_an_unknown_key_is_refused(login: SshLogin, sshd: SshServer) -> None:
    write(login)
    error = await refused(login)
    assert (error.reason, error.known) == ("unknown", "")
    assert error.seen == f"ssh-ed25519 {_fingerprint(_public(sshd.host_key))}"
    assert error.seen in str(error)
    assert "accept-new" in str(error)
    assert login.known_hosts_path.read_bytes() == b""


async def test_without_any_file_every_key_is_unknown(login: SshLogin) -> None:
    login.known_hosts_path.unlink()
    assert (await refused(login)).reason == "unknown"
    assert not login.known_hosts_path.exists()


@pytest.mark.parametrize("policy", ["strict", "accept-new"])
async def test_a_changed_key_is_refused_with_both_fingerprints(
    login: SshLogin, sshd: SshServer, other: str, policy: str
) -> None:
    write(login, f"{here(login)} {other}")
    error = await refused(login, host_key_policy=policy)
    assert error.reason == "changed"
    assert _fingerprint(_public(sshd.host_key)) in error.seen
    assert _fingerprint(other) in error.known
    assert error.seen in str(error)
    assert error.known in str(error)
    assert f"ssh-keygen -R '{here(login)}'" in str(error)
    assert "listening in" in str(error)


async def test_a_key_of_another_kind_is_changed_too(login: SshLogin, tmp_path: Path) -> None:
    argv = ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(tmp_path / "ecdsa")]
    subprocess.run(argv, check=True)
    write(login, f"{here(login)} {_public(tmp_path / 'ecdsa')}")
    for policy in "strict", "accept-new":
        error = await refused(login, host_key_policy=policy)
        assert (error.reason, error.known.split()[0]) == ("changed", "ecdsa-sha2-nistp256")


@pytest.mark.parametrize("policy", ["strict", "accept-new"])
@pytest.mark.parametrize("pattern", ["{here}", "{host}", "*"])
@pytest.mark.parametrize("listed", [True, False])
async def test_a_revoked_key_is_refused(
    login: SshLogin, sshd: SshServer, policy: str, pattern: str, listed: bool
) -> None:
    key = _public(sshd.host_key)
    where = pattern.format(here=here(login), host=login.host)
    write(login, f"@revoked {where} {key}", *([f"{here(login)} {key}"] if listed else []))
    error = await refused(login, host_key_policy=policy)
    assert error.reason == "revoked"
    assert _fingerprint(key) in error.seen


async def test_a_key_of_the_bare_host_name_counts_as_with_openssh(
    login: SshLogin, sshd: SshServer, other: str
) -> None:
    write(login, f"{login.host} {_public(sshd.host_key)}")
    await accepted(login)
    write(login, f"{login.host} {other}")  # port 22's: says nothing about this port
    assert (await refused(login)).reason == "unknown"
    await accepted(login, host_key_policy="accept-new")
    assert here(login) in login.known_hosts_path.read_text()


async def test_the_insecure_take_any_key(login: SshLogin, other: str) -> None:
    write(login, f"{here(login)} {other}", f"@revoked * {other}")
    await accepted(login, host_key_policy="insecure")


@pytest.mark.parametrize("before", ["", "# mine\n", "elsewhere ssh-ed25519 AAAA", None])
async def test_accept_new_writes_a_line_that_openssh_reads(
    login: SshLogin, sshd: SshServer, before: str | None
) -> None:
    path = login.known_hosts_path
    if before is None:
        path.unlink()
    else:
        path.write_text(before)
    await accepted(login, host_key_policy="accept-new")
    added = path.read_text().removeprefix(before or "").lstrip("\n")
    assert added == f"{here(login)} {_public(sshd.host_key)}\n"
    assert subprocess.run(login.ssh_argv("true"), timeout=BOUND, check=False).returncode == 0
    if before is None:
        assert path.stat().st_mode & 0o777 == 0o600
    await accepted(login)
    await accepted(login, host_key_policy="accept-new")
    assert path.read_text().count(here(login)) == 1


async def test_where_the_users_file_is_hashed_the_new_line_is(login: SshLogin, other: str) -> None:
    write(login, f"elsewhere {other}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(login.known_hosts_path)], check=True)
    await accepted(login, host_key_policy="accept-new")
    lines = login.known_hosts_path.read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("|1|") for line in lines)
    assert login.host not in lines[1]
    assert subprocess.run(login.ssh_argv("true"), timeout=BOUND, check=False).returncode == 0
    await accepted(login)


async def test_lines_that_nobody_can_read_hide_no_others(login: SshLogin, sshd: SshServer) -> None:
    key = _public(sshd.host_key)
    nonsense = "rubbish", "|1|x ssh-ed25519 AAAA", "@unheard-of * ssh-ed25519 AAAA"
    write(login, *nonsense, f"{here(login)} {key} me")
    with login.known_hosts_path.open("ab") as known:
        known.write(b"\xff\xfe ssh-ed25519 AAAA\n")
    await accepted(login)


async def test_a_new_key_that_cannot_be_kept_is_refused(login: SshLogin, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = replace(login, known_hosts_path=tmp_path / "file" / "known_hosts")
    error = await refused(nowhere, host_key_policy="accept-new")
    assert "could not be kept" in str(error)


async def test_a_certified_host_is_trusted_by_its_authority(
    make_sshd: Callable[..., SshServer], ssh_login: SshLogins, tmp_path: Path
) -> None:
    authority = make_key(tmp_path / "ca")
    server = make_sshd()
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "host", "-h", "-n", server.host]
    subprocess.run([*sign, str(server.host_key.with_suffix(".pub"))], check=True)
    config = server.directory / "sshd_config"
    certificate = server.host_key.with_name(f"{server.host_key.name}-cert.pub")
    config.write_text(f"HostCertificate {certificate}\n{config.read_text()}")
    server.restart()
    login = ssh_login(server=server)
    write(login, f"@cert-authority {here(login)} {_public(authority)}")
    await accepted(login)
    write(login)
    assert (await refused(login)).reason == "unknown"
    await accepted(login, host_key_policy="accept-new")  # its plain key, then
    assert _public(server.host_key) in login.known_hosts_path.read_text()


def test_another_one_may_have_been_quicker(login: SshLogin, sshd: SshServer, other: str) -> None:
    files = KnownHosts([str(login.known_hosts_path)])
    key = asyncssh.read_public_key(sshd.host_key.with_suffix(".pub"))
    write(login)
    assert [files.add(login.host, login.port, key) for _ in range(2)] == [True, True]
    assert login.known_hosts_path.read_text().count(here(login)) == 1
    write(login, f"{here(login)} {other}")
    assert not files.add(login.host, login.port, key)
    assert login.known_hosts_path.read_text().count(here(login)) == 1


async def test_many_at_once_write_it_once(login: SshLogin, tmp_path: Path) -> None:
    """Separate processes, as many supervisors would be."""
    write(login)
    program = tmp_path / "connect.py"
    program.write_text(
        "import sys, anyio\n"
        "from optio_agents.hosts.ssh import SSHConfig, SshMachine\n"
        "async def main(host, user, port, key, known):\n"
        "    config = SSHConfig(host, user, int(port), key, known_hosts=known, config=None,\n"
        "                       agent_path=None, host_key_policy='accept-new')\n"
        "    machine = SshMachine(config)\n"
        "    sys.stdin.readline()\n"
        "    await machine.connect()\n"
        "    await machine.close()\n"
        "anyio.run(main, *sys.argv[1:])\n"
    )
    where = [login.host, login.user, str(login.port), str(login.key_path)]
    argv = [sys.executable, str(program), *where, str(login.known_hosts_path)]
    many = [subprocess.Popen(argv, stdin=subprocess.PIPE) for _ in range(4)]
    for each in many:
        assert each.stdin
        each.stdin.write(b"go\n")
        each.stdin.close()
    assert [each.wait(timeout=BOUND) for each in many] == [0] * len(many)
    assert login.known_hosts_path.read_text().count(here(login)) == 1
