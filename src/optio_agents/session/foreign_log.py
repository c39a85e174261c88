"""Following a log by somebody else's `tail_file`, which may end, hang or repeat itself."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import anyio

from optio_agents.errors import FileRefused, HostError
from optio_agents.following.batches import COMPARED_LINES, LINE_LIMIT, RIPE_AFTER, Batch
from optio_agents.following.cursor import Cursor

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from .foreign import ForeignHost

_log = logging.getLogger(__name__)

_WITH_TAIL = 15.0  # seconds without a line until the file itself is looked at
_WITHOUT = 1.0  # the same once the tail has ended
_RETRY = 5.0  # seconds between attempts to reach the host again
_WAITING = 1000  # lines from the tail


@dataclass(slots=True)
class Ledger:
    """Which lines of which generation were delivered."""

    generation: int = 0
    lines: int = 0
    offset: int = 0
    seen: list[bytes] = field(default_factory=list)  # digests of the first of them
    owed: bytes = b""  # digests of this generation that no batch has brought yet

    def batch(self, lines: list[bytes], *, unterminated: bool = False) -> Batch:
        """Deliver *lines*."""
        ends = list[int]()
        for line in lines:
            self._count(line)
            ends.append(self.offset)
        digests, self.owed = self.owed, b""
        return Batch(
            [line[:LINE_LIMIT] for line in lines],
            ends,
            Cursor(generation=self.generation, lines=self.lines, offset=self.offset),
            digests,
            cut={n: len(line) for n, line in enumerate(lines) if len(line) > LINE_LIMIT},
            unterminated=unterminated,
        )

    def new_in(self, lines: list[bytes]) -> list[bytes]:
        """What was not delivered of a file that holds *lines*; maybe a new generation begins."""
        now = [_digest(line) for line in lines[:COMPARED_LINES]]
        if len(lines) >= self.lines and now[: len(self.seen)] == self.seen:
            return lines[self.lines :]
        known = max(_common_front(self.seen, now), _overlap(self.seen, now))
        self.generation, self.lines, self.offset, self.seen = self.generation + 1, 0, 0, []
        self.owed = b""
        for line in lines[:known]:
            self._count(line)
        return lines[known:]

    def _count(self, line: bytes) -> None:
        self.lines += 1
        self.offset += len(line) + 1
        if len(self.seen) < COMPARED_LINES:
            self.seen.append(_digest(line))
            self.owed += self.seen[-1]


class ForeignLog:
    """Batches of lines. The tail is quick, the file is right: where they differ, the file counts.

    Every line that stands complete in the file when it is looked at is delivered; one that was
    overwritten before is gone. A rewritten file is a new generation, whose lines at the front
    that were delivered before are left out.
    """

    def __init__(
        self,
        host: ForeignHost,
        path: str,
        cursor: Cursor | None,
        tasks: TaskGroup,
        *,
        delivered: bytes = b"",
        ripe: Callable[[bytes], bool] | None = None,
        **_: Any,
    ) -> None:
        self._host, self._path, self._ripe = host, path, ripe
        at = cursor or Cursor()
        seen = [delivered[n : n + 8] for n in range(0, len(delivered), 8)]
        self._ledger = Ledger(at.generation, at.lines, at.offset, seen)
        self._first_generation = at.generation
        self._finishing = anyio.Event()
        self._over = False
        self._from_tail = 0  # lines that the tail gave, delivered or not
        self._tailing = True
        self._tail, self._lines = anyio.create_memory_object_stream[str](_WAITING)
        self.rest = b""
        self.rest_since: float | None = None
        self.caught_up = False
        tasks.start_soon(self._run_tail)

    def finish(self) -> None:
        self._finishing.set()

    def close(self) -> None:
        self._tail.close()
        self._lines.close()

    def __aiter__(self) -> ForeignLog:
        return self

    async def __anext__(self) -> Batch:
        while not self._over:
            lines = [] if self._finishing.is_set() else await self._some_lines()
            if lines:
                return self._ledger.batch([line.encode() for line in lines])
            if (batch := await self._look(final=self._finishing.is_set())) is not None:
                return batch
        raise StopAsyncIteration

    async def _run_tail(self) -> None:
        """Pass on what the tail says; its end means nothing."""
        async with self._tail:
            try:
                async for line in self._host.tail_file(self._path):
                    await self._tail.send(line)
            except Exception as error:
                _log.warning("the host's tail_file ended: %s", error)

    async def _some_lines(self) -> list[str]:
        """New lines of the tail; none when it is time to look at the file."""
        quick = not self._tailing or self.rest or self._ledger.generation != self._first_generation
        lines = list[str]()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_finish, tasks.cancel_scope)
            with anyio.move_on_after(_WITHOUT if quick else _WITH_TAIL):
                try:
                    lines.append(await self._receive())
                except anyio.EndOfStream:
                    self._tailing = False
            tasks.cancel_scope.cancel()
        try:
            while True:
                lines.append(self._lines.receive_nowait())
        except (anyio.WouldBlock, anyio.EndOfStream):
            return self._undelivered(lines)

    async def _until_finish(self, scope: anyio.CancelScope) -> None:
        await self._finishing.wait()
        scope.cancel()

    async def _receive(self) -> str:
        if not self._tailing:
            await anyio.sleep_forever()
        return await self._lines.receive()

    def _undelivered(self, lines: list[str]) -> list[str]:
        """Those that a look at the file did not deliver before the tail came to them."""
        if self._ledger.generation != self._first_generation:
            return []  # the tail counts lines of another file: from here on we look ourselves
        known = max(self._ledger.lines - self._from_tail, 0)
        self._from_tail += len(lines)
        return lines[known:]

    async def _look(self, *, final: bool) -> Batch | None:
        try:
            data = await self._host.whole(self._path)
        except FileRefused as error:
            if error.reason != "missing":
                raise
            data = b""
        except HostError as error:
            await self._wait_for_host(error)
            return None
        self._host.machine.link.become("up")
        self._over = final
        return self._compare(data, final=final)

    async def _wait_for_host(self, error: HostError) -> None:
        self._host.machine.link.become("down", str(error))
        await anyio.sleep(_RETRY)
        try:
            await self._host.reconnect()
        except HostError:
            _log.debug("the host is still away", exc_info=True)

    def _compare(self, data: bytes, *, final: bool) -> Batch | None:
        *lines, rest = data.split(b"\n")
        if rest != self.rest:
            self.rest, self.rest_since = rest, anyio.current_time() if rest else None
        unterminated = bool(rest) and (final or self._is_ripe())
        new = self._ledger.new_in([*lines, rest] if unterminated else lines)
        self.caught_up = True
        return self._ledger.batch(new, unterminated=unterminated) if new else None

    def _is_ripe(self) -> bool:
        since = self.rest_since
        stood = since is not None and anyio.current_time() - since >= RIPE_AFTER
        return stood and self._ripe is not None and self._ripe(self.rest)


def _common_front(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    pairs = zip(before, now, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _overlap(before: Sequence[bytes], now: Sequence[bytes]) -> int:
    """The lines that end one and begin the other: a tail has told us of the new file already."""
    longest = min(len(before), len(now), 1000)
    return next((n for n in range(longest, 0, -1) if now[:n] == before[-n:]), 0)


def _digest(line: bytes) -> bytes:
    # As the tail gives it: it decodes with replacement.
    text = line.decode("utf-8", "replace")
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
