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
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

from optio_agents.concurrency import name_library

from .proxy_lines import Connection, Direction, Side, Step


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
        self.exchanges = 0
        self.directions: dict[Side, Direction] = {"client": Direction(), "server": Direction()}
        self._open: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._tasks: anyio.abc.TaskGroup
        self._reserved: socket.socket

    async def __aenter__(self) -> Self:
        name_library()
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
        step = Step(count, then or self.cut)
        self.directions[source].steps.append(step)
        return step.hit

    # Figures

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def bytes_from_client(self) -> int:
        return self.directions["client"].bytes

    @property
    def bytes_from_server(self) -> int:
        return self.directions["server"].bytes

    def round_trips(self) -> int:
        """How often a server has answered its client: client bytes, then server bytes."""
        return self.exchanges

    def _chosen(self, source: Side | None) -> list[Direction]:
        return list(self.directions.values()) if source is None else [self.directions[source]]

    def _welcome(self, listener: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            client, _ = listener.accept()
            self.connections += 1
            self._tasks.start_soon(self._serve, Connection(self, client))

    async def _serve(self, connection: Connection) -> None:
        self._open.add(connection)
        try:
            await connection.run()
        finally:
            self._open.remove(connection)


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock
