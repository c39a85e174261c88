"""What a launched command reads."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .machine import Process

_log = logging.getLogger(__name__)


class Input:
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
            self._sender.add_done_callback(_heard)

    async def _send(self) -> None:
        while self._pending:
            data = bytes(self._pending)
            self._pending.clear()
            await self._process.write(data)
        if self._closing:
            await self._process.close_input()


def _heard(sender: asyncio.Task[None]) -> None:
    """Keep asyncio from reporting what `drain`, if anybody calls it, raises."""
    if not sender.cancelled() and (error := sender.exception()):
        _log.debug("an input was not taken: %s", error)
