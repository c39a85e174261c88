"""One session in the journal: the durable `Journal`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from optio_agents import store_rows

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from optio_agents.following.cursor import Cursor
    from optio_agents.protocol.secrets import Secrets
    from optio_agents.session.journal import Delivery, Entry, Resumed
    from optio_agents.session.result import SessionResult
    from optio_agents.store_file import StoreFile

_BY_KEY = "session=? AND file=? AND generation=? AND offset=?"


class SessionJournal:
    """The durable `Journal` of one session. Values of *secrets* never reach the disk."""

    def __init__(self, file: StoreFile, session: str, secrets: Secrets) -> None:
        self.session = session
        self._file, self._secrets = file, secrets

    async def start(self) -> Resumed:
        return await self._file.read(lambda database: store_rows.resumed(database, self.session))

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
