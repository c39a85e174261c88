"""Machines that agents run on: files, commands and agents there."""

from typing import TYPE_CHECKING

from optio_agents._face import face

# A public name stands here twice: for type checkers, and for whoever uses it first.
if TYPE_CHECKING:
    from .commands import RunResult as RunResult
    from .host import (
        Host as Host,
        LocalHost as LocalHost,
        RemoteHost as RemoteHost,
        make_host as make_host,
    )
    from .launched import ProcessHandle as ProcessHandle
    from .machine import Machine as Machine, ProcessId as ProcessId
    from .ssh_config import SSHConfig as SSHConfig
else:
    __all__, __dir__, __getattr__ = face(
        __name__,
        {
            "commands": "RunResult",
            "host": "Host LocalHost RemoteHost make_host",
            "launched": "ProcessHandle",
            "machine": "Machine ProcessId",
            "ssh_config": "SSHConfig",
        },
    )
