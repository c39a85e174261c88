"""Machines that agents run on: files, commands and what grows there.

A `Host` is a machine with a task directory on it, and one class for every kind of machine: the
difference is behind the thin seam of `machine`, seven methods. Whatever crosses to a machine is a
shell script with arguments and a standard input (`scripting`), so that quoting has one place.

Read `machine` (the seam), `scripting`, `local` and `ssh/` (the two machines), `host` (what is
offered), then what it is made of: `commands` and `streams` (processes), `environment`,
`tunnel`, `files/` (put, fetch, archive) and `following/` (files that grow).
"""

from .commands import ProcessHandle, RunResult
from .host import Host, LocalHost, RemoteHost, make_host
from .machine import Machine, ProcessId
from .ssh.config import SSHConfig

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
