"""Commands on a host: run to their end, or launched, spoken to and terminated."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import CommandTimedOut

from .launched import ProcessHandle, no_directory
from .scripting import collect, script
from .streams import HeadAndTail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from .machine import Answer, Machine


__all__ = ["OUTPUT_LIMIT", "ProcessHandle", "RunResult", "run_command", "run_script"]


OUTPUT_LIMIT = 8 << 20  # bytes kept of each of stdout and stderr


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a command ended and what it said, decoded with replacement.

    Of each stream the first and the last 4 MiB are kept, with a note of what was cut between.
    """

    stdout: str
    stderr: str
    exit_code: int


async def run_command(
    machine: Machine,
    command: str,
    *,
    cwd: str,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,  # noqa: ASYNC109 - the published name
) -> RunResult:
    """Run *command* under /bin/sh in *cwd*; however this ends, nothing of it is left running.

    Raises FileRefused when there is no *cwd*, CommandTimedOut, HostLost.
    """
    token = secrets.token_hex(16)
    out, err = HeadAndTail(OUTPUT_LIMIT), HeadAndTail(OUTPUT_LIMIT)
    with anyio.move_on_after(timeout):
        async with machine.shell(
            script("hosts/run"), [token, cwd, "none", "apart", command], env=env
        ) as process:
            async with task_group() as tasks:
                tasks.start_soon(_drain, process.read, out)
                tasks.start_soon(_drain, process.read_error, err)
            exit_code = await process.wait()
        if not out.head.startswith(token.encode()):
            raise no_directory(cwd)
        del out.head[: len(token)]
        return RunResult(out.text(), err.text(), exit_code)
    raise CommandTimedOut(f"{command!r} ran longer than {timeout} s and was ended")


async def _drain(read: Callable[[], Awaitable[bytes]], into: HeadAndTail) -> None:
    while data := await read():
        into.add(data)


async def run_script(
    machine: Machine, text: str, args: Sequence[str] = (), *, data: bytes = b""
) -> Answer:
    """Run a script of ours that may take its time; `ask` is for the quick ones."""
    async with machine.shell(text, args) as process:
        return await collect(process, data)
