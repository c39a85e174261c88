"""Where a machine is and how to get in: what the user says; the rest stands in ~/.ssh/config."""

from __future__ import annotations

import os
import re
from dataclasses import KW_ONLY, dataclass
from typing import Literal, TypeAlias, get_args

HostKeyPolicy: TypeAlias = Literal["strict", "accept-new", "insecure"]
Path: TypeAlias = "str | os.PathLike[str]"

_POLICIES = get_args(HostKeyPolicy)
# an address without brackets is no host and port
_LOGIN = re.compile(
    r"(?:(?P<user>[^\s/@]+)@)?(?P<host>\[[^\]]+\]|[^\s/@:]+)(?::(?P<port>\d{1,9}))?"
)


@dataclass(frozen=True, slots=True)
class SSHConfig:
    """An SSH login. What is None comes from the user's ssh configuration.

    `SSHConfig("me@box:2222")` says the same as `SSHConfig("box", user="me", port=2222)`.
    `config` is () for ~/.ssh/config, None for no file, or one path or several. `agent_path` is ()
    for the user's ssh-agent, None for none. Agent forwarding is off whatever a file says.
    """

    host: str
    user: str | None = None
    port: int | None = None
    key_path: Path | None = None
    _: KW_ONLY
    known_hosts: Path | None = None
    host_key_policy: HostKeyPolicy = "strict"
    config: tuple[Path, ...] | Path | None = ()
    agent_path: str | tuple[()] | None = ()
    jump: SSHConfig | None = None  # a host to go through, in place of the file's ProxyJump
    keepalive: float = 5.0  # seconds without a word before the server is asked for one
    keepalive_count: int = 3  # questions without an answer before the link is dead
    connect_timeout: float = 10.0  # seconds, for the TCP connection
    login_timeout: float = 20.0  # seconds, from there to the end of the login
    shell_timeout: float = 60.0  # seconds that the login shell's profile may take

    def __post_init__(self) -> None:
        if not isinstance(self.host, str):
            raise TypeError(f"host is a name, as in SSHConfig('me@box'), and not {self.host!r}")
        if found := _LOGIN.fullmatch(self.host):
            object.__setattr__(self, "host", found["host"].strip("[]"))
            object.__setattr__(self, "user", self.user or found["user"])
            named = int(found["port"]) if found["port"] else None
            object.__setattr__(self, "port", named if self.port is None else self.port)
        if not self.host or self.host.startswith("-") or any(map(str.isspace, self.host)):
            raise ValueError(f"{self.host!r} cannot be the name of a host")
        if self.port is not None and not 0 < self.port < 65_536:
            raise ValueError(f"{self.port} cannot be a port")
        if self.host_key_policy not in _POLICIES:
            raise ValueError(f"host_key_policy is one of {', '.join(_POLICIES)}")
        for name in "key_path", "known_hosts":
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, os.fspath(path))
        if self.config is not None:
            files = (self.config,) if isinstance(self.config, (str, os.PathLike)) else self.config
            object.__setattr__(self, "config", tuple(map(os.fspath, files)))

    @property
    def name(self) -> str:
        """As its user would say it: "me@box:2222"."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.host}{f':{self.port}' if self.port else ''}"
