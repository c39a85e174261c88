"""Commands on a host: run to their end, or launched, spoken to and terminated."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING
from weakref import finalize

import anyio

from optio_agents.concurrency import task_group
from optio_agents.errors import CommandTimedOut, FileRefused, HostError

from .scripting import script, variable
from .streams import HeadAndTail

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from .machine import Machine, Process


_log = logging.getLogger(__name__)
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
            raise _no_directory(cwd)
        del out.head[: len(token)]
        return RunResult(out.text(), err.text(), exit_code)
    raise CommandTimedOut(f"{command!r} ran longer than {timeout} s and was ended")


async def _drain(read: Callable[[], Awaitable[bytes]], into: HeadAndTail) -> None:
    while data := await read():
        into.add(data)


# Bytes that wait for their reader: a little in memory, the rest in a nameless file of ours.


_IN_MEMORY = 1 << 20  # bytes


class Spool:
    """First in, first out, of any length, in bounded memory."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - closed when we go
        finalize(self, self._file.close)
        self._from = self._to = 0  # of what it holds

    def __bool__(self) -> bool:
        return self._from < self._to

    def put(self, data: bytes) -> None:
        self._file.seek(self._to)
        self._to += self._file.write(data)

    def take(self, limit: int) -> bytes:
        """Up to *limit* bytes, none when there are none."""
        self._file.seek(self._from)
        data = self._file.read(min(limit, self._to - self._from))
        self._from += len(data)
        if self._from == self._to:
            self._from = self._to = 0
            self._file.seek(0)
            self._file.truncate()
        return data


# What a launched command reads.


class InputWriter:
    """What a command reads, in the shape of an asyncio writer: `write` and `close` do not wait.

    Its sender has no parent block: it belongs to the handle, which ends it.
    """

    def __init__(self, process: Process) -> None:
        self._process = process
        self._pending = bytearray()
        self._closing = False
        self._sender: asyncio.Task[None] | None = None

    def write(self, data: bytes) -> None:
        """Send soon; `drain` to wait for it."""
        if self._closing:
            raise BrokenPipeError("its input is closed")
        self._pending += data
        self._send_soon()

    async def drain(self) -> None:
        """Wait until all is taken. Raises BrokenPipeError, HostLost."""
        if self._sender:
            await asyncio.shield(self._sender)

    def close(self) -> None:
        """End the input behind what was written."""
        self._closing = True
        self._send_soon()

    def is_closing(self) -> bool:
        return self._closing

    async def wait_closed(self) -> None:
        with suppress(BrokenPipeError):
            await self.drain()

    async def abandon(self) -> None:
        """Send no more."""
        self._closing = True
        if self._sender and not self._sender.done():
            self._sender.cancel()
            await asyncio.wait([self._sender])

    def _send_soon(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
            self._sender.add_done_callback(_note_error)

    async def _send(self) -> None:
        while self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            await self._process.write(data)
        if self._closing:
            await self._process.close_input()


def _note_error(sender: asyncio.Task[None]) -> None:
    """Keep asyncio from reporting what `drain`, if anybody calls it, raises."""
    if not sender.cancelled() and (error := sender.exception()):
        _log.debug("an input was not taken: %s", error)


# Both outputs of a running command: neither holds up the other, or the command.


GRACE = 5.0  # seconds between TERM and KILL
_PIECE = 262_144  # bytes
_LINE_LIMIT = 64 << 20  # bytes: a longer line comes in pieces


class Early(Exception):
    """Leaves a block so that all that still runs in it is ended."""


class Running:
    """The block that the command runs in, and both its outputs."""

    def __init__(
        self, block: AbstractAsyncContextManager[Process], process: Process, *, merged: bool
    ) -> None:
        self._block, self._process = block, process
        self.stdout = Output(self, process.read)
        self.stderr = Output(self, process.read_error)
        self._open = [self.stdout] if merged else [self.stdout, self.stderr]
        self._turn = anyio.Lock()
        self.left = False
        self._exit_code: int | None = None

    async def more(self, wanted: Output) -> None:
        """Have something of *wanted* put aside, or its end seen; of the other what comes first."""
        async with self._turn:
            if wanted.waiting and not self.left:
                await self._some()
        if not self._open and not self.left:
            await self.wait()

    async def _some(self) -> None:
        async with task_group() as tasks:
            for output in self._open:
                tasks.start_soon(self._one, output, tasks.cancel_scope)

    async def _one(self, output: Output, others: anyio.CancelScope) -> None:
        output.spool(await output.source())
        if output.ended:
            self._open.remove(output)
        others.cancel()

    async def wait(self) -> int:
        if self._exit_code is None:
            async with task_group() as tasks:
                tasks.start_soon(self._spool_all)
                self._exit_code = await self._process.wait()
                tasks.cancel_scope.cancel()
        if not self._open:
            await self.leave()
        return self._exit_code

    async def _spool_all(self) -> None:
        while self._open:
            async with self._turn:
                await self._some()

    async def leave(self, *, grace: float = GRACE) -> None:
        """End what is left of it."""
        if self.left:
            return
        self.left = True
        self._process.grace = grace
        early = Early() if self._open else None  # somebody still holds its outputs
        with anyio.CancelScope(shield=True), suppress(HostError, Early):  # bounded by the machine
            await self._block.__aexit__(Early if early else None, early, None)
        for output in self._open:
            output.spool(b"")
        self._open.clear()


@dataclass(eq=False)
class Output:
    """What a command says, in lines or in pieces."""

    _running: Running
    source: Callable[[], Awaitable[bytes]]
    ended: bool = False
    _spool: Spool = field(default_factory=Spool)
    _line: bytearray = field(default_factory=bytearray)
    _seen: int = 0  # bytes of _line that hold no newline

    @property
    def waiting(self) -> bool:
        return not self._spool and not self.ended

    def spool(self, data: bytes) -> None:
        self._spool.put(data)
        self.ended = not data

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while (at := self._line.find(b"\n", self._seen)) < 0 and len(self._line) < _LINE_LIMIT:
            self._seen = len(self._line)
            if not (data := await self._take()):
                break
            self._line += data
        if not (line := self._cut(at + 1 or len(self._line))):
            raise StopAsyncIteration
        return line

    async def read(self, limit: int = -1) -> bytes:
        """Up to *limit* bytes, fewer only at the end; without a limit all until the end."""
        while limit < 0 or len(self._line) < limit:
            if not (data := await self._take()):
                break
            self._line += data
        return self._cut(len(self._line) if limit < 0 else limit)

    def _cut(self, size: int) -> bytes:
        self._seen = 0
        cut = bytes(self._line[:size])
        del self._line[:size]
        return cut

    async def _take(self) -> bytes:
        while self.waiting:
            await self._running.more(self)
        return self._spool.take(_PIECE)


@dataclass(eq=False, slots=True)
class ProcessHandle:
    """A launched command. `Host.terminate_subprocess` ends it, and so does letting go of its host.

    Iterating `stdout` and `stderr` gives lines with their newline. Neither holds up the other:
    what of one comes while the other is waited for is put aside, beyond 1 MiB on our disk.
    """

    pid_like: object  # its process on the machine
    stdout: Output
    stderr: Output | None = None  # None: merged into stdout
    stdin: InputWriter | None = None
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
    unset = f"unset -v {' '.join(map(variable, env_remove))}\n" if env_remove else ""
    block = machine.shell(unset + script("hosts/run"), [token, cwd, *how, command], env=env)
    process = await block.__aenter__()
    running = Running(block, process, merged=merge_stderr)
    try:
        entered = await running.stdout.read(len(token))
    except BaseException:
        await running.leave()
        raise
    if entered != token.encode():
        await running.leave()
        raise _no_directory(cwd)
    return ProcessHandle(
        process,
        running.stdout,
        None if merge_stderr else running.stderr,
        InputWriter(process) if stdin else None,
        running,
    )


async def terminate(handle: ProcessHandle, *, aggressive: bool) -> None:
    """See `Host.terminate_subprocess`."""
    if handle.stdin:
        await handle.stdin.abandon()
    if handle._running:  # noqa: SLF001 - the other half of the handle
        await handle._running.leave(grace=0.0 if aggressive else GRACE)  # noqa: SLF001


def _no_directory(cwd: str) -> FileRefused:
    return FileRefused(cwd, "missing", "is not a directory that can be entered")
