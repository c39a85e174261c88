"""Make one SSH connection: dial, check the host key, log in."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import asyncssh

from optio_agents.errors import LoginRefused

from .ssh_door import Door
from .ssh_errors import translated
from .ssh_route import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ssh_config import SSHConfig
    from .ssh_route import Route

# asyncssh would take chacha20 first, which costs half as much again.
_CIPHERS = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
]


async def connected(
    config: SSHConfig,
    way: Route,
    *,
    tunnel: asyncssh.SSHClientConnection | None,
    lost: Callable[[Exception | None], None],
    dial_timeout: float,
) -> asyncssh.SSHClientConnection:
    """Log in; *lost* is called once when the connection has ended. Raises ConnectError."""
    door = Door(config, way, lost)
    try:
        how = await _transport(way, tunnel, dial_timeout)
        try:
            return await asyncssh.connect(
                client_factory=lambda: door,
                **asked(config),
                **_identity(config),
                **await door.host_key_options(),
                **_channel_options(config, way),
                **how,
            )
        except BaseException:
            if "sock" in how and not door.opened:  # else it is the transport's
                how["sock"].close()
            raise
    except (asyncssh.Error, OSError, ValueError) as error:
        door.abandoned = True
        raise door.refusal or translated(error, way.name) from error


async def _transport(
    way: Route, tunnel: asyncssh.SSHClientConnection | None, dial_timeout: float
) -> dict[str, Any]:
    if tunnel is not None:
        return {"tunnel": tunnel}
    if way.options.proxy_command:
        return {"tunnel": None}
    with anyio.fail_after(dial_timeout):
        return {"tunnel": None, "sock": await _dialled(way)}


async def _dialled(way: Route) -> socket.socket:
    """A TCP connection: dialled here, so that its time-out is not the login's."""
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
