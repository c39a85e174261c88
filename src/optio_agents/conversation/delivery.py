"""Hand events and answers to their subscribers, and know how far that has come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .contract import Event
from .subscribers import Subscribers

if TYPE_CHECKING:
    from optio_agents.following.cursor import Cursor


class Delivery:
    """The subscribers of a conversation."""

    def __init__(self) -> None:
        self.events = Subscribers[Event]("on_event", _skipped)
        self.messages = Subscribers[str]("on_message")
        self._read: Cursor | None = None
        self._had: Cursor | None = None

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last line that every handler has had; while they are busy, before it."""
        return self._read if self._idle else self._had

    @property
    def _idle(self) -> bool:
        return self.events.idle and self.messages.idle

    async def hand_over(
        self, events: Sequence[Event], size: int, texts: Sequence[str], cursor: Cursor | None
    ) -> None:
        """Give *events*, of *size* bytes, and the answers among them; *cursor* is behind them."""
        if self._idle:
            self._had = self._read
        if events:
            await self.events.deliver(events, size)
        if texts:
            await self.messages.deliver(texts, sum(map(len, texts)))
        self._read = cursor

    async def drain(self) -> None:
        """Wait until every handler has had everything."""
        await self.events.drain()
        await self.messages.drain()

    async def end(self, grace: float) -> None:
        """Drop what waits, cancel what runs, leave behind what ignores that for *grace* s."""
        await self.events.end(grace)
        await self.messages.end(grace)


def _skipped(count: int) -> Event:
    return {"type": "x-optio-skipped", "count": count}
