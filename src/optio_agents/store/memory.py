"""A journal for as long as this process lives."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from .records import ENDINGS, LAST_LINES, Entry, Resumed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optio_agents.framing.cursor import Cursor

    from .records import Delivery, SessionResult


class MemoryJournal:
    """A journal for as long as this process lives; a session may be resumed from it."""

    def __init__(self, session: str | None = None) -> None:
        self.session = session or secrets.token_hex(6)
        self.result: SessionResult | None = None
        self._known = Resumed()
        self._pending: dict[tuple[str, int, int], Entry] = {}
        self._deliveries: dict[tuple[str, int, int], Delivery] = {}
        self._replies: dict[tuple[str, int, int], tuple[Entry, str]] = {}
        self._digests = bytearray()

    async def start(self) -> Resumed:
        return replace(
            self._known,
            digests=bytes(self._digests),
            pending=tuple(self._pending.values()),
            deliveries=tuple(self._deliveries[key] for key in sorted(self._deliveries)),
            replies=tuple(self._replies[key] for key in sorted(self._replies)),
        )

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        known = self._known
        if known.cursor is not None and known.cursor.generation != cursor.generation:
            self._digests.clear()
        self._digests += digests
        self._pending.update((entry.key, entry) for entry in entries)
        self._known = Resumed(
            cursor=cursor,
            ending=known.ending or next((e for e in entries if e.kind in ENDINGS), None),
            statuses=known.statuses + sum(entry.kind == "status" for entry in entries),
            last_lines=(*known.last_lines, *(e.line for e in entries[-LAST_LINES:]))[-LAST_LINES:],
        )

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._pending.pop(entry.key, None)
            self._replies.pop(entry.key, None)

    async def deliver(self, delivery: Delivery) -> None:
        self._deliveries[delivery.entry.key] = delivery

    async def decide(self, entry: Entry, reply: str) -> None:
        self._replies[entry.key] = entry, reply

    async def end(self, result: SessionResult) -> None:
        self.result = result
