"""Machines that agents run on: files, commands and agents there."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .commands import ProcessHandle, RunResult
    from .host import Host, LocalHost, RemoteHost, make_host
    from .machine import Machine, ProcessId
    from .ssh_config import SSHConfig

_HOMES = {
    "Host": "host",
    "LocalHost": "host",
    "Machine": "machine",
    "ProcessHandle": "commands",
    "ProcessId": "machine",
    "RemoteHost": "host",
    "RunResult": "commands",
    "SSHConfig": "ssh_config",
    "make_host": "host",
}

__all__ = [
    "Host",
    "LocalHost",
    "Machine",
    "ProcessHandle",
    "ProcessId",
    "RemoteHost",
    "RunResult",
    "SSHConfig",
    "make_host",
]


def __getattr__(name: str) -> Any:
    if home := _HOMES.get(name):
        return getattr(import_module(f".{home}", __package__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
