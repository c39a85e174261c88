"""Commands on a host: run to their end, or launched, spoken to and terminated."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import CommandTimedOut

from .launched import ProcessHandle, no_directory
from .scripting import collect, script

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


@dataclass(slots=True)
class Kept:
    """The first and the last half of a stream, however long it is."""

    limit: int = OUTPUT_LIMIT
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    dropped: int = 0

    def add(self, data: bytes) -> None:
        room = self.limit // 2 - len(self.head)
        self.head += data[: max(room, 0)]
        self.tail += data[max(room, 0) :]
        if len(self.tail) > self.limit:  # twice its half: so that cutting stays cheap
            self._cut()

    def _cut(self) -> None:
        surplus = max(len(self.tail) - self.limit // 2, 0)
        self.dropped += surplus
        del self.tail[:surplus]

    def text(self) -> str:
        self._cut()
        note = f"\n[{self.dropped} bytes cut here]\n".encode() if self.dropped else b""
        return bytes(self.head + note + self.tail).decode(errors="replace")


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
    out, err = Kept(), Kept()
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


async def _drain(read: Callable[[], Awaitable[bytes]], into: Kept) -> None:
    while data := await read():
        into.add(data)


async def run_script(
    machine: Machine, text: str, args: Sequence[str] = (), *, data: bytes = b""
) -> Answer:
    """Run a script of ours that may take its time; `ask` is for the quick ones."""
    async with machine.shell(text, args) as process:
        return await collect(process, data)
