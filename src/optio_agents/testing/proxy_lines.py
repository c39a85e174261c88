"""What a `FaultProxy` forwards: each connection is two delay lines with a gate at either end."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

import anyio
import anyio.lowlevel

Side: TypeAlias = Literal["client", "server"]

_CHUNK = 256 * 1024  # bytes a read
_ON_THE_LINE = 32 * 1024 * 1024  # bytes in flight per direction before the sender has to wait
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Faults(Protocol):
    """What is wrong with the lines at present; all of it may change at any time."""

    target: tuple[str, int]
    delay: float  # seconds, one way
    rate: float | None  # bytes per second in each direction, of all connections together
    black_hole: bool
    directions: dict[Side, Direction]  # what all connections share of the way from each side
    exchanges: int  # so often a server has answered its client


class Connection:
    def __init__(self, proxy: Faults, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = socket.socket()
        self._scope = anyio.CancelScope()
        self._reset = False
        self._last: Side = "server"
        to_server = _Lane(proxy, self, "client", inlet=client, outlet=self._server)
        to_client = _Lane(proxy, self, "server", inlet=self._server, outlet=client)
        to_server.back, to_client.back = to_client, to_server
        self._lanes = to_server, to_client

    async def run(self) -> None:
        for sock in self._client, self._server:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with self._scope:
                await (self._swallow() if self._proxy.black_hole else self._forward())
        finally:
            for sock in self._client, self._server:
                if self._reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                sock.close()

    def reset(self) -> None:
        self._reset = True
        self._scope.cancel()

    def finish(self) -> None:
        for lane in self._lanes:
            lane.finish()

    def answers(self, source: Side) -> bool:
        """Whether *source*, which speaks now, is the server and its client spoke before."""
        before, self._last = self._last, source
        return (before, source) == ("client", "server")

    async def _swallow(self) -> None:
        with suppress(OSError):
            while await asyncio.get_running_loop().sock_recv(self._client, _CHUNK):
                pass

    async def _forward(self) -> None:
        try:
            await asyncio.get_running_loop().sock_connect(self._server, self._proxy.target)
        except OSError:
            self.reset()
            return
        async with anyio.create_task_group() as tasks:
            for lane in self._lanes:
                tasks.start_soon(lane.read)
                tasks.start_soon(lane.write)


class _Lane:
    """One direction of a connection: a delay line with a gate at either end."""

    back: _Lane

    def __init__(
        self,
        proxy: Faults,
        connection: Connection,
        source: Side,
        *,
        inlet: socket.socket,
        outlet: socket.socket,
    ) -> None:
        self._proxy, self._connection, self._source = proxy, connection, source
        self._inlet, self._outlet = inlet, outlet
        self._direction = proxy.directions[source]
        self._line = deque[Piece]()
        self._held = 0  # bytes on the line
        self._moved = asyncio.Event()  # something was put on the line, or taken from it
        self._ended = False

    async def read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while True:
                await self._direction.flowing.wait()
                data = await loop.sock_recv(self._inlet, _CHUNK)
                if not data:
                    return self.put(Piece(loop.time()))
                self._proxy.exchanges += self._connection.answers(self._source)
                for piece in self._direction.cut_at_steps(data, loop.time()):
                    self.put(piece)
                await asyncio.sleep(0)  # sock_recv does not yield while there is something to read
                await self._until(lambda: self._held <= _ON_THE_LINE)
        except OSError:
            self.put(Piece(loop.time(), broken=True))

    async def write(self) -> None:
        while True:
            piece = await self._next()
            try:
                if piece.broken:
                    return self._connection.reset()
                if not piece.data:
                    return self._outlet.shutdown(socket.SHUT_WR)
                await self._send(piece.data)
            except OSError:
                self._ended = True
                self._clear()
                return self.back.put(Piece(piece.heard_at, broken=True))
            await self._take(piece.steps)

    def put(self, piece: Piece) -> None:
        if not self._ended:
            self._line.append(piece)
            self._held += len(piece.data)
            self._moved.set()

    def finish(self) -> None:
        if not self._ended:
            self._clear()
            self.put(Piece(0.0))
            self._ended = True

    def _clear(self) -> None:
        self._line.clear()
        self._held = 0
        self._moved.set()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def _next(self) -> Piece:
        await self._until(lambda: self._line)
        await _sleep_until(self._line[0].heard_at + self._proxy.delay)
        await self._direction.flowing.wait()
        piece = self._line.popleft()
        self._held -= len(piece.data)
        self._moved.set()
        return piece

    async def _send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        while data:
            rate = self._proxy.rate
            size = len(data) if rate is None else max(1, int(rate / 100))
            slice_, data = data[:size], data[size:]
            if rate is not None:
                await self._direction.turn(len(slice_) / rate)
                await self._direction.flowing.wait()
            await loop.sock_sendall(self._outlet, slice_)

    async def _take(self, steps: tuple[Step, ...]) -> None:
        if steps:
            # A reset throws away what the other kernel has not acknowledged.
            while _unacknowledged(self._outlet):  # noqa: ASYNC110  # the kernel sends no event
                await asyncio.sleep(0.001)
        for step in steps:
            step.then()
            step.hit.set()
        await anyio.lowlevel.checkpoint()  # where a cut ends us: sock_sendall need not yield


@dataclass(slots=True)
class Step:
    left: int
    then: Callable[[], object]
    hit: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes on the line; none at all are the end of the stream."""

    heard_at: float
    data: bytes = b""
    steps: tuple[Step, ...] = ()
    broken: bool = False


class Direction:
    """What all connections share of one direction."""

    def __init__(self) -> None:
        self.bytes = 0
        self.steps = list[Step]()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._free_at = 0.0

    def cut_at_steps(self, data: bytes, now: float) -> Iterator[Piece]:
        self.bytes += len(data)
        while data:
            size = min((step.left for step in self.steps), default=len(data))
            head, data = data[:size], data[size:]
            for step in self.steps:
                step.left -= len(head)
            yield Piece(now, head, tuple(step for step in self.steps if not step.left))
            self.steps = [step for step in self.steps if step.left]

    async def turn(self, seconds: float) -> None:
        """Wait for this direction to be free, and take it for *seconds*."""
        now = asyncio.get_running_loop().time()
        starts_at = max(now, self._free_at)
        self._free_at = starts_at + seconds
        await _sleep_until(starts_at)


async def _sleep_until(time: float) -> None:
    left = time - asyncio.get_running_loop().time()
    if left > 0:
        await asyncio.sleep(left)


def _unacknowledged(sock: socket.socket) -> int:
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, "little")
