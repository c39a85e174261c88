"""Both outputs of a running command: neither holds up the other, or the command."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostError

from .aside import Aside
from .tasks import task_group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from .machine import Process

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
        output.put_aside(await output.source())
        if output.ended:
            self._open.remove(output)
        others.cancel()

    async def wait(self) -> int:
        if self._exit_code is None:
            async with task_group() as tasks:
                tasks.start_soon(self._put_all_aside)
                self._exit_code = await self._process.wait()
                tasks.cancel_scope.cancel()
        if not self._open:
            await self.leave()
        return self._exit_code

    async def _put_all_aside(self) -> None:
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
            output.put_aside(b"")
        self._open.clear()


@dataclass(eq=False)
class Output:
    """What a command says, in lines or in pieces."""

    _running: Running
    source: Callable[[], Awaitable[bytes]]
    ended: bool = False
    _aside: Aside = field(default_factory=Aside)
    _line: bytearray = field(default_factory=bytearray)
    _seen: int = 0  # bytes of _line that hold no newline

    @property
    def waiting(self) -> bool:
        return not self._aside and not self.ended

    def put_aside(self, data: bytes) -> None:
        self._aside.put(data)
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
        return self._aside.take(_PIECE)
