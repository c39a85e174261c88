"""One session in the journal: the durable `Journal`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from optio_agents.framing.cursor import Cursor

from .records import ENDINGS, LAST_LINES, Delivery, Entry, Note, Resumed, StoredEvent, StoredSession

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from optio_agents.display import Secrets

    from .records import Delivery, Entry, Resumed, SessionResult
    from .sqlite import StoreFile


# Reading the journal's tables.


_ENTRY = "e.file, e.generation, e.offset, e.line, e.kind, e.repeated"


def sessions(database: sqlite3.Connection) -> list[StoredSession]:
    """All, the oldest first."""
    rows = database.execute(
        "SELECT id, created_at, host, taskdir, facts, ended_at, outcome, summary, result"
        " FROM sessions ORDER BY created_at, id"
    )
    return [_session(row) for row in rows]


def _session(row: tuple[Any, ...]) -> StoredSession:
    id_, created_at, host, taskdir, facts, ended_at, outcome, summary, result = row
    known = json.loads(result) if result else None
    return StoredSession(
        id_, created_at, host, taskdir, json.loads(facts), ended_at, outcome, summary, known
    )


def events(database: sqlite3.Connection, session: str, after: int, most: int) -> list[StoredEvent]:
    """At most so many lines behind number *after*."""
    rows = database.execute(
        f"SELECT number, at, done, {_ENTRY} FROM events e"
        " WHERE session=? AND number>? ORDER BY number LIMIT ?",
        (session, after, most),
    )
    return [StoredEvent(number, at, _entry(row), bool(done)) for number, at, done, *row in rows]


def deliveries(database: sqlite3.Connection, session: str) -> list[Delivery]:
    """The last row of each announcement, in order."""
    rows = database.execute(
        f"SELECT d.path, d.size, d.sha256, d.reply, d.taken, d.saved, {_ENTRY}"
        " FROM deliveries d JOIN events e ON e.number=d.event WHERE d.session=? ORDER BY d.event",
        (session,),
    )
    return [
        Delivery(_entry(row), path, size, sha256, reply, None if taken is None else bool(taken), at)
        for path, size, sha256, reply, taken, at, *row in rows
    ]


def notes(database: sqlite3.Connection, session: str, kind: str, after: int) -> list[Note]:
    """Those of a kind with a number above *after*, in order."""
    rows = database.execute(
        "SELECT number, key, value, at FROM notes WHERE session=? AND kind=? AND number>?"
        " ORDER BY number",
        (session, kind, after),
    )
    return [Note(kind, key, json.loads(value), at, number) for number, key, value, at in rows]


def resumed(database: sqlite3.Connection, session: str) -> Resumed:
    """What an earlier supervisor left."""

    def entries(rest: str, *more: object) -> list[Entry]:
        select = f"SELECT {_ENTRY} FROM events e WHERE session=? {rest}"
        return [_entry(row) for row in database.execute(select, (session, *more))]

    cursor = database.execute("SELECT cursor FROM cursors WHERE session=?", (session,)).fetchone()
    digests = database.execute(
        "SELECT digests FROM digests WHERE session=? ORDER BY number", (session,)
    )
    (statuses,) = database.execute(
        "SELECT count(*) FROM events WHERE session=? AND kind='status'", (session,)
    ).fetchone()
    replies = database.execute(
        f"SELECT r.reply, {_ENTRY} FROM replies r JOIN events e ON e.number=r.event"
        " WHERE e.session=? AND NOT e.done ORDER BY e.number",
        (session,),
    )
    endings = entries("AND kind IN (?,?) ORDER BY number LIMIT 1", *ENDINGS)
    last = entries("ORDER BY number DESC LIMIT ?", LAST_LINES)
    return Resumed(
        cursor=Cursor.from_json(cursor[0]) if cursor else None,
        digests=b"".join(row[0] for row in digests),
        pending=tuple(entries("AND NOT done ORDER BY number")),
        ending=endings[0] if endings else None,
        deliveries=tuple(deliveries(database, session)),
        replies=tuple((_entry(row), reply) for reply, *row in replies),
        statuses=statuses,
        last_lines=tuple(entry.line for entry in reversed(last)),
    )


def _entry(row: Sequence[Any]) -> Entry:
    file, generation, offset, line, kind, repeated = row
    return Entry(file, generation, offset, line, kind, bool(repeated))


_BY_KEY = "session=? AND file=? AND generation=? AND offset=?"


class SessionJournal:
    """The durable `Journal` of one session. Values of *secrets* never reach the disk."""

    def __init__(self, file: StoreFile, session: str, secrets: Secrets) -> None:
        self.session = session
        self._file, self._secrets = file, secrets

    async def start(self) -> Resumed:
        return await self._file.read(lambda database: resumed(database, self.session))

    async def record(self, entries: Sequence[Entry], cursor: Cursor, digests: bytes) -> None:
        now, hide = time.time(), self._secrets.hide
        rows = [(self.session, *e.key, e.kind, hide(e.line), e.repeated, now) for e in entries]

        def work(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT OR IGNORE INTO events"
                " (session, file, generation, offset, kind, line, repeated, at)"
                " VALUES (?,?,?,?,?,?,?,?)",
                rows,
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
        row = (self._secrets.hide(delivery.path), delivery.size, delivery.sha256, reply)
        await self._file.write(
            lambda database: database.execute(
                "INSERT OR REPLACE INTO deliveries"
                " (event, session, path, size, sha256, reply, taken, saved)"
                f" SELECT number, session, ?,?,?,?,?,? FROM events WHERE {_BY_KEY}",
                (*row, delivery.taken, delivery.saved, self.session, *delivery.entry.key),
            )
        )

    async def decide(self, entry: Entry, reply: str) -> None:
        kept = self._secrets.hide(reply)
        await self._file.write(
            lambda database: database.execute(
                "INSERT OR IGNORE INTO replies (event, reply)"
                f" SELECT number, ? FROM events WHERE {_BY_KEY}",
                (kept, self.session, *entry.key),
            )
        )

    async def end(self, result: SessionResult) -> None:
        # Deliverables and lines stand in tables of their own.
        shown = self._secrets.hide_in(asdict(replace(result, deliverables=(), cursor=None)))
        whole = json.dumps(shown, default=str)
        row = (result.ended_at, result.outcome, shown["summary"], whole, self.session)
        await self._file.write(
            lambda database: database.execute(
                "UPDATE sessions SET ended_at=?, outcome=?, summary=?, result=? WHERE id=?", row
            )
        )

    async def note(self, kind: str, key: str, value: Any) -> None:
        """Keep *value* under (*kind*, *key*); the same key again replaces it."""
        text = json.dumps(self._secrets.hide_in(value))
        await self._file.write(
            lambda database: database.execute(
                "INSERT INTO notes (session, kind, key, value, at) VALUES (?,?,?,?,?)"
                " ON CONFLICT (session, kind, key) DO UPDATE SET value=excluded.value,"
                " at=excluded.at",
                (self.session, kind, key, text, time.time()),
            )
        )


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
