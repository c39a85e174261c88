"""A command that was launched: read from, written to, and terminated by its handle."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optio_agents.errors import FileRefused

from .bootstrap import script
from .inputs import Input
from .outputs import GRACE, Output, Running

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .machine import Machine

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


@dataclass(eq=False, slots=True)
class ProcessHandle:
    """A launched command. `Host.terminate_subprocess` ends it, and so does letting go of its host.

    Iterating `stdout` and `stderr` gives lines with their newline. Neither holds up the other:
    what of one comes while the other is waited for is put aside, beyond 1 MiB on our disk.
    """

    pid_like: object  # its process on the machine
    stdout: Output
    stderr: Output | None = None  # None: merged into stdout
    stdin: Input | None = None
    _running: Running | None = None

    @property
    def ended(self) -> bool:
        """Nothing of it runs any more, as far as we know."""
        return self._running is None or self._running.left

    async def wait(self) -> int:
        """Its exit code, 128 + n if signal n ended it. Raises HostLost."""
        assert self._running
        return await self._running.wait()


async def launch(
    machine: Machine,
    command: str,
    *,
    cwd: str,
    env: Mapping[str, str] | None,
    env_remove: Sequence[str],
    merge_stderr: bool,
    stdin: bool,
) -> ProcessHandle:
    """See `Host.launch_subprocess`."""
    token = secrets.token_hex(16)
    how = ["keep" if stdin else "none", "merged" if merge_stderr else "apart"]
    text = _unset(env_remove) + script("run")
    block = machine.shell(text, [token, cwd, *how, command], env=env)
    process = await block.__aenter__()
    running = Running(block, process, merged=merge_stderr)
    try:
        entered = await running.stdout.read(len(token))
    except BaseException:
        await running.leave()
        raise
    if entered != token.encode():
        await running.leave()
        raise no_directory(cwd)
    return ProcessHandle(
        process,
        running.stdout,
        None if merge_stderr else running.stderr,
        Input(process) if stdin else None,
        running,
    )


async def terminate(handle: ProcessHandle, *, aggressive: bool) -> None:
    """See `Host.terminate_subprocess`."""
    if handle.stdin:
        await handle.stdin.abandon()
    if handle._running:  # noqa: SLF001 - the other half of the handle
        await handle._running.leave(grace=0.0 if aggressive else GRACE)  # noqa: SLF001


def no_directory(cwd: str) -> FileRefused:
    return FileRefused(cwd, "missing", "is not a directory that can be entered")


def _unset(names: Sequence[str]) -> str:
    for name in names:
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
    return f"unset -v {' '.join(names)}\n" if names else ""
