"""A journal that whoever watches can see being written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeAlias

from .journal import ENDINGS
from .observe import Delivered, Eyes, Recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from optio_agents.following.cursor import Cursor

    from .journal import Delivery, Entry, Journal, Resumed
    from .result import SessionResult

Leaving: TypeAlias = Literal["detached", "taken over", "cut off"]


class ObservedJournal:
    """Shows what *journal* has kept, when it is kept.

    The driver cannot tell that a session goes on without it; `leaving` says so here.
    """

    def __init__(self, journal: Journal, eyes: Eyes) -> None:
        self.session = journal.session
        self.leaving: Leaving | None = None
        self.on_ending: Callable[[], None] = lambda: None  # DONE or ERROR is recorded
        self.result: SessionResult | None = None
        self._journal, self._eyes = journal, eyes

    async def start(self) -> Resumed:
        known = await self._journal.start()
        if known.ending is not None:
            self.on_ending()
        return known

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        await self._journal.record(entries, cursor, digests)
        if entries:
            self._eyes(Recorded(tuple(entries)))
        if any(entry.kind in ENDINGS for entry in entries):
            self.on_ending()

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        await self._journal.mark_done(entries)

    async def deliver(self, delivery: Delivery) -> None:
        await self._journal.deliver(delivery)
        self._eyes(Delivered(delivery))

    async def decide(self, entry: Entry, reply: str) -> None:
        await self._journal.decide(entry, reply)

    async def end(self, result: SessionResult) -> None:
        if self.leaving == "detached" and result.outcome == "cancelled":
            result = replace(result, outcome="detached", summary="the agent goes on without us")
        self.result = result
        if self.leaving != "taken over":  # then how it ends is another's to write
            await self._journal.end(result)

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep it, where there is a place for it."""
        if (note := getattr(self._journal, "note", None)) is not None:
            await note(kind, key, value)
