"""Make one SSH connection: dial, check the host key, log in."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from optio_agents.concurrency import task_group
from optio_agents.errors import HostKeyRefused, LoginRefused

from .errors import translate
from .known_hosts import Known, KnownHosts, fingerprint
from .route import asyncssh_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .config import SSHConfig
    from .route import Route


# The moment between dialling and logging in: judge the host key, and say why not.


class LoginClient(asyncssh.SSHClient):
    """Judges the host key, and tells when the connection has ended."""

    def __init__(
        self, config: SSHConfig, way: Route, lost: Callable[[Exception | None], None]
    ) -> None:
        self.refusal: HostKeyRefused | None = None
        self.opened = False  # it has a transport
        self.abandoned = False  # before it was anybody's
        self._policy, self._way, self._lost = config.host_key_policy, way, lost
        self._files = KnownHosts(way.known_hosts)
        self._known = Known()

    async def host_key_options(self) -> dict[str, Any]:
        if self._policy == "insecure":
            return {"known_hosts": None}
        self._known = await anyio.to_thread.run_sync(
            self._files.look_up, self._way.key_host, "", self._way.port
        )
        options: dict[str, Any] = {"known_hosts": self._look_up}
        if not self._way.options.config.get("HostKeyAlgorithms"):
            # The kinds we know first, then all others: a server whose key is now of another
            # kind is to be seen as changed, not as one that speaks no SSH.
            kinds = [kind for key in self._known.trusted for kind in key.sig_algorithms]
            certified = get_default_certificate_algs() if self._known.usable_authorities else []
            ordered = dict.fromkeys([*certified, *kinds, *get_default_public_key_algs()])
            options["server_host_key_algs"] = [kind.decode() for kind in ordered]
        return options

    def _look_up(self, host: str, addr: str, port: int | None) -> tuple[object, ...]:
        self._known = known = self._files.look_up(host, addr, port or 22)
        # A revoked plain key is simply not trusted: so it comes before our eyes below.
        revoked = known.revoked if known.usable_authorities else ()
        return list(known.trusted), list(known.usable_authorities), list(revoked), [], [], [], []

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        self.opened = True

    def validate_host_public_key(
        self, host: str, addr: str, port: int, key: asyncssh.SSHKey
    ) -> bool:
        """Called for every key that is not trusted already."""
        known, name = self._known, self._way.name
        files = " or ".join(self._way.known_hosts) or "any file"
        if key in known.revoked:
            self._refuse("revoked", key, (), f"{name} shows a host key that {files} has revoked")
        elif known.keys:
            self._refuse("changed", key, known.keys, _changed(name, self._way))
        elif self._policy == "accept-new":
            return self._accept(key)
        else:
            self._refuse("unknown", key, (), _unknown(name, files))
        return False

    def _accept(self, key: asyncssh.SSHKey) -> bool:
        way = self._way
        try:
            if way.known_hosts and self._files.add(way.key_host, way.port, key):
                return True
            self._refuse("changed", key, (), _changed(way.name, way))
        except OSError as error:
            self._refuse("unknown", key, (), f"{way.name}: its new key could not be kept: {error}")
        return False

    def _refuse(
        self, reason: str, key: asyncssh.SSHKey, known: Iterable[asyncssh.SSHKey], message: str
    ) -> None:
        seen, listed = fingerprint(key), ", ".join(sorted(map(fingerprint, known)))
        facts = f"seen {seen}" + (f", known {listed}" if listed else "")
        self.refusal = HostKeyRefused(
            f"{message} ({facts})", reason=reason, seen=seen, known=listed
        )

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.abandoned:
            self._lost(exc)


def _changed(name: str, way: Route) -> str:
    listed = way.key_host if way.port == 22 else f"[{way.key_host}]:{way.port}"
    return (
        f"the host key of {name} has changed: somebody may be listening in. If you know why it "
        f"did, forget the old one: ssh-keygen -R '{listed}' -f {way.known_hosts[0]}"
    )


def _unknown(name: str, files: str) -> str:
    return (
        f"the host key of {name} is not in {files}: compare it with the server's own, and connect "
        "once with ssh, or ask for the host-key policy accept-new"
    )


_TURNS = 10  # of our loop at least, until nobody answers

# asyncssh would take chacha20 first, which costs half as much again.
_CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
]


async def log_in(
    config: SSHConfig,
    way: Route,
    *,
    tunnel: asyncssh.SSHClientConnection | None,
    lost: Callable[[Exception | None], None],
    dial_timeout: float,
) -> asyncssh.SSHClientConnection:
    """Log in; *lost* is called once when the connection has ended. Raises ConnectError."""
    client = LoginClient(config, way, lost)
    try:
        how = await _transport(way, tunnel, dial_timeout)
        try:
            return await asyncssh.connect(
                client_factory=lambda: client,
                **asyncssh_options(config),
                **_identity(config),
                **await client.host_key_options(),
                **_channel_options(config, way),
                **how,
            )
        except BaseException:
            if "sock" in how and not client.opened:  # else it is the transport's
                how["sock"].close()
            raise
    except (asyncssh.Error, OSError, ValueError) as error:
        client.abandoned = True
        raise client.refusal or translate(error, way.name) from error


async def _transport(
    way: Route, tunnel: asyncssh.SSHClientConnection | None, dial_timeout: float
) -> dict[str, Any]:
    if tunnel is not None:
        return {"tunnel": tunnel}
    if way.options.proxy_command:
        return {"tunnel": None}
    return {"tunnel": None, "sock": await dial(way, dial_timeout)}


async def dial(way: Route, timeout: float) -> socket.socket:  # noqa: ASYNC109 - see below
    """A TCP connection: dialled here, so that its time-out is not the login's.

    The time goes by in turns of our loop: one that was too busy to look does not find a server
    silent whose answer is there.
    """
    made: list[socket.socket] = []
    try:
        async with task_group() as tasks:

            async def connect() -> None:
                made.append(await _connect(way))
                tasks.cancel_scope.cancel()

            tasks.start_soon(connect)
            for _ in range(_TURNS):
                await anyio.sleep(timeout / _TURNS)
            tasks.cancel_scope.cancel()
    except BaseException:
        for sock in made:
            sock.close()
        raise
    if not made:
        raise TimeoutError
    return made[0]


async def _connect(way: Route) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        way.host, way.port, family=way.options.family, type=socket.SOCK_STREAM
    )
    failure: OSError | None = None
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            if way.options.local_addr:
                sock.bind(way.options.local_addr)
            await loop.sock_connect(sock, address)
            return sock
        except OSError as error:
            sock.close()
            failure = failure or error
        except BaseException:
            sock.close()
            raise
    raise failure or OSError(f"{way.host} has no address")


def _identity(config: SSHConfig) -> dict[str, Any]:
    agent: dict[str, Any] = {} if config.agent_path == () else {"agent_path": config.agent_path}
    if config.key_path is None:
        return agent
    key = Path(config.key_path)
    if not os.access(key, os.R_OK):
        raise LoginRefused(f"{config.name}: the key {key} cannot be read")
    public = key.with_name(f"{key.name}.pub")
    if public.exists():  # where it has a passphrase the agent signs, and offers no other key
        agent["agent_identities"] = [str(public)]
    else:
        agent["agent_path"] = None
    return {"client_keys": [str(key)], "ignore_encrypted": True, **agent}


def _channel_options(config: SSHConfig, way: Route) -> dict[str, Any]:
    ciphers = {} if way.options.config.get("Ciphers") else {"encryption_algs": _CIPHERS}
    return {
        **ciphers,
        "compression_algs": None,
        "agent_forwarding": False,
        "keepalive_interval": config.keepalive,
        "keepalive_count_max": config.keepalive_count,
        "connect_timeout": config.login_timeout + config.connect_timeout,
        "login_timeout": config.login_timeout,
    }
