"""A port of ours that leads somewhere else, and stays the same while the way there changes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

import anyio

from optio_agents.errors import HostError

from .streams import CHUNK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


_log = logging.getLogger(__name__)
_ENDING = 5.0  # seconds


class Reader(Protocol):
    async def read(self, n: int) -> bytes: ...


class Writer(Protocol):
    def write(self, data: bytes) -> None: ...
    async def drain(self) -> None: ...
    def write_eof(self) -> None: ...
    def close(self) -> None: ...


Dial: TypeAlias = "Callable[[], Awaitable[tuple[Reader, Writer]]]"


@asynccontextmanager
async def forwarding(dial: Dial, local_port: int) -> AsyncIterator[int]:
    """Listen on our loopback; each connection is led to what *dial* opens for it.

    A connection whose far end cannot be reached is closed; the port stays open.
    """
    open_ones: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        open_ones.add(task)
        try:
            await _lead(dial, reader, writer)
        except asyncio.CancelledError:
            pass  # only by us, below; asyncio would log it
        finally:
            writer.close()
            open_ones.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", local_port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in open_ones:
            task.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(open_ones, timeout=_ENDING) if open_ones else None


async def _lead(dial: Dial, reader: Reader, writer: Writer) -> None:
    try:
        far_reader, far_writer = await dial()
    except (HostError, OSError) as error:
        _log.warning("a tunnel's far end: %s", error)
        return
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_pump, reader, far_writer)
            tasks.start_soon(_pump, far_reader, writer)
    finally:
        far_writer.close()


async def _pump(reader: Reader, writer: Writer) -> None:
    """Pass bytes on until an end; how either side breaks is no business of the other's user."""
    with suppress(Exception):  # of its own library
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with suppress(OSError):
        writer.write_eof()
