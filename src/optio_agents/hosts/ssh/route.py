"""What the user's ssh configuration makes of an `SSHConfig`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import anyio
import asyncssh

from optio_agents.errors import ConnectError

from .config import SSHConfig
from .errors import translate

_KNOWN_HOSTS = {
    "UserKnownHostsFile": "~/.ssh/known_hosts",
    "GlobalKnownHostsFile": "/etc/ssh/ssh_known_hosts",
}
_READING = 30.0  # seconds: a "Match exec" runs a command of the user's


@dataclass(frozen=True, slots=True)
class Route:
    """What the user's configuration makes of an `SSHConfig`."""

    name: str
    host: str
    port: int
    key_host: str  # the name that the host key is filed under
    known_hosts: tuple[str, ...]
    jump: str  # "user@host:port,…" or nothing
    options: asyncssh.SSHClientConnectionOptions


async def route(config: SSHConfig) -> Route:
    """Read the user's configuration for this host. Raises ConnectError."""
    try:
        with anyio.fail_after(_READING):
            found = await asyncssh.SSHClientConnectionOptions.construct(
                client_keys=None, agent_path=None, **asyncssh_options(config)
            )
    except TimeoutError:
        raise ConnectError(
            f"{config.name}: your ssh configuration was not read within {_READING:g} s"
        ) from None
    except (asyncssh.Error, OSError, ValueError) as error:
        raise translate(error, config.name) from error
    port = "" if found.port == 22 else f":{found.port}"
    return Route(
        name=f"{found.username}@{config.host}{port}",
        host=found.host,
        port=found.port,
        key_host=found.host_key_alias or found.host,
        known_hosts=_known_hosts(config, found),
        jump=found.tunnel if isinstance(found.tunnel, str) else "",
        options=found,
    )


def jump_config(config: SSHConfig, way: Route) -> SSHConfig | None:
    """The last host to go through, and in its own `jump` those before it."""
    if config.jump is not None:
        return config.jump
    jump: SSHConfig | None = None
    for hop in filter(None, way.jump.split(",")):
        user, _, place = hop.rpartition("@")
        host, port = _host_and_port(place)
        if host != config.host:  # "Host *" with a ProxyJump does not mean the jump host itself
            jump = replace(
                config, host=host, user=user or None, port=port, key_path=None, jump=jump
            )
    return jump


def asyncssh_options(config: SSHConfig) -> dict[str, Any]:
    """What asyncssh is asked for, before it reads the configuration."""
    named = {"port": config.port, "username": config.user}
    return {
        "host": config.host,
        # Always a tuple or None since SSHConfig looked at it; () is the user's own file.
        "config": list(config.config)
        if isinstance(config.config, tuple) and config.config
        else config.config,
        **{name: value for name, value in named.items() if value is not None},
    }


def _known_hosts(config: SSHConfig, found: asyncssh.SSHClientConnectionOptions) -> tuple[str, ...]:
    if config.known_hosts is not None:
        return (str(config.known_hosts),)
    listed: list[str] = []
    for option, default in _KNOWN_HOSTS.items():
        listed += cast("list[str]", found.config.get(option, [default]))
    return tuple(str(Path(path).expanduser()) for path in listed)


def _host_and_port(place: str) -> tuple[str, int | None]:
    host, colon, port = place.rpartition(":")
    if colon and port.isdigit():
        return host.strip("[]"), int(port)
    return place.strip("[]"), None
