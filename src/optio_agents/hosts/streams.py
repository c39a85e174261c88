"""What a stream of a process has brought: until somebody reads it, or its two ends for good."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostLost

if TYPE_CHECKING:
    from collections.abc import Callable


CHUNK = 262_144  # bytes: of one read
UNREAD = 1 << 20  # bytes: a stream may lag this far behind before its process has to wait


class Incoming:
    """Fed by callbacks, read by tasks; asks its source to pause when too much lies unread.

    This is the backpressure: a process whose output nobody reads has to wait.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self.ended = False
        self._lost = ""
        self._fed: anyio.Event | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._pause, self._resume, self._paused = pause, resume, False

    def divert(self, sink: Callable[[bytes], None]) -> None:
        """Give *sink* what is and will be fed, as it comes; `read` then waits for the end."""
        self._sink = sink
        if self._size:
            sink(b"".join(self._take(self._size)))
        if self._paused:
            self._paused = False
            self._resume()

    def feed(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
            return
        self._chunks.append(data)
        self._size += len(data)
        self._wake()
        if self._size >= UNREAD and not self._paused:
            self._paused = True
            self._pause()

    def end(self, lost: str = "") -> None:
        """Nothing more comes: the true end, or the link is *lost* for the reason given."""
        if not self.ended:
            self.ended, self._lost = True, lost
            self._wake()

    async def read(self, limit: int = CHUNK) -> bytes:
        """Some bytes, none at the end. Raises HostLost instead of telling a false end."""
        pieces = await self.pieces(limit)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def pieces(self, limit: int = CHUNK) -> list[bytes]:
        """The same bytes as they came."""
        while not self._size:
            if self._lost:
                raise HostLost(self._lost)
            if self.ended:
                return []
            self._fed = self._fed or anyio.Event()
            await self._fed.wait()
        data = self._take(limit)
        if self._paused and self._size < UNREAD // 2:
            self._paused = False
            self._resume()
        return data

    def _take(self, limit: int) -> list[bytes]:
        taken, size = list[bytes](), 0
        while self._chunks and size < limit:
            chunk = self._chunks.popleft()
            if size + len(chunk) > limit:
                cut = limit - size
                self._chunks.appendleft(chunk[cut:])
                chunk = chunk[:cut]
            taken.append(chunk)
            size += len(chunk)
        self._size -= size
        return taken

    def _wake(self) -> None:
        if self._fed is not None:
            self._fed.set()
            self._fed = None


@dataclass(slots=True)
class HeadAndTail:
    """The first and the last half of a stream, however long it is."""

    limit: int  # bytes kept
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
