"""Read a short script's whole answer."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from optio_agents.errors import HostError, HostLost

from .machine import Answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .machine import Process

LONGEST = 1 << 20  # bytes that an answer may have, and its stderr as well


async def collected(process: Process, data: bytes = b"") -> Answer:
    """Give *process* all of *data*, and take what it says until it ends. Raises HostLost."""
    stderr = bytearray()

    async def drain() -> None:
        with suppress(HostLost):  # the reader of stdout meets it, too
            await _read_all(process.read_error, stderr)

    stdout = bytearray()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(drain)
            with suppress(BrokenPipeError):  # it did not want to read all: its exit code tells
                await process.write(data)
            await process.close_input()
            await _read_all(process.read, stdout)
    except* HostError as group:
        raise group.exceptions[0] from None
    return Answer(await process.wait(), bytes(stdout), bytes(stderr))


async def _read_all(read: Callable[[], Awaitable[bytes]], into: bytearray) -> None:
    while data := await read():
        into += data
        if len(into) > LONGEST:
            raise HostError(f"an answer is longer than {LONGEST} bytes")
