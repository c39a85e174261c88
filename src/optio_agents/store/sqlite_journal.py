"""One session in the journal: the durable `Journal`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from optio_agents.framing.cursor import Cursor
from optio_agents.protocol.strict_json import finite

from . import rows
from .records import (
    ACCEPTED,
    REPEATED,
    Delivery,
    Entry,
    Recordable,
    Resumed,
    SessionState,
    StoredEvent,
    percent_of,
)

if TYPE_CHECKING:
    import sqlite3
    from asyncio import Future
    from collections.abc import Callable, Sequence

    from optio_agents.display import Secrets

    from .records import SessionResult
    from .sqlite import StoreFile


_BY_KEY = "session=? AND file=? AND generation=? AND offset=?"
_NEXT = "(SELECT coalesce(max(number), 0) + 1 FROM events WHERE session=?1)"
_ABOUT_LINE = (
    "INSERT INTO events (session, number, at, kind, value, about)"
    f" SELECT session, {_NEXT}, ?2, '{{kind}}', ?3, number FROM events"
    " WHERE session=?1 AND file=?4 AND generation=?5 AND offset=?6"
)
# What is kept once: a message of one name, a turn, a decision about what is open.
_NEW = "NOT EXISTS (SELECT 1 FROM events WHERE session=?1 AND kind=?3 AND key=?4 AND file IS NULL)"
_ONCE = {
    "sent": _NEW,
    "turn": _NEW,
    "decision": "(SELECT kind FROM events WHERE session=?1 AND key=?4 AND file IS NULL"
    " AND kind IN ('request', 'decision') ORDER BY number DESC LIMIT 1) IS NOT 'decision'",
}
_FRESH = 60.0  # seconds: a file changed longer ago tells when its last line was written


class SessionJournal:
    """The durable `SessionRecords` of one session. Values of *secrets* never reach the disk."""

    def __init__(self, file: StoreFile, session: str, secrets: Secrets) -> None:
        self.session, self.path = session, file.path
        self._file, self._secrets = file, secrets

    async def start(self) -> Resumed:
        return await self._file.read(rows.resumed, self.session)

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        at, hidden = happened(cursor), self._secrets.hide_each([e.line for e in entries])
        added = [
            (self.session, *e.key, e.kind, line, e.repeated, at, e.done)
            for e, line in zip(entries, hidden, strict=True)
        ]
        percent = percent_of(entries)

        def work(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT OR IGNORE INTO events"
                " (session, number, file, generation, offset, kind, line, repeated, at, done)"
                f" VALUES (?1,{_NEXT},?2,?3,?4,?5,?6,?7,?8,?9)",
                added,
            )
            if percent is not None:
                database.execute(
                    "UPDATE sessions SET percent=? WHERE id=?", (percent, self.session)
                )
            _advance(database, self.session, cursor, digests)

        await self._file.write(work)

    async def mark_done(self, entries: Sequence[Entry]) -> None:
        keys = [(self.session, *entry.key) for entry in entries]
        await self._file.write(
            lambda database: database.executemany(f"UPDATE events SET done=1 WHERE {_BY_KEY}", keys)
        )

    async def deliver(self, delivery: Delivery) -> None:
        reply = None if delivery.reply is None else self._secrets.hide(delivery.reply)
        path = self._secrets.hide(delivery.path)
        row = (path, delivery.size, delivery.sha256, reply, delivery.taken, delivery.saved)
        step = dict(zip(("path", "size", "sha256", "reply", "taken", "saved"), row, strict=True))
        event = (self.session, time.time(), json.dumps(step), *delivery.entry.key)

        def work(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT OR REPLACE INTO deliveries"
                " (session, event, path, size, sha256, reply, taken, saved)"
                f" SELECT session, number, ?,?,?,?,?,? FROM events WHERE {_BY_KEY}",
                (*row, self.session, *delivery.entry.key),
            )
            database.execute(_ABOUT_LINE.format(kind="delivery"), event)

        await self._file.write(work)

    async def decide(self, entry: Entry, reply: str) -> None:
        kept = self._secrets.hide(reply)
        check = json.dumps({"accepted": reply == ACCEPTED, "text": kept})
        event = (self.session, time.time(), check, *entry.key)

        def work(database: sqlite3.Connection) -> None:
            new = database.execute(
                "INSERT OR IGNORE INTO replies (session, event, reply)"
                f" SELECT session, number, ? FROM events WHERE {_BY_KEY}",
                (kept, self.session, *entry.key),
            ).rowcount
            if new and entry.kind == "done" and reply != REPEATED:
                database.execute(_ABOUT_LINE.format(kind="check"), event)

        await self._file.write(work)

    async def end(self, result: SessionResult) -> None:
        await self._file.write(lambda database: self._end(database, result))

    async def finish(self, result: SessionResult, state: SessionState) -> None:
        """How it ended, as its last event."""
        event = Recordable("finished", asdict(replace(result, cursor=None)), result.ended_at)
        append = self._appending(event, state)

        def work(database: sqlite3.Connection) -> None:
            self._end(database, result)
            append(database)

        await self._file.write(work)

    def _end(self, database: sqlite3.Connection, result: SessionResult) -> None:
        # Deliverables and lines stand in tables of their own.
        shown = self._secrets.hide_in(asdict(replace(result, deliverables=(), cursor=None)))
        whole = _json(shown)
        database.execute(
            "UPDATE sessions SET ended_at=?, outcome=?, summary=?, result=? WHERE id=?",
            (result.ended_at, result.outcome, shown["summary"], whole, self.session),
        )

    def append(self, event: Recordable, state: SessionState | None = None) -> Future[None]:
        """Keep *event* behind all others, and how the session stands since then."""
        return self._file.write(self._appending(event, state))

    def _appending(
        self, event: Recordable, state: SessionState | None
    ) -> Callable[[sqlite3.Connection], None]:
        value = _json(self._secrets.hide_in(event.value))
        key = event.key.encode("utf-8", "backslashreplace").decode()  # an agent may have chosen it
        row = (self.session, event.at, event.kind, key, value)
        stands = state and json.dumps(self._secrets.hide_in(asdict(state)))

        def work(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO events (session, number, at, kind, key, value)"
                f" SELECT ?1, {_NEXT}, ?2, ?3, ?4, ?5 WHERE {_ONCE.get(event.kind, 'true')}",
                row,
            )
            if stands:
                database.execute("UPDATE sessions SET state=? WHERE id=?", (stands, self.session))

        return work

    async def events(self, after: int, most: int = 1000) -> list[StoredEvent]:
        """What was recorded behind number *after*, in order."""
        return await self._file.read(rows.events, self.session, after, most)

    async def open_requests(self) -> list[StoredEvent]:
        """The requests that were recorded and not decided, in order."""
        return await self._file.read(rows.open_requests, self.session)

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep *value* under (*kind*, *key*); the same key again replaces it."""
        text = _json(self._secrets.hide_in(value))
        await self._file.write(
            lambda database: database.execute(
                "INSERT OR REPLACE INTO notes (session, kind, key, value, at) VALUES (?,?,?,?,?)",
                (self.session, kind, key, text, time.time()),
            )
        )

    async def noted(self, kind: str) -> Any:
        """The value that was last kept of that kind; None without one."""
        found = await self._file.read(rows.notes, self.session, kind)
        return found[-1].value if found else None


def _json(value: Any) -> str:
    """*value* as SQLite reads it, too."""
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except ValueError:  # what an agent wrote may hold NaN
        return json.dumps(finite(value), default=str)


def happened(cursor: Cursor) -> float:
    """When the lines in front of *cursor* were written, as far as their file can tell."""
    now, changed = time.time(), cursor.mtime_ns / 1e9
    return changed if 0 < changed < now - _FRESH else now


def _advance(database: sqlite3.Connection, session: str, cursor: Cursor, digests: bytes) -> None:
    database.execute(
        "DELETE FROM digests WHERE session=? AND generation<>?", (session, cursor.generation)
    )
    if digests:
        database.execute(
            "INSERT INTO digests (session, generation, digests) VALUES (?,?,?)",
            (session, cursor.generation, digests),
        )
    database.execute(
        "INSERT OR REPLACE INTO cursors (session, file, cursor) VALUES (?,?,?)",
        (session, "optio.log", cursor.to_json()),
    )
