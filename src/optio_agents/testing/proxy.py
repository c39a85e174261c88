"""A TCP proxy that misbehaves on demand: what networks do to connections, at a chosen byte.

    async with FaultProxy("127.0.0.1", server_port) as proxy:
        ...connect to 127.0.0.1 at proxy.port...
        proxy.stall()                             # half-open: bytes stop, nobody is told
        proxy.flow()
        cut = proxy.on_bytes(100, source="server")  # RST right behind the 100th byte from now
        await cut.wait()

Everything lives in the running event loop: no thread, no process, no task outside the block.
"""

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
from types import TracebackType
from typing import Literal, Self, TypeAlias

import anyio
import anyio.abc
import anyio.lowlevel

Side: TypeAlias = Literal["client", "server"]

_CHUNK = 256 * 1024  # bytes a read
_ON_THE_LINE = 32 * 1024 * 1024  # bytes in flight per direction before the sender has to wait
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FaultProxy:
    """Forward TCP connections to a target, until told otherwise; use it with ``async with``.

    ``delay`` is seconds of one-way latency in each direction (a delay line: order and bandwidth
    are kept; only the TCP handshake itself is instant), ``rate`` bytes per second in each
    direction for all connections together. ``black_hole`` makes new connections succeed and
    never get an answer. All three may be changed at any time. The verbs take effect within one
    turn of the event loop and act on all connections.
    """

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        delay: float = 0.0,
        rate: float | None = None,
        black_hole: bool = False,
    ) -> None:
        self.target = target_host, target_port
        self.delay = delay
        self.rate = rate
        self.black_hole = black_hole
        self.host = "127.0.0.1"
        self.port = 0
        self.connections = 0
        """Connections accepted so far."""
        self._exchanges = 0
        self._directions: dict[Side, _Direction] = {"client": _Direction(), "server": _Direction()}
        self._open: set[_Connection] = set()
        self._listener: socket.socket | None = None
        self._tasks: anyio.abc.TaskGroup
        self._reserved: socket.socket

    async def __aenter__(self) -> Self:
        # Bound but never listening, it keeps the port ours while connections are refused.
        self._reserved = _bound(self.host, 0)
        self.port = self._reserved.getsockname()[1]
        self._tasks = await anyio.create_task_group().__aenter__()
        self.accept()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        self.refuse()
        self._tasks.cancel_scope.cancel()
        try:
            if isinstance(error, Exception):  # the block's own passes as it is, not in a group
                await self._tasks.__aexit__(None, None, None)
                return None
            return await self._tasks.__aexit__(kind, error, traceback)
        finally:
            self._reserved.close()

    # Faults

    def cut(self) -> int:
        """Reset both sides of every connection (RST); how many there were."""
        for connection in self._open:
            connection.reset()
        return len(self._open)

    def close(self) -> int:
        """End every connection politely (FIN both ways); what is on the line is lost."""
        for connection in self._open:
            connection.finish()
        return len(self._open)

    def stall(self, source: Side | None = None) -> None:
        """Stop forwarding what *source* (or either side) sends, its end included.

        Connections stay open and new ones are made; nobody learns of anything, until `flow`.
        """
        for direction in self._chosen(source):
            direction.flowing.clear()

    def flow(self, source: Side | None = None) -> None:
        """Forward again, beginning with what was held back."""
        for direction in self._chosen(source):
            direction.flowing.set()

    def refuse(self) -> None:
        """Refuse new connections; those that exist go on."""
        if self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def accept(self) -> None:
        """Accept connections (again), always on the same port."""
        if self._listener is None:
            self._listener = _bound(self.host, self.port)
            self._listener.listen(1024)
            asyncio.get_running_loop().add_reader(self._listener, self._welcome, self._listener)

    def on_bytes(
        self, count: int, *, source: Side = "server", then: Callable[[], object] | None = None
    ) -> anyio.Event:
        """Call *then* (`cut`) right behind the *count*-th byte that *source* sends from now on.

        The byte before has been received by the other side's kernel, the one behind has not left.
        The event returned is set when it has happened.
        """
        if count < 1:
            raise ValueError("a step needs at least one byte to stand behind")
        step = _Step(count, then or self.cut)
        self._directions[source].steps.append(step)
        return step.hit

    # Figures

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def bytes_from_client(self) -> int:
        return self._directions["client"].bytes

    @property
    def bytes_from_server(self) -> int:
        return self._directions["server"].bytes

    def round_trips(self) -> int:
        """How often a server has answered its client: client bytes, then server bytes."""
        return self._exchanges

    # For the connections

    def heard(self, source: Side, data: bytes, *, answer: bool) -> Iterator[_Piece]:
        """Count *data*, and cut it where a step stands."""
        self._exchanges += answer
        return self._directions[source].cut_at_steps(data, asyncio.get_running_loop().time())

    def direction(self, source: Side) -> _Direction:
        return self._directions[source]

    def _chosen(self, source: Side | None) -> list[_Direction]:
        return list(self._directions.values()) if source is None else [self._directions[source]]

    def _welcome(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            self.connections += 1
            self._tasks.start_soon(self._serve, _Connection(self, client))

    async def _serve(self, connection: _Connection) -> None:
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.remove(connection)


class _Connection:
    def __init__(self, proxy: FaultProxy, client: socket.socket) -> None:
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
        proxy: FaultProxy,
        connection: _Connection,
        source: Side,
        *,
        inlet: socket.socket,
        outlet: socket.socket,
    ) -> None:
        self._proxy, self._connection, self._source = proxy, connection, source
        self._inlet, self._outlet = inlet, outlet
        self._direction = proxy.direction(source)
        self._line = deque[_Piece]()
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
                    return self.put(_Piece(loop.time()))
                answer = self._connection.answers(self._source)
                for piece in self._proxy.heard(self._source, data, answer=answer):
                    self.put(piece)
                await asyncio.sleep(0)  # sock_recv does not yield while there is something to read
                await self._until(lambda: self._held <= _ON_THE_LINE)
        except OSError:
            self.put(_Piece(loop.time(), broken=True))

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
                return self.back.put(_Piece(piece.heard_at, broken=True))
            await self._take(piece.steps)

    def put(self, piece: _Piece) -> None:
        if not self._ended:
            self._line.append(piece)
            self._held += len(piece.data)
            self._moved.set()

    def finish(self) -> None:
        if not self._ended:
            self._clear()
            self.put(_Piece(0.0))
            self._ended = True

    def _clear(self) -> None:
        self._line.clear()
        self._held = 0
        self._moved.set()

    async def _until(self, condition: Callable[[], object]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def _next(self) -> _Piece:
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

    async def _take(self, steps: tuple[_Step, ...]) -> None:
        if steps:
            # A reset throws away what the other kernel has not acknowledged.
            while _unacknowledged(self._outlet):  # noqa: ASYNC110  # the kernel sends no event
                await asyncio.sleep(0.001)
        for step in steps:
            step.then()
            step.hit.set()
        await anyio.lowlevel.checkpoint()  # where a cut ends us: sock_sendall need not yield


@dataclass(slots=True)
class _Step:
    left: int
    then: Callable[[], object]
    hit: anyio.Event = field(default_factory=anyio.Event)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes on the line; none at all are the end of the stream."""

    heard_at: float
    data: bytes = b""
    steps: tuple[_Step, ...] = ()
    broken: bool = False


class _Direction:
    """What all connections share of one direction."""

    def __init__(self) -> None:
        self.bytes = 0
        self.steps = list[_Step]()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._free_at = 0.0

    def cut_at_steps(self, data: bytes, now: float) -> Iterator[_Piece]:
        self.bytes += len(data)
        while data:
            size = min((step.left for step in self.steps), default=len(data))
            head, data = data[:size], data[size:]
            for step in self.steps:
                step.left -= len(head)
            yield _Piece(now, head, tuple(step for step in self.steps if not step.left))
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


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


def _unacknowledged(sock: socket.socket) -> int:
    answer = fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, "little")
