"""Reading the journal's tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from optio_agents.following.cursor import Cursor
from optio_agents.session.journal import ENDINGS, LAST_LINES, Delivery, Entry, Resumed
from optio_agents.store_values import Note, StoredEvent, StoredSession

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

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
