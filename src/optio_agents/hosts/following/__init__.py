"""Batches of lines out of chunks, wherever the chunks come from."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from optio_agents.framing.batches import RIPE_AFTER
from optio_agents.framing.framer import Framer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optio_agents.framing.batches import Batch, FollowOptions
    from optio_agents.framing.compare import FileChunk
    from optio_agents.framing.cursor import Cursor


_LINES = 1024  # of one batch: whoever works through it holds up everybody else


class Following:
    """The `Batches` of one file. Where it comes from is said by `_next_chunk`.

    Whatever an agent writes, all else on the loop has its turn between any two reads of some
    bytes, and between any two batches of some lines.
    """

    def __init__(self, cursor: Cursor | None, options: FollowOptions) -> None:
        self._framer, self._options = Framer(cursor, options), options
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[FileChunk] = deque()  # of the last chunk, still to be framed
        self._ready: deque[Batch] = deque()
        self.rest_since: float | None = None
        self._ripe_at: float | None = None  # when to ask whether the rest is a line already
        self._at_end = self._idle = self._final = False
        self._rung = False
        self._waiting: asyncio.Future[None] | None = None

    @property
    def rest(self) -> bytes:
        return self._framer.rest

    @property
    def caught_up(self) -> bool:
        return self._at_end and not self._ready

    def finish(self) -> None:
        raise NotImplementedError

    def _next_chunk(self) -> FileChunk | None:
        """What came, or None if nothing did; whatever comes later rings."""
        raise NotImplementedError

    def ring(self) -> None:
        """There may be something to look at."""
        self._rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def __aiter__(self) -> Following:
        return self

    async def __anext__(self) -> Batch:
        await asyncio.sleep(0)  # one huge file must not starve five hundred small ones
        while not self._ready:
            if self._final:
                raise StopAsyncIteration
            if not self._pieces:
                if self._idle:
                    await self._wait()
                self._rung = False
                chunk = self._next_chunk()
                self._idle = chunk is None or chunk.at_end or not (chunk.data or chunk.fresh)
                if chunk is not None:
                    many = chunk.data.count(b"\n") > _LINES
                    self._pieces.extend(_pieces(chunk) if many else (chunk,))
            if self._pieces:
                self._take(self._pieces.popleft())
            if self._at_end and self._ripe_at is not None:
                self._ripen(self._ripe_at)
            if not self._ready:  # nor must one endless line
                await asyncio.sleep(0)
        return self._ready.popleft()

    def _take(self, chunk: FileChunk) -> None:
        self._ready += self._framer.feed(chunk)
        self._at_end = chunk.at_end or chunk.missing
        if chunk.data or chunk.hole or chunk.fresh:
            rest, now = self._framer.rest_size > 0, self._loop.time()
            self.rest_since = now if rest else None
            self._ripe_at = now + RIPE_AFTER if rest and self._options.ripe else None
        if chunk.final:
            self._final = True
            self._close()

    def _ripen(self, at: float) -> None:
        """Deliver a rest that reads as a line and has stood for long, as far as anybody knows."""
        if self._loop.time() >= at:
            self._ripe_at = None
            if self._options.ripe is not None and self._options.ripe(self._framer.rest):
                self._close()

    def _close(self) -> None:
        self._ready += self._framer.close()
        self.rest_since = self._ripe_at = None

    async def _wait(self) -> None:
        timer = None
        if self._at_end and self._ripe_at is not None:
            timer = self._loop.call_at(self._ripe_at, self.ring)
        try:
            while not self._rung:
                self._waiting = self._loop.create_future()
                await self._waiting
        finally:
            if timer is not None:
                timer.cancel()


def _pieces(chunk: FileChunk) -> Iterator[FileChunk]:
    """*chunk* in parts of so many lines; what it says of the file's end stands in the last."""
    while chunk.data.count(b"\n") > _LINES:
        size = len(chunk.data) - len(chunk.data.split(b"\n", _LINES)[-1])
        yield chunk._replace(data=chunk.data[:size], at_end=False, final=False, hole=0)
        offset, data = chunk.offset + size, chunk.data[size:]
        chunk = chunk._replace(offset=offset, data=data, window=b"", fresh=False)
    yield chunk
