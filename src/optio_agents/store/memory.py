"""A journal for as long as this process lives."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import asdict, replace
from secrets import token_hex
from typing import TYPE_CHECKING

from .records import (
    ACCEPTED,
    ENDINGS,
    LAST_LINES,
    REPEATED,
    Entry,
    Recordable,
    Resumed,
    StoredEvent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from optio_agents.display import Secrets
    from optio_agents.framing.cursor import Cursor

    from .records import Delivery, SessionResult, SessionState

_LATEST = 10_000  # events that can be read again


class MemoryJournal:
    """A journal for as long as this process lives; a session may be resumed from it."""

    path = None

    def __init__(self, session: str | None = None, secrets: Secrets | None = None) -> None:
        self.session = session or token_hex(6)
        self.result: SessionResult | None = None
        self._cursor: Cursor | None = None
        self._statuses, self._last_lines = 0, deque[str](maxlen=LAST_LINES)
        self._pending: dict[tuple[str, int, int], Entry] = {}
        self._deliveries: dict[tuple[str, int, int], Delivery] = {}
        self._replies: dict[tuple[str, int, int], tuple[Entry, str]] = {}
        self._endings: dict[Entry, str | None] = {}  # what was decided of each
        self._digests = bytearray()
        self._secrets = secrets or None
        self._events: deque[StoredEvent] = deque(maxlen=_LATEST)
        self._open: dict[str, StoredEvent] = {}
        self._names: set[tuple[str, str]] = set()
        self._notes: dict[str, Any] = {}
        self._number = 0

    async def start(self) -> Resumed:
        decided = list(self._endings.values())
        counted = (entry for entry, reply in self._endings.items() if reply in (None, ACCEPTED))
        return Resumed(
            cursor=self._cursor,
            ending=next(counted, None),
            accepted=ACCEPTED in decided,
            refusals=sum(reply not in (None, ACCEPTED, REPEATED) for reply in decided),
            digests=bytes(self._digests),
            pending=tuple(self._pending.values()),
            deliveries=tuple(self._deliveries[key] for key in sorted(self._deliveries)),
            replies=tuple(self._replies[key] for key in sorted(self._replies)),
            statuses=self._statuses,
            last_lines=tuple(self._last_lines),
        )

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        if self._cursor is not None and self._cursor.generation != cursor.generation:
            self._digests.clear()
        self._digests += digests
        self._cursor = cursor
        now = time.time()
        for entry in entries:
            self._keep(now, entry.kind, None, entry)
            if not entry.done:
                self._pending[entry.key] = entry
            self._statuses += entry.kind == "status"
            self._last_lines.append(entry.line)
            if entry.kind in ENDINGS:
                self._endings[entry] = None

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self._pending.pop(entry.key, None)
            self._replies.pop(entry.key, None)

    async def deliver(self, delivery: Delivery) -> None:
        self._deliveries[delivery.entry.key] = delivery
        value = asdict(delivery)
        del value["entry"]
        self._keep(time.time(), "delivery", value, delivery.entry)

    async def decide(self, entry: Entry, reply: str) -> None:
        self._replies[entry.key] = entry, reply
        if entry in self._endings:
            self._endings[entry] = reply
            if reply != REPEATED:
                check = {"accepted": reply == ACCEPTED, "text": reply}
                self._keep(time.time(), "check", check, entry)

    async def end(self, result: SessionResult) -> None:
        self.result = result

    def append(self, event: Recordable, state: SessionState | None = None) -> asyncio.Future[None]:
        match event.kind:
            case "request":
                self._open[event.key] = self._keep(event.at, "request", event.value)
            case "decision" if self._open.pop(event.key, None) is None:
                pass
            case "sent" | "turn" if (event.kind, event.key) in self._names:
                pass
            case _:
                self._names.add((event.kind, event.key))
                self._keep(event.at, event.kind, event.value)
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept.set_result(None)
        return kept

    async def finish(self, result: SessionResult, state: SessionState) -> None:
        await self.end(result)
        self._keep(result.ended_at, "finished", asdict(replace(result, cursor=None)))

    async def events(self, after: int, most: int = 1000) -> list[StoredEvent]:
        behind = [event for event in self._events if event.number > after]
        return behind[:most]

    async def open_requests(self) -> list[StoredEvent]:
        return list(self._open.values())

    async def note(self, kind: str, key: str, value: Any) -> None:
        self._notes[kind] = value

    async def noted(self, kind: str) -> Any:
        return self._notes.get(kind)

    def _keep(self, at: float, kind: str, value: Any, entry: Entry | None = None) -> StoredEvent:
        self._number += 1
        if self._secrets is not None:  # lines that are to be handed over again stay as they are
            value = self._secrets.hide_in(value)
            entry = entry and replace(entry, line=self._secrets.hide(entry.line))
        event = StoredEvent(self._number, at, kind, value, entry)
        self._events.append(event)
        return event
